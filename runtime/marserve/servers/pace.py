"""Whether a client takes too long over a request that it sends. Pure: the time is an argument."""

from __future__ import annotations

from enum import Enum, auto

from marserve.servers.exchange import Timeouts
from marserve.servers.request_reader import RequestReader


class Verdict(Enum):
    """What is to be done about a client."""

    WAIT = auto()
    REFUSE = auto()
    """Say 408: it had begun to send a body."""
    CLOSE = auto()
    """There is nothing to answer."""


class Pace:
    """Of one connection; asked about once a second."""

    __slots__ = ("_body_of", "_from")

    def __init__(self) -> None:
        self._body_of = -1.0
        """Which body is being timed, by when its request began."""
        self._from = 0.0

    def restart(self) -> None:
        """The client was not read from; what it could not send is not held against it."""
        self._body_of = -1.0

    def verdict(
        self, reader: RequestReader, read_at: float, now: float, timeouts: Timeouts
    ) -> Verdict:
        """About what is coming in, of which something came at `read_at` last."""
        if reader.is_over:
            return Verdict.WAIT
        if reader.is_in_head:
            late = now - reader.since > timeouts.head_s
        elif reader.is_in_body:
            is_slow = self._is_slow(reader, now, timeouts) or now - read_at > timeouts.body_s
            return Verdict.REFUSE if is_slow else Verdict.WAIT
        else:
            late = now - read_at > timeouts.idle_s
        return Verdict.CLOSE if late else Verdict.WAIT

    def _is_slow(self, reader: RequestReader, now: float, timeouts: Timeouts) -> bool:
        """Whether a body comes more slowly than anybody means to send one."""
        if self._body_of != reader.since:
            self._body_of, self._from = reader.since, now
        age_s = now - self._from
        expected_bytes = (age_s - timeouts.body_grace_s) * timeouts.body_bytes_per_s
        most_s = max(timeouts.whole_body_s, reader.max_body_bytes / timeouts.large_body_bytes_per_s)
        return reader.body_bytes < expected_bytes or age_s > most_s
