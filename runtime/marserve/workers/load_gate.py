"""How many workers may load their models at the same time, on the whole machine.

After a mass death all would load at once, and each so slowly that none is soon there. Versions
take turns, however many workers each has. A turn ends when the model is loaded, or after a while:
who still loads then mostly waits for something other than a processor, and must not hold up the
rest.
"""

from __future__ import annotations

import asyncio
from collections import deque

from marserve.refs import ModelRef

_LONGEST_TURN_S = 10.0


class Turn:
    """One worker's leave to load. `granted` is done when it may begin."""

    def __init__(self, ref: ModelRef, granted: asyncio.Future[None]) -> None:
        self.ref = ref
        self.granted = granted
        self.timer: asyncio.TimerHandle | None = None
        self.is_over = False


class LoadGate:
    """Shared by all pools of a server. All methods run on the event loop."""

    def __init__(self, at_once: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._free = max(1, at_once)
        self._waiting: dict[ModelRef, deque[Turn]] = {}
        """By version, in the order in which the versions are served."""

    def ask(self, ref: ModelRef) -> Turn:
        """A turn for a worker of this version: at once, or when others are through."""
        turn = Turn(ref, self._loop.create_future())
        self._waiting.setdefault(ref, deque()).append(turn)
        self._grant()
        return turn

    def leave(self, turn: Turn) -> None:
        """The worker has loaded, has failed, or does not want its turn any more."""
        if turn.is_over:
            return
        turn.is_over = True
        if turn.timer is not None:
            turn.timer.cancel()
        if turn.granted.done():
            self._free += 1
            self._grant()
            return
        turn.granted.cancel()
        queue = self._waiting[turn.ref]
        queue.remove(turn)
        if not queue:
            del self._waiting[turn.ref]

    def _grant(self) -> None:
        while self._free > 0 and self._waiting:
            ref = next(iter(self._waiting))
            queue = self._waiting.pop(ref)
            turn = queue.popleft()
            if queue:
                self._waiting[ref] = queue  # behind the other versions
            self._free -= 1
            turn.granted.set_result(None)
            turn.timer = self._loop.call_later(_LONGEST_TURN_S, self.leave, turn)
