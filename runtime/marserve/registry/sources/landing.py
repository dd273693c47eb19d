"""Where fetched bytes land: a file that takes no more than it may, on a disk that has the room."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO, Final

_CHECK_EVERY_BYTES: Final = 64 << 20
_SPARE_BYTES: Final = 1 << 20
_MAX_SHOWN: Final = 200


class CannotFetch(Exception):
    """The archive cannot be had; the message is a clause that says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a download may take."""

    max_bytes: int = 50 << 30
    connect_s: float = 10.0
    idle_s: float = 60.0
    """Without a single byte."""
    min_bytes_per_s: float = 1024.0
    """In each window; whoever sends less holds a place that others could use."""
    window_s: float = 30.0
    total_s: float = 3600.0
    """Redirects included."""
    max_redirects: int = 3


class Landing:
    """Takes the bytes of one archive, in order."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._unchecked_bytes = 0

    def announce(self, size_bytes: int) -> None:
        """Says how many bytes will come; called before the first one, where it is known.

        Raises:
            CannotFetch: they are too many, or the disk has no room for them with 5 % to spare.
        """
        self._check_size(size_bytes)
        self._check_room(size_bytes)

    def add(self, piece: bytes) -> None:
        """Takes some bytes.

        Raises:
            CannotFetch: they are too many, or cannot be written.
        """
        self._size_bytes += len(piece)
        self._check_size(self._size_bytes)
        self._unchecked_bytes += len(piece)
        if self._unchecked_bytes >= _CHECK_EVERY_BYTES:
            self._unchecked_bytes = 0
            self._check_room(0)
        try:
            self._file.write(piece)
        except OSError as error:
            raise CannotFetch(f"the model store cannot take it: {shown(error)}") from error

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise CannotFetch(f"it is larger than {self._max_bytes} bytes (max_archive_size)")

    def _check_room(self, needed_bytes: int) -> None:
        disk = os.fstatvfs(self._file.fileno())
        if disk.f_bavail * disk.f_frsize < needed_bytes * 1.05 + _SPARE_BYTES:
            raise CannotFetch("the disk of the model store is too full for it")


def shown(cause: object) -> str:
    """A few printable characters of what another machine, or the system, said."""
    if isinstance(cause, OSError) and cause.strerror:
        text = cause.strerror
    else:
        text = str(cause) or type(cause).__name__
    return "".join(c if c.isprintable() else "?" for c in text[:_MAX_SHOWN])
