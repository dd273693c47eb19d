"""The mark that every process of one server carries, however it was started, and how to find it.

A handler may start processes that leave its group and its session, lose their parent or wipe
their environment. A resource limit stays: it is inherited through fork and exec, and cannot be
raised again. The limit on real-time CPU use means nothing at the size chosen here (tens of
thousands of years), so its hard value names the server, its soft value the worker. It can be
lowered on purpose; so the zygote ends what comes to it without a mark. What is not forked from a
zygote (pip) carries the number of the server in its environment.

Imports next to nothing: the warden runs on it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

VARIABLE = "MARSERVE_SERVER"
_LIMIT = 15  # RLIMIT_RTTIME, in microseconds; the module `resource` does not name it
_LIMIT_LINE = b"Max realtime timeout"
_SERVERS_FROM = 1 << 61
_WORKERS_FROM = 1 << 60
_BITS = 56
_STEP_S = 0.005
_PATIENCE_S = 5.0

Mark = tuple[int, int]
"""The number of the server and the process id of the worker; 0: no worker."""


def new() -> int:
    """The number of a server: random, so that no two ever have the same."""
    return int.from_bytes(os.urandom(_BITS // 8), "big")


def environ(server: int) -> dict[str, str]:
    """What marks a process of `server` by its environment."""
    return {VARIABLE: str(server)}


def put_on(server: int, worker: int = 0) -> bool:
    """Mark this process and all that it will start. False: not done, the limit is lower."""
    import resource  # not in the warden

    try:
        resource.setrlimit(_LIMIT, (_WORKERS_FROM + worker, _SERVERS_FROM + server))
    except (ValueError, OSError):  # in a worker of another server, which ends it, too
        return False
    return True


def mark_of(pid: int) -> Mark | None:
    """Whose process it is; None: nobody's, or it has ended."""
    try:
        soft, hard = _limits(_read(pid, "limits"))
    except (OSError, ValueError):
        soft = hard = 0
    if _SERVERS_FROM <= hard < _SERVERS_FROM + (1 << _BITS):
        return hard - _SERVERS_FROM, max(0, soft - _WORKERS_FROM)
    try:
        prefix = VARIABLE.encode() + b"="
        for variable in _read(pid, "environ").split(b"\0"):
            if variable.startswith(prefix):
                return int(variable[len(prefix) :]), 0
    except (OSError, ValueError):
        pass
    return None


def living(wanted: Callable[[Mark], bool]) -> list[int]:
    """The processes that run and whose mark is `wanted`, except this one."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208  pathlib is slow
        if name.isdigit() and int(name) != os.getpid():
            mark = mark_of(int(name))
            if mark is not None and wanted(mark) and not _is_dead(int(name)):
                found.append(int(name))
    return found


def kill(wanted: Callable[[Mark], bool], patience_s: float = _PATIENCE_S) -> list[int]:
    """End all processes whose mark is `wanted`, also those that they start meanwhile.

    Returns those that would not end within `patience_s`, as the kernel holds them. Blocks.
    """
    end = time.monotonic() + patience_s
    while True:
        left = living(wanted)
        if not left or time.monotonic() > end:
            return left
        for pid in left:
            _kill(pid, wanted)
        time.sleep(_STEP_S)


def _kill(pid: int, wanted: Callable[[Mark], bool]) -> None:
    """A number that meanwhile is another process's is not touched."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        mark = mark_of(pid)
        if mark is not None and wanted(mark):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(handle)


def _limits(text: bytes) -> tuple[int, int]:
    line = text.partition(_LIMIT_LINE)[2].partition(b"\n")[0]
    soft, hard = line.split()[:2]
    return int(soft), int(hard)


def _is_dead(pid: int) -> bool:
    """A zombie is no process any more, unless other threads of it go on."""
    try:
        state = _read(pid, "stat").rpartition(b")")[2].split()[0]
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
        return state in (b"Z", b"X") and len(threads) < 2
    except OSError:
        return True


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:  # noqa: PTH123  pathlib is slow
        return file.read()
