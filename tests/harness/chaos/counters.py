"""What the server counted, from its metrics: answers by status, requests that wait. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LABELS = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one model, at one moment."""

    answered: Mapping[int, int]
    """By status, HTTP and gRPC together; a gRPC failure counts as its HTTP status."""
    waiting: int
    restarts: int

    def since(self, before: Counters) -> Counters:
        """What was counted between two moments."""
        answered = {
            status: count - before.answered.get(status, 0)
            for status, count in self.answered.items()
            if count != before.answered.get(status, 0)
        }
        return Counters(answered, self.waiting, self.restarts - before.restarts)


def of_model(samples: Mapping[str, float], model: str) -> Counters:
    """From the samples of the metrics port, by name and labels."""
    answered: dict[int, int] = {}
    waiting = restarts = 0
    for name, value in samples.items():
        family, _, rest = name.partition("{")
        labels = dict(_LABELS.findall(rest))
        if labels.get("model_name") != model:
            continue
        if family == "marserve_requests_total":
            status = int(labels["code"])
            answered[status] = answered.get(status, 0) + int(value)
        elif family == "marserve_queue_depth":
            waiting += int(value)
        elif family == "marserve_worker_restarts_total":
            restarts += int(value)
    return Counters(answered, waiting, restarts)
