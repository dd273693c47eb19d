"""One thing at a time may measure on a machine: whoever does holds a lock file.

The lock goes with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

PATH = Path(tempfile.gettempdir()) / "marserve-measuring.lock"
_held: list[int] = []


class Busy(Exception):
    """Somebody else measures; the message says who."""


def hold(what: str) -> None:
    """Hold the lock until this process ends. To hold it again changes nothing.

    Raises:
        Busy: another process has it.
    """
    if _held:
        return
    descriptor = os.open(PATH, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode(errors="replace").strip()
        os.close(descriptor)
        raise Busy(f"{holder or 'Another process'} is measuring on this machine.") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{what}, process {os.getpid()}\n".encode())
    _held.append(descriptor)
