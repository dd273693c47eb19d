"""What happened, as frozen facts, and the bus that tells those who listen.

The bus is plain and synchronous: `publish` calls each subscriber of that event type in the order
of subscription, on the event loop's thread. Publishers do not know who listens, and a subscriber
that raises harms nobody but itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from marserve.refs import ModelRef

_log = logging.getLogger("marserve.events")


class Event(msgspec.Struct, frozen=True, gc=False):
    """The base of all events."""


class Origin(msgspec.Struct):
    """Where requests come from: one object for all that a connection sends to one target."""

    method: str
    path: str
    client: str
    line: str = ""
    """What the access log says of it, once it has been found out."""


class RequestAnswered(msgspec.Struct, frozen=True, gc=False):
    """An inference request got its one answer."""

    name: str
    version: str | None
    """None when the client did not name a version (it was served by the default one)."""
    status: int
    latency_s: float
    """From the last byte of the request to the answer being handed to the socket."""
    origin: Origin


class RequestsAnswered(Event, frozen=True, gc=False):
    """All that were answered in one turn of the loop: observing many costs little more than one."""

    requests: list[RequestAnswered]


class BatchAnswered(Event, frozen=True, gc=False):
    """A worker answered a batch."""

    ref: ModelRef
    size: int
    queue_s: tuple[float, ...]
    """Per request: from admission to dispatch."""
    handler_s: float
    """Wall time inside the handler, measured by the worker."""
    worker_s: float
    """From dispatch to answer, seen by the server; the rest over `handler_s` is transport."""
    request_ids: tuple[str, ...] = ()
    """In the order of `queue_s`; for the metrics log."""


class BatchFormed(Event, frozen=True, gc=False):
    """A batch left the queue for a worker."""

    ref: ModelRef
    size: int
    held_s: float
    """For how long it was held back, while a worker was free, to fill."""
    learned: tuple[float, float, int]
    """What a batch takes however small it is, what each request adds (both in seconds, 0 while
    nothing is known), and how many requests may go together now."""


class RequestsDropped(Event, frozen=True, gc=False):
    """Requests that waited were answered with an error, as they would have come too late."""

    ref: ModelRef
    count: int
    reason: str


class BatchLate(Event, frozen=True, gc=False):
    """A worker did not answer a batch within its response timeout; it is being killed."""

    ref: ModelRef
    worker: str
    size: int


class HandlerMetric(Event, frozen=True, gc=False):
    """A handler reported a figure of its own (TorchServe's `context.metrics`)."""

    ref: ModelRef
    name: str
    value: float
    unit: str
    """ms, s, percent, count, MB, kB, GB, B, or whatever the handler said."""
    kind: str
    """counter, gauge or histogram."""
    dimensions: dict[str, str]
    request_ids: tuple[str, ...] = ()
    """The requests that the figure belongs to; none while the model loads."""


class HttpAnswered(Event, frozen=True, gc=False):
    """An HTTP answer left one of the ports (any route, any outcome)."""

    port: str
    """inference, management or metrics."""
    method: str
    path: str
    client: str
    status: int
    duration_s: float


class GrpcAnswered(Event, frozen=True, gc=False):
    """A gRPC call ended (any service, any outcome).

    A prediction has its `RequestAnswered` besides, with the same origin.
    """

    origin: Origin
    """Its method is "gRPC", its path `package.Service/Method`."""
    code: int
    """gRPC's number for the outcome."""
    duration_s: float


class GrpcCallsAnswered(Event, frozen=True, gc=False):
    """All gRPC calls of one port that ended in one turn of the loop."""

    calls: list[GrpcAnswered]


class RequestRefused(Event, frozen=True, gc=False):
    """A request was refused before it queued; `reason` is the error kind in lower case."""

    name: str
    reason: str


class RequestAbandoned(Event, frozen=True, gc=False):
    """The client went away before its answer came."""

    name: str
    request_id: str


class WorkerStarted(Event, frozen=True, gc=False):
    """A worker is being started: the first event of each of its lives."""

    ref: ModelRef
    worker: str


class WorkerReady(Event, frozen=True, gc=False):
    """A worker has loaded its model."""

    ref: ModelRef
    worker: str
    pid: int
    load_s: float


class WorkerExited(Event, frozen=True, gc=False):
    """A worker process ended, wanted or not."""

    ref: ModelRef
    worker: str
    pid: int
    expected: bool
    cause: str
    retry_s: float | None = None
    """How long until its next life begins; None: it has none."""
    kind: str = "killed"
    """The cause in one word (`workers/causes.py`)."""


class StandingChanged(Event, frozen=True, gc=False):
    """A version's workers keep dying or cannot load, or that is over."""

    ref: ModelRef
    standing: str
    """sound, crash_loop or load_failed."""
    cause: str | None
    """What the last one died of."""


class RequestsRetried(Event, frozen=True, gc=False):
    """Requests whose worker died wait for another one."""

    ref: ModelRef
    count: int
    quarantined: int
    """So many of them are to run alone."""


class RequestConvicted(Event, frozen=True, gc=False):
    """A request ended its worker even where it was alone with it."""

    ref: ModelRef
    request_id: str
    incident: str
    """What client and log know it by."""
    attempts: int
    cause: str


class RequestsReceived(Event, frozen=True, gc=False):
    """So many inference requests came in one turn of the loop, refused ones included."""

    count: int


class WorkersChanged(Event, frozen=True, gc=False):
    """The number of workers of a version changed."""

    ref: ModelRef
    wanted: int
    alive: int
    ready: int


class QueueChanged(Event, frozen=True, gc=False):
    """How many requests of a version wait. Published when a batch leaves, not per request."""

    ref: ModelRef
    depth: int


class VersionGone(Event, frozen=True, gc=False):
    """A version was unregistered; its series may be dropped."""

    ref: ModelRef


E = TypeVar("E", bound=Event)


class Bus:
    """Subscribers by event type. Owned by the composition root."""

    def __init__(self) -> None:
        self._subscribers: dict[type[Event], list[Callable[[Any], None]]] = {}

    def subscribe(self, event_type: type[E], subscriber: Callable[[E], None]) -> None:
        """Call `subscriber` with each event of exactly this type."""
        self._subscribers.setdefault(event_type, []).append(subscriber)

    def publish(self, event: Event) -> None:
        """Tell all who listen."""
        for subscriber in self._subscribers.get(type(event), ()):
            try:
                subscriber(event)
            except Exception:  # noqa: BLE001  an observer harms nobody but itself
                _log.exception("a subscriber of %s failed", type(event).__name__)
