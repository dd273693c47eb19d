"""Which requests killed workers lately? Pure: time comes in as an argument.

Remembered by a digest of what the handler sees of them, so that the same again does not harm
others: it goes straight to where it is alone, and the next time it is refused.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from enum import Enum

from marserve.request import Request

_MOST = 1024
_KEPT_S = 600.0
_REFUSED_FROM = 2
"""Who was found guilty so often is not executed any more."""


class Past(Enum):
    """What is known of a request."""

    CLEAN = "nothing"
    GUILTY = "it was found guilty lately"
    REFUSED = "it is not to be executed again for now"


class PoisonMemory:
    """The guilty of one version, the latest last. Owned by its Batcher."""

    def __init__(self, version: str, most: int = _MOST, kept_s: float = _KEPT_S) -> None:
        self._version = version
        self._most = most
        self._kept_s = kept_s
        self._guilty: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        """How often, and when last."""

    def __len__(self) -> int:
        return len(self._guilty)

    def convict(self, key: bytes, now: float) -> None:
        """The request with this digest killed a worker, alone."""
        times = self._times(key, now)
        self._guilty[key] = (times + 1, now)
        self._guilty.move_to_end(key)
        if len(self._guilty) > self._most:
            self._guilty.popitem(last=False)

    def acquit(self, key: bytes) -> None:
        """It was answered."""
        self._guilty.pop(key, None)

    def past(self, key: bytes, now: float) -> Past:
        """What is known of the request with this digest."""
        times = self._times(key, now)
        if times >= _REFUSED_FROM:
            return Past.REFUSED
        return Past.GUILTY if times else Past.CLEAN

    def forget(self, now: float) -> None:
        """Drop what is too old."""
        while self._guilty:
            key, (_, when) = next(iter(self._guilty.items()))
            if when > now - self._kept_s:
                return
            del self._guilty[key]

    def _times(self, key: bytes, now: float) -> int:
        times, when = self._guilty.get(key, (0, now))
        return times if when > now - self._kept_s else 0

    def digest(self, request: Request) -> bytes:
        """What it is remembered by. It costs a look at the whole body.

        Every part counts with its length, so that no two rows have the same bytes.
        """
        digest = hashlib.sha256()
        told = (self._version, str(request.explain), str(request.url_path))
        texts = [text.encode("utf-8", "surrogatepass") for text in told]
        for name, kind, body in request.parts:
            texts += [name.encode("utf-8", "surrogatepass"), kind.encode("utf-8", "surrogatepass")]
            texts.append(body)
        for text in texts:
            digest.update(len(text).to_bytes(8, "little"))
            digest.update(text)
        return digest.digest()
