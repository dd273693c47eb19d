"""What became of the requests of one stretch of time. Pure: moments come in as arguments."""

from __future__ import annotations

import json
from dataclasses import dataclass

from marserve.bench.latencies import Latencies

MAX_KINDS = 50
"""Distinct failures that are kept apart."""

_LONGEST_MESSAGE = 300
_OTHERS = "others"


@dataclass(slots=True)
class Failure:
    """Requests that failed alike."""

    kind: str
    """The HTTP status, or what happened to the connection."""
    count: int
    message: str
    """What the first of them was answered; "" if nothing."""


class Tally:
    """Counts answers. Owned by one stretch: warm-up, window, or what comes after it."""

    def __init__(self) -> None:
        self.latencies = Latencies()
        """Of successes, from the moment a request was to be sent."""
        self.answers = 0
        """Of any status."""
        self.answers_s = 0.0
        """Their latencies, summed, from the planned moments."""
        self.held_back_s = 0.0
        """The part of it that passed before the requests were sent."""
        self.failures: dict[str, Failure] = {}

    @property
    def failed(self) -> int:
        """How many requests brought no success."""
        return sum(failure.count for failure in self.failures.values())

    def answered(
        self, status: int, body: bytes, planned_at: float, sent_at: float, now: float
    ) -> None:
        """An answer has come. `body` matters where the status is not 2xx."""
        latency_s = now - planned_at
        self.answers += 1
        self.answers_s += latency_s
        self.held_back_s += sent_at - planned_at
        if 200 <= status < 300:
            self.latencies.add(latency_s)
        else:
            kind = str(status)
            self.failure(kind, "" if kind in self.failures else sentence(body))

    def failure(self, kind: str, message: str) -> None:
        """No success: of which kind, and what was said about it."""
        if kind not in self.failures and len(self.failures) >= MAX_KINDS:
            kind, message = _OTHERS, ""
        known = self.failures.setdefault(kind, Failure(kind, 0, message))
        known.count += 1


def sentence(body: bytes) -> str:
    """What the body of a refusal says: its `message` or `error`, else its text; on one line."""
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        text = str(document.get("message") or document.get("error") or text)
    return " ".join(text.split())[:_LONGEST_MESSAGE]
