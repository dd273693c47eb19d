"""Plain figures: what an observation on the hot path touches, and nothing more.

No locks: one thread (the event loop's) writes, any thread may read. Each write is one assignment
or one list item, each copy one C call, so a reader sees whole numbers; a histogram's sum may be
ahead of its counts by the observation that is under way.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from itertools import accumulate

from prometheus_client.core import Sample

from marserve.observe.metric_specs import BOUNDS
from marserve.refs import ModelRef

Labels = dict[str, str]

MAX_VALUE_CHARS = 256
LATENCY_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)
LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LINGER_S = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.1)
FILL = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
BATCH_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)

_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_]")


class Counter:
    """A number that grows, or one that is set."""

    __slots__ = ("value",)

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def add(self, amount: float = 1.0) -> None:
        """Grow by `amount`."""
        self.value += amount


class Histogram:
    """How many observations fell under each bound. `bounds` ascend; the last is open."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation; a value equal to a bound falls under it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def samples(self, name: str, labels: Labels) -> Iterator[Sample]:
        """What a scrape shows of the family `name`: buckets with `+Inf` last, count and sum."""
        count = 0
        for edge, count in zip(_edges(self.bounds), accumulate(self.counts.copy()), strict=True):
            yield Sample(f"{name}_bucket", {**labels, "le": edge}, count)
        yield Sample(f"{name}_count", labels, count)
        yield Sample(f"{name}_sum", labels, self.total)


class RequestFigures:
    """The requests for one model by one version name, `default` when the client gave none."""

    __slots__ = ("by_status", "labels", "latency")

    def __init__(self, name: str, version: str) -> None:
        self.labels = {"model_name": legal_value(name), "model_version": legal_value(version)}
        self.latency = Histogram(LATENCY_S)
        self.by_status: dict[int, Counter] = {}

    def add(self, status: int, latency_s: float) -> None:
        """Count one answer."""
        latency = self.latency  # `observe` in place: this is the one that counts every request
        latency.counts[bisect_left(LATENCY_S, latency_s)] += 1
        latency.total += latency_s
        counter = self.by_status.get(status)
        if counter is None:
            counter = self.by_status[status] = Counter()
        counter.value += 1.0


class VersionFigures:
    """The batches and workers of one version."""

    __slots__ = (
        *("batch_size", "depth", "dropped", "fill", "handler", "labels", "learned", "linger"),
        *("queue", "restarts", "workers"),
    )

    def __init__(self, ref: ModelRef) -> None:
        self.labels = {"model_name": ref.name, "model_version": ref.version}
        self.queue = Histogram(LATENCY_S)
        self.handler = Histogram(LATENCY_S)
        self.batch_size = Histogram(BATCH_SIZES)
        self.linger = Histogram(LINGER_S)
        self.fill = Histogram(FILL)
        self.dropped: dict[str, Counter] = {}
        """By reason."""
        self.learned: tuple[float, float, int] | None = None
        """Fixed seconds, seconds per request, cap; None: there was no batch yet."""
        self.restarts = Counter()
        self.depth = Counter()
        self.workers: tuple[int, int, int] = (0, 0, 0)
        """wanted, alive, ready"""


class CallFigures:
    """The gRPC calls of one method."""

    __slots__ = ("by_code", "duration", "labels")

    def __init__(self, path: str) -> None:
        self.labels = {"method": legal_value(path)}
        self.duration = Histogram(LATENCY_S)
        self.by_code: dict[int, Counter] = {}

    def add(self, code: int, duration_s: float) -> None:
        """Count one call."""
        self.duration.observe(duration_s)
        counter = self.by_code.get(code)
        if counter is None:
            counter = self.by_code[code] = Counter()
        counter.add()


class HostFigures:
    """What TorchServe tells of the server as a whole, and of the latest batch."""

    __slots__ = (
        "answers",
        "lag",
        "load_ms",
        "overhead_ms",
        "overheads_ms",
        "queue_ms",
        "queues_ms",
        "refused",
    )

    def __init__(self) -> None:
        self.answers = {2: Counter(), 4: Counter(), 5: Counter()}
        self.refused: dict[str, Counter] = {}
        self.queue_ms: float | None = None
        self.queues_ms = Histogram(BOUNDS)
        self.overhead_ms: float | None = None
        self.overheads_ms = Histogram(BOUNDS)
        self.lag = Histogram(LAG_S)
        """Of the event loop, in seconds."""
        self.load_ms: dict[tuple[ModelRef, str], float] = {}
        """By version and worker."""

    def count_answer(self, status: int) -> None:
        """TorchServe's three classes: all that is neither 2xx nor 4xx counts as 5xx."""
        self.answers.get(status // 100, self.answers[5]).value += 1.0

    def add_batch(self, queue_ms: float, overhead_ms: float) -> None:
        """Note what a batch cost besides its handler."""
        self.queue_ms = queue_ms
        self.queues_ms.observe(queue_ms)
        self.overhead_ms = overhead_ms
        self.overheads_ms.observe(overhead_ms)


def legal_name(text: str) -> str:
    """`text` as a metric or label name: foreign characters become `_`, `__` in front goes."""
    name = _NOT_IN_NAME.sub("_", text[:MAX_VALUE_CHARS])
    if name.startswith("__"):
        name = "_" + name.lstrip("_")
    return name if name and not name[0].isdigit() else f"_{name}"


def legal_value(text: str) -> str:
    """`text` as a label value: of bounded length, and of characters that UTF-8 can hold."""
    return text[:MAX_VALUE_CHARS].encode("utf-8", "backslashreplace").decode()


@cache
def _edges(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*(repr(float(bound)) for bound in bounds), "+Inf")
