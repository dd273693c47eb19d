"""The process that outlives the server by a moment, to end whatever it has left.

Started by the supervisor before anything else. It holds one end of a socket; when the other one
is gone, so is the server, by whatever death: then it ends every process that carries the server's
mark, removes the server's folder, and ends. Nothing else makes it end but SIGKILL, and then the
supervisor starts another one. Run with `-I -S`, imports next to nothing, knows no worker by name:
there is nothing that it could have been told too late.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from marserve.workers import marks

_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGTSTP")
_NAME = "marserve-warden"


def main() -> None:
    """Wait for the end of the server, then clear up."""
    channel_fd, server, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    with suppress(OSError), open("/proc/self/comm", "w") as comm:  # noqa: PTH123  pathlib is slow
        comm.write(_NAME)
    while True:
        try:
            if not os.read(channel_fd, 64):
                break
        except InterruptedError:
            continue
        except OSError:
            break
    marks.kill(lambda mark: mark[0] == server)
    remove(folder)


def remove(folder: str) -> None:
    """Remove a folder and all in it; what is outside of it stays, whatever links say."""
    with suppress(OSError):
        for _, folders, files, handle in os.fwalk(folder, topdown=False):
            for name in files:
                with suppress(OSError):
                    os.unlink(name, dir_fd=handle)
            for name in folders:
                with suppress(OSError):
                    os.rmdir(name, dir_fd=handle)
                with suppress(OSError):  # a link to a folder
                    os.unlink(name, dir_fd=handle)
        os.rmdir(folder)  # noqa: PTH106  pathlib is slow


if __name__ == "__main__":
    main()
