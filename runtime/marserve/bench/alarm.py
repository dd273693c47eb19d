"""Calls back at a moment, to some ten microseconds: event loops count in milliseconds.

A timer of the kernel that the loop watches like a socket; Python knows it from 3.13 on, the
C library always.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

_CLOCK_MONOTONIC = 1
_NONBLOCKING_AND_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class _Once(ctypes.Structure):
    _fields_ = (
        ("again_s", ctypes.c_long),
        ("again_ns", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Alarm:
    """A context in which `set` has `on_time` called once, on the running loop.

    Raises:
        OSError: the system has no such timer.
    """

    def __init__(self, on_time: Callable[[], None]) -> None:
        self._on_time = on_time
        self._system = ctypes.CDLL(None, use_errno=True)
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = self._system.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCKING_AND_CLOEXEC)
        self._check(self._fd)
        asyncio.get_running_loop().add_reader(self._fd, self._expired)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def set(self, delay_s: float) -> None:
        """Call after `delay_s`, and not at the moment that was set before."""
        seconds, ns = divmod(max(1, int(delay_s * 1e9)), 1_000_000_000)
        once = _Once(0, 0, seconds, ns)
        self._check(self._system.timerfd_settime(self._fd, 0, ctypes.byref(once), None))

    def _expired(self) -> None:
        with contextlib.suppress(BlockingIOError):  # set anew since the loop was told
            os.read(self._fd, 8)
            self._on_time()

    @staticmethod
    def _check(result: int) -> None:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
