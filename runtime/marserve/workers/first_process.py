"""The server as the first process of a container, which inherits the children of everybody.

Such a process must reap what others leave, and is spared by signals that it does not handle. A
server should know nothing of that, and never take a stranger's end for that of a worker: it goes
on in a child, while the first process reaps, hands on signals, and ends as the server ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final, NoReturn

_HANDED_ON: Final = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)
_FIRST: Final = 1
_KILLED_BY: Final = 128


def step_aside(*, is_first: bool | None = None) -> None:
    """Return in a child if this is the first process; else do nothing. No threads may run yet.

    `is_first`: whether it is; None: by its number, unless that is how a service manager knows it.
    """
    if is_first is None:
        is_first = os.getpid() == _FIRST and os.environ.get("LISTEN_PID") != str(_FIRST)
    if not is_first:
        return
    waited_for = {*_HANDED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    server = os.fork()
    if server == 0:
        os.setpgid(0, 0)  # a terminal tells the first process alone, which hands it on: once
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os.closerange(3, 1024)  # they are the server's to close
    _reap_until_it_ends(server, waited_for)


def _reap_until_it_ends(server: int, waited_for: set[signal.Signals]) -> NoReturn:
    while True:
        number = signal.sigwait(waited_for)
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server, number)
            continue
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                if pid == server:
                    os._exit(_exit_code(status))


def _exit_code(status: int) -> int:
    if os.WIFSIGNALED(status):
        return _KILLED_BY + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)
