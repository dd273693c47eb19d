"""What the server counted, from its metrics: answers by status, requests that wait. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

_LABELS = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one model, at one moment."""

    answered: Mapping[int, int]
    """By status, HTTP and gRPC together; a gRPC failure counts as its HTTP status."""
    waiting: int
    restarts: int
    in_flight: int = 0
    """Of all models: received, and neither answered nor abandoned."""
    unaccounted: int = 0
    """Of all models: received, less what was answered, abandoned and is in flight."""

    def since(self, before: Counters) -> Counters:
        """What was counted between two moments."""
        answered = {
            status: count - before.answered.get(status, 0)
            for status, count in self.answered.items()
            if count != before.answered.get(status, 0)
        }
        restarts = self.restarts - before.restarts
        return replace(self, answered=answered, restarts=restarts)


def of_model(samples: Mapping[str, float], model: str) -> Counters:
    """From the samples of the metrics port, by name and labels."""
    answered: dict[int, int] = {}
    waiting = restarts = all_answered = 0
    for name, value in samples.items():
        family, _, rest = name.partition("{")
        labels = dict(_LABELS.findall(rest))
        all_answered += int(value) if family == "marserve_requests_total" else 0
        if labels.get("model_name") != model:
            continue
        if family == "marserve_requests_total":
            status = int(labels["code"])
            answered[status] = answered.get(status, 0) + int(value)
        elif family == "marserve_queue_depth":
            waiting += int(value)
        elif family == "marserve_worker_restarts_total":
            restarts += int(value)
    received, abandoned, in_flight = (
        int(samples.get(f"marserve_requests_{name}", 0.0))
        for name in ("received_total", "abandoned_total", "in_flight")
    )
    unaccounted = received - all_answered - abandoned - in_flight
    return Counters(answered, waiting, restarts, in_flight, unaccounted)
