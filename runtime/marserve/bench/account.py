"""What the server itself says about a stretch of time: its metrics before and after. Pure.

The server counts from the last byte of a request to its answer; what a client waits beyond that
is the wire: the network, the sockets' queues, and reading and writing on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass

from prometheus_client.parser import text_string_to_metric_families

_Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Account:
    """Totals of one model, since the server started or between two moments."""

    answers: float = 0.0
    """Answered inference requests, whatever the status."""
    latency_s: float = 0.0
    """Their times, summed, from the last byte of the request to the answer."""
    waits: float = 0.0
    """Requests that went to a worker."""
    queue_s: float = 0.0
    """Their waits for it, summed."""
    batches: float = 0.0
    rows: float = 0.0
    """Requests in batches: in continuous batching a request is in many."""
    handler_s: float = 0.0
    """Time in the handler, summed over batches."""
    held_s: float = 0.0
    """For how long batches were held back to fill while a worker was free, summed over batches."""
    cpu_s: float = 0.0
    """CPU time of the server's process, workers left out."""

    def since(self, before: Account) -> Account:
        """What happened between `before` and now; nothing, if the server was started anew."""
        pairs = zip(astuple(self), astuple(before), strict=True)
        differences = [now - then for now, then in pairs]
        return Account() if min(differences) < 0 else Account(*differences)

    @property
    def batch_size(self) -> float:
        """The mean number of requests per batch; 0 without batches."""
        return self.rows / self.batches if self.batches else 0.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Where the mean latency went, in seconds per answer."""

    held_back_s: float
    """Before it was sent: with a fixed rate, all connections were busy."""
    wire_s: float
    queue_s: float
    """Until a worker was free."""
    linger_s: float
    """For company, with a worker free; what arrives while a batch lingers waits less than this."""
    batch_s: float
    """In the server but neither waiting nor in the handler: to the worker and back."""
    handler_s: float

    def parts(self) -> dict[str, float]:
        """By name, in the order of the journey; two of the waits only if there were any."""
        held_back = {"connection": self.held_back_s} if self.held_back_s else {}
        linger = {"linger": self.linger_s} if self.linger_s else {}
        start = held_back | {"wire": self.wire_s, "queue": self.queue_s}
        return start | linger | {"batch": self.batch_s, "handler": self.handler_s}


def read(text: str, model: str, version: str | None) -> Account | None:
    """The totals of a model in the text of a metrics port; None if it does not tell them.

    Args:
        text: in Prometheus's format.
        model: its name.
        version: the version that requests name; None: they name none, and any may serve them.
    """
    sums: dict[str, float] = {}
    is_own = False
    try:
        for family in text_string_to_metric_families(text):
            is_own = is_own or family.name == "marserve_batch_size"
            wanted = _WANTED.get(family.name)
            if wanted is None:
                continue
            matches, fields = wanted
            for sample in family.samples:
                field = fields.get(sample.name)
                if field is not None and matches(sample.labels, model, version):
                    sums[field] = sums.get(field, 0.0) + sample.value
    except ValueError:  # no such text
        return None
    return Account(**sums) if is_own else None


def spent(between: Account, mean_s: float, held_back_s: float) -> Spent | None:
    """Where a mean latency of `mean_s` went; None if the server answered nothing.

    Args:
        between: what the server tells of the same stretch.
        mean_s: per answer of any status, as measured by the client, from the planned moment.
        held_back_s: the part of it that passed before the request was sent.
    """
    if not between.answers:
        return None
    outside = max(0.0, mean_s - held_back_s)
    server_s = min(outside, between.latency_s / between.answers)
    waited_s = min(server_s, between.queue_s / between.waits if between.waits else 0.0)
    linger_s = min(waited_s, between.held_s / between.batches if between.batches else 0.0)
    # a request is in its handler as long as its batch is, and as often as it is in a batch
    handler_s = between.handler_s * between.batch_size / between.answers
    handler_s = min(server_s - waited_s, handler_s)
    return Spent(
        held_back_s=held_back_s,
        wire_s=outside - server_s,
        queue_s=waited_s - linger_s,
        linger_s=linger_s,
        batch_s=server_s - waited_s - handler_s,
        handler_s=handler_s,
    )


def _by_requested(labels: _Labels, model: str, version: str | None) -> bool:
    return labels["model_name"] == model and labels["model_version"] == (version or "default")


def _by_served(labels: _Labels, model: str, version: str | None) -> bool:
    return labels["model_name"] == model and version in (None, labels["model_version"])


def _always(labels: _Labels, model: str, version: str | None) -> bool:
    return True


def _histogram(name: str, count: str, total: str) -> dict[str, str]:
    return {f"{name}_count": count, f"{name}_sum": total}


_Rule = Callable[[_Labels, str, str | None], bool]
_WANTED: Mapping[str, tuple[_Rule, Mapping[str, str]]] = {
    "marserve_request_latency_seconds": (
        _by_requested,
        _histogram("marserve_request_latency_seconds", "answers", "latency_s"),
    ),
    "marserve_queue_time_seconds": (
        _by_served,
        _histogram("marserve_queue_time_seconds", "waits", "queue_s"),
    ),
    "marserve_handler_time_seconds": (
        _by_served,
        {"marserve_handler_time_seconds_sum": "handler_s"},
    ),
    "marserve_batch_linger_seconds": (
        _by_served,
        {"marserve_batch_linger_seconds_sum": "held_s"},
    ),
    "marserve_batch_size": (_by_served, _histogram("marserve_batch_size", "batches", "rows")),
    "process_cpu_seconds": (_always, {"process_cpu_seconds_total": "cpu_s"}),
}
"""Family → which of its samples belong to the model, and what each of them adds to."""
