"""What clients saw, one row per request in columns: a million requests take about 60 MB.

Owned by one process; clients write to it by the row's number, which is the request's id. Times are
seconds of the monotonic clock, which the journal of the handlers uses as well.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from typing import NamedTuple

OPEN = 0
"""No answer yet; at the end it means that none came."""
BROKEN = -1
"""The connection ended before the answer did."""
GONE = -2
"""The client hung up on purpose."""
GRPC = 1000
"""A gRPC call that failed has this plus its code; one that succeeded has 200."""
_PROOF_CHARS = 64
_MAX_STRAYS = 1000


class Row(NamedTuple):
    """One request."""

    id: int
    kind: str
    planned_s: float
    """When it should have been sent: latency counts from here."""
    sent_s: float
    first_s: float
    """When the first byte of the answer came; 0 where none did, and for gRPC."""
    last_s: float
    status: int
    digest: int
    """The first 64 bits of the proof in the answer; 0 where there is none."""
    pid: int
    """The worker that says it answered."""
    trailing_bytes: int
    """Bytes that came after the end of the answer, before another request was sent."""

    @property
    def latency_s(self) -> float:
        return self.last_s - self.planned_s


class Ledger:
    """Rows, and bytes that belong to nobody (`strays`)."""

    def __init__(self, nonce: str) -> None:
        self.nonce = nonce
        self.strays: list[bytes] = []
        self.strays_count = 0
        self.reasons: dict[str, int] = {}
        """Why connections broke."""
        self.errors: dict[int, bytes] = {}
        """The first bytes of the first refusal of each status."""
        self._kinds: list[str] = []
        self._kind = array("B")
        self._planned, self._sent = array("d"), array("d")
        self._first, self._last = array("d"), array("d")
        self._status = array("h")
        self._digest = array("Q")
        self._pid = array("L")
        self._trailing = array("L")
        self.open = 0
        """How many requests have no answer yet."""

    def __len__(self) -> int:
        return len(self._kind)

    # --- what clients tell ---

    def kind(self, name: str) -> int:
        """The number of a kind of request, which `plan` wants."""
        if name not in self._kinds:
            self._kinds.append(name)
        return self._kinds.index(name)

    def plan(self, kind: int, planned_s: float) -> int:
        """A new request; its id."""
        self._kind.append(kind)
        self._planned.append(planned_s)
        self._sent.append(0.0)
        self._first.append(0.0)
        self._last.append(0.0)
        self._status.append(OPEN)
        self._digest.append(0)
        self._pid.append(0)
        self._trailing.append(0)
        self.open += 1
        return len(self._kind) - 1

    def sent(self, id_: int, now: float) -> None:
        self._sent[id_] = now

    def answered(self, id_: int, status: int, body: bytes, first_s: float, now: float) -> None:
        """The one answer is complete. A second one is a stray, whatever it says."""
        if self._status[id_] != OPEN:
            self.stray(id_, body or b"an answer without a body")
            return
        self.open -= 1
        self._status[id_] = status
        self._first[id_] = first_s
        self._last[id_] = now
        if status == 200:
            self._digest[id_], self._pid[id_] = _proof(body)
        elif status not in self.errors:
            self.errors[status] = body[:400]

    def ended(self, id_: int, how: int, reason: str, now: float) -> None:
        """There will be no answer: BROKEN or GONE."""
        if self._status[id_] == OPEN:
            self.open -= 1
            self._status[id_] = how
            self._last[id_] = now
            self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def stray(self, id_: int, data: bytes) -> None:
        """Bytes came that no request was waiting for; `id_` had its answer last there."""
        self._trailing[id_] += len(data)
        self.strays_count += 1
        if len(self.strays) < _MAX_STRAYS:
            self.strays.append(data[:200])

    # --- what the checker asks ---

    def rows(self, start: int = 0) -> Iterator[Row]:
        kinds = self._kinds
        columns = (
            *(self._kind, self._planned, self._sent, self._first, self._last),
            *(self._status, self._digest, self._pid, self._trailing),
        )
        for id_ in range(start, len(self._kind)):
            kind, *rest = [column[id_] for column in columns]
            yield Row(id_, kinds[kind], *rest)

    def statuses(self) -> dict[int, int]:
        """How many requests ended with each status."""
        found: dict[int, int] = {}
        for status in self._status:
            found[status] = found.get(status, 0) + 1
        return found

    def pids(self, last: int = 200) -> set[int]:
        """The workers that answered lately."""
        return set(self._pid[-last:]) - {0}


def id_text(id_: int) -> str:
    """An id as it travels."""
    return f"{id_:09d}"


def proof(nonce: str, id_: int) -> int:
    """The digest that the answer to a request must have."""
    return int(hashlib.sha256(f"{nonce}{id_text(id_)}".encode()).hexdigest()[:16], 16)


def _proof(body: bytes) -> tuple[int, int]:
    """Digest and worker of an answer; zeros if it has none. Pieces of a stream come before it."""
    if len(body) > _PROOF_CHARS and body[1:2] == b";":
        body = body[body.rindex(b";") + 1 :]
    try:
        return int(body[:16], 16), int(body[_PROOF_CHARS + 1 :].split(b" ", 1)[0])
    except ValueError:
        return 0, 0
