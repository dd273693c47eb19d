"""What a load asks for: kinds of requests, each as often as its weight says; a seed orders them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaos.ledger import id_text


@dataclass(frozen=True, slots=True)
class Ask:
    """One kind of request."""

    kind: str
    command: str = ""
    """What the echo handler is told to do: see tests/fixtures/handlers/chaos_echo.py."""
    ballast_bytes: int = 0
    may_retry: bool = True
    """False: it says `x-no-retry: 1`."""
    weight: int = 1
    timeout_ms: int | None = None
    """What the client gives it (`x-request-timeout-ms`, `grpc-timeout`); None: no limit."""
    as_id: int | None = None
    """Says that it is this request: the same bytes again. None: it is itself."""

    def body(self, id_: int) -> bytes:
        id_ = id_ if self.as_id is None else self.as_id
        line = f"{id_text(id_)} {self.command}" if self.command else id_text(id_)
        return line.encode() + (b"\n" + b"y" * self.ballast_bytes if self.ballast_bytes else b"")


PLAIN = Ask("plain")
_CYCLE = 1009


def cycle(asks: Sequence[Ask], seed: int) -> Iterator[Ask]:
    """The asks for ever, each as often as its weight says."""
    rng = random.Random(seed)
    drawn = rng.choices(asks, weights=[ask.weight for ask in asks], k=_CYCLE)
    while True:
        yield from drawn
