"""What becomes of requests and workers when something goes wrong, for Prometheus.

Every request that was received is answered, or its client has gone, or it is in flight: three
figures that are counted, and one that is what is left. Listens on the event loop's thread; a scrape
in another one copies.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import Sample
from prometheus_client.registry import Collector

from marserve.events import (
    Bus,
    RequestAbandoned,
    RequestConvicted,
    RequestsAnswered,
    RequestsReceived,
    RequestsRetried,
    StandingChanged,
    VersionGone,
    WorkerExited,
)
from marserve.observe.exposition import family
from marserve.observe.figures import Counter, Labels
from marserve.refs import ModelRef
from marserve.request import Job

_SOUND = "sound"


class _Version:
    """What happened to one version."""

    def __init__(self, ref: ModelRef) -> None:
        self.labels: Labels = {"model_name": ref.name, "model_version": ref.version}
        self.retried = Counter()
        self.quarantined = Counter()
        self.convicted = Counter()
        self.ends: dict[str, Counter] = {}
        """By cause."""
        self.standing = _SOUND


class Survival(Collector):
    """Counts, and shows what it counted."""

    def __init__(self, bus: Bus) -> None:
        self._received = 0
        self._answered = 0
        self._abandoned = 0
        self._versions: dict[ModelRef, _Version] = {}
        bus.subscribe(RequestsReceived, self._on_received)
        bus.subscribe(RequestsAnswered, self._on_answered)
        bus.subscribe(RequestAbandoned, self._on_abandoned)
        bus.subscribe(RequestsRetried, self._on_retried)
        bus.subscribe(RequestConvicted, self._on_convicted)
        bus.subscribe(WorkerExited, self._on_exited)
        bus.subscribe(StandingChanged, self._on_standing)
        bus.subscribe(VersionGone, self._on_gone)

    # --- runs on the event loop ---

    def _on_received(self, event: RequestsReceived) -> None:
        self._received += event.count

    def _on_answered(self, event: RequestsAnswered) -> None:
        self._answered += len(event.requests)

    def _on_abandoned(self, _event: RequestAbandoned) -> None:
        self._abandoned += 1

    def _on_retried(self, event: RequestsRetried) -> None:
        version = self._version(event.ref)
        version.retried.add(event.count)
        version.quarantined.add(event.quarantined)

    def _on_convicted(self, event: RequestConvicted) -> None:
        self._version(event.ref).convicted.add()

    def _on_exited(self, event: WorkerExited) -> None:
        self._version(event.ref).ends.setdefault(event.kind, Counter()).add()

    def _on_standing(self, event: StandingChanged) -> None:
        self._version(event.ref).standing = event.standing

    def _on_gone(self, event: VersionGone) -> None:
        self._versions.pop(event.ref, None)

    def _version(self, ref: ModelRef) -> _Version:
        version = self._versions.get(ref)
        if version is None:
            version = self._versions[ref] = _Version(ref)
        return version

    # --- runs in the thread that scrapes ---

    def collect(self) -> Iterator[Metric]:
        """All families; each is a copy of its figures at one moment."""
        abandoned, answered = self._abandoned, self._answered
        received = self._received  # last: what has an end has a beginning
        yield _one("requests_received_total", "counter", "Inference requests.", received)
        yield _one(
            "requests_abandoned_total",
            "counter",
            "Requests whose client hung up before their answer.",
            abandoned,
        )
        yield _one(
            "requests_in_flight",
            "gauge",
            "Requests that were received, not answered, and not abandoned.",
            received - answered - abandoned,
        )
        yield _one(
            "late_answers_total",
            "counter",
            "Answers of workers that nobody waited for any more.",
            Job.late_answers,
        )
        yield from self._version_families(list(self._versions.copy().values()))

    def _version_families(self, versions: list[_Version]) -> Iterator[Metric]:
        yield _rows(
            "requests_retried_total",
            "Requests that were given to another worker, as theirs had died.",
            [(one.labels, one.retried.value) for one in versions],
        )
        yield _rows(
            "requests_quarantined_total",
            "Requests that had to run alone, as they may have killed their worker.",
            [(one.labels, one.quarantined.value) for one in versions],
        )
        yield _rows(
            "requests_convicted_total",
            "Requests that killed their worker where they were alone with it.",
            [(one.labels, one.convicted.value) for one in versions],
        )
        yield _rows(
            "worker_ends_total",
            "Workers that ended, by cause.",
            [
                ({**one.labels, "cause": cause}, counter.value)
                for one in versions
                for cause, counter in one.ends.copy().items()
            ],
        )
        yield _rows(
            "version_failing",
            "1 while workers keep dying (crash_loop) or cannot load (load_failed).",
            [
                ({**one.labels, "standing": standing}, float(one.standing == standing))
                for one in versions
                for standing in ("crash_loop", "load_failed")
            ],
            "gauge",
        )


def _one(name: str, kind: str, documentation: str, value: float) -> Metric:
    return _rows(name, documentation, [({}, float(value))], kind)


def _rows(
    name: str, documentation: str, rows: list[tuple[Labels, float]], kind: str = "counter"
) -> Metric:
    full = f"marserve_{name}"
    return family(full, kind, documentation, (Sample(full, *row) for row in rows))
