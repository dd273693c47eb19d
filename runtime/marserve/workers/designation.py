"""Which worker of a version runs the requests that may have killed others? Pure.

One at a time, so that suspects can take no more than one worker from everybody else. It keeps the
part while it lives, and while it comes back under its name. The last worker that serves is not
chosen while another is on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from marserve.workers.lifecycle import State


class Designation:
    """The designated worker of one version, if it needs one. Owned by its pool."""

    def __init__(self) -> None:
        self.worker: str | None = None

    def choose(self, states: Mapping[str, State], is_quiet: Callable[[str], bool]) -> str | None:
        """The worker that is to run suspects; None: there is none yet."""
        if self.worker is not None and states.get(self.worker) in (State.STARTING, State.READY):
            return self.worker
        ready = [name for name, state in states.items() if state is State.READY]
        starting = [name for name, state in states.items() if state is State.STARTING]
        if len(ready) == 1 and starting:
            return None
        ready.sort(key=is_quiet, reverse=True)
        self.worker = ready[0] if ready else None
        return self.worker

    def release(self) -> None:
        """No suspect is left."""
        self.worker = None
