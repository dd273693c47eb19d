"""The folder of one running server: a scratch folder for each worker, and who it belongs to.

Owned by the supervisor. Its name has the server's mark, and a lock in it is held for as long as
the server lives, also across containers that share the folder. The folder itself is locked as
well: so systemd-tmpfiles knows that it is in use, however old what is in it. A server that starts
clears up after those of the same user that are gone: their processes first, then their folders.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import tempfile
from pathlib import Path

from marserve.workers import marks, warden

_PREFIX = "marserve-run-"
_LOCK = "lock"


class RunFolder:
    """Made when it is built; `close` gives up the lock, the warden removes the rest."""

    def __init__(self, parent: Path | None = None) -> None:
        self.mark = marks.new()
        parent = parent or Path(tempfile.gettempdir())
        draft = Path(tempfile.mkdtemp(prefix="marserve-new-", dir=parent))  # open to us alone
        # who looks for what others have left finds it locked, or not at all
        self._fds = _locked(draft)
        self.path = parent / f"{_PREFIX}{self.mark:x}"
        draft.rename(self.path)
        self._numbers = itertools.count()

    def scratch(self, worker: str) -> Path:
        """A new, empty folder for one life of a worker."""
        if not self._is_there():
            self._make_again()
        path = self.path / f"{worker}-{next(self._numbers)}"
        path.mkdir(mode=0o700)
        return path

    def close(self) -> None:
        """Others may clear up from now on."""
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fds[0]), self.path.lstat())
        except OSError:
            return False

    def _make_again(self) -> None:
        """Somebody has removed it. What somebody else has put in its place is not used."""
        self.path.mkdir(mode=0o700, parents=True)
        self.close()
        self._fds = _locked(self.path)


def _locked(folder: Path) -> list[int]:
    """The folder and the lock in it, opened and locked."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fds = [os.open(folder, flags)]
    with contextlib.suppress(OSError):  # not over NFS, which lets only what is writable be locked
        fcntl.flock(fds[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    fds.append(os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    fcntl.flock(fds[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fds


def clear_up_after_the_dead(parent: Path | None = None) -> list[Path]:
    """End the processes and remove the folders of servers of this user that have died. Blocks.

    Returns the folders.
    """
    cleared = []
    for folder in sorted((parent or Path(tempfile.gettempdir())).glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError, ValueError):
            if folder.lstat().st_uid == os.getuid() and _clear_up(folder):
                cleared.append(folder)
    return cleared


def _clear_up(folder: Path) -> bool:
    server = int(folder.name.removeprefix(_PREFIX), 16)
    lock_fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # it lives
    else:
        marks.kill(lambda mark: mark[0] == server)
        warden.remove(str(folder))
        return True
    finally:
        os.close(lock_fd)
