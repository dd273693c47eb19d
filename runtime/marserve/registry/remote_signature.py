"""The signature of an archive that is elsewhere: fetched from beside it, before the archive."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from pathlib import Path
from typing import Any

from marserve.registry.sources.fetcher import Fetcher
from marserve_archiver.signature import MAX_SIGNATURE_BYTES, SIGNATURE_SUFFIX


def signature_url(url: str) -> str:
    """`https://host/m.mar?x=1` -> `https://host/m.mar.sig?x=1`."""
    path, question, query = url.partition("?")
    return f"{path}{SIGNATURE_SUFFIX}{question}{query}"


def fetch_signature(fetcher: Fetcher, url: str, is_signed_request: bool, folder: Path) -> bytes:
    """The bytes at `signature_url(url)`. Blocks.

    Args:
        fetcher: gets it, by the same rules as the archive.
        url: of the archive.
        is_signed_request: the request is signed for S3.
        folder: for a file without a name while it arrives.

    Raises:
        ArchiveNotFound: the url is not allowed.
        CannotFetch: it cannot be had, or is larger than any signature.
    """
    permission = fetcher.permission(signature_url(url))
    with tempfile.TemporaryFile(dir=folder) as file, _Small(os.dup(file.fileno())) as small:
        fetcher.fetch(permission, is_signed_request, small)
        small.seek(0)
        return small.read(MAX_SIGNATURE_BYTES)


class _Small(io.FileIO):
    """A file that takes no more than a signature has."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "r+b")
        self._size_bytes = 0

    def write(self, piece: Any) -> int:
        self._size_bytes += len(piece)
        if self._size_bytes > MAX_SIGNATURE_BYTES:
            raise OSError(errno.EFBIG, "it is too large for a signature")
        return super().write(piece) or 0
