"""Which requests killed workers lately? Pure: time comes in as an argument.

Remembered by a digest of what the handler sees of them, so that the same again does not harm
others: it goes straight to where it is alone, and the next time it is refused.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from marserve.request import Request

_MOST = 1024
_KEPT_S = 600.0
_REFUSED_FROM = 2
"""Who was found guilty so often is not executed any more."""


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

    def convict(self, request: Request, now: float) -> None:
        """It killed a worker, alone."""
        key = self._key(request)
        times = self._times(key, now)
        self._guilty[key] = (times + 1, now)
        self._guilty.move_to_end(key)
        if len(self._guilty) > self._most:
            self._guilty.popitem(last=False)

    def acquit(self, request: Request) -> None:
        """It was answered."""
        self._guilty.pop(self._key(request), None)

    def is_known(self, request: Request, now: float) -> bool:
        """Whether it was found guilty lately."""
        return self._times(self._key(request), now) > 0

    def is_refused(self, request: Request, now: float) -> bool:
        """Whether it is not to be executed again for now."""
        return self._times(self._key(request), now) >= _REFUSED_FROM

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

    def _key(self, request: Request) -> bytes:
        """Every part with its length, so that no two rows have the same bytes."""
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
