"""An event loop whose clock jumps to the next timer: scenarios take no time and cannot race."""

import asyncio
import selectors
from types import SimpleNamespace


class _JumpingSelector(selectors.DefaultSelector):
    now = 1000.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen any more"
            self.now += timeout
        return ready


def jumping_loop(monkeypatch, module):
    """The loop; `module` reads its clock as `time.monotonic` from now on. To be closed."""
    selector = _JumpingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=loop.time))
    return loop
