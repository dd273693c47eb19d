"""Cross-origin resource sharing: what browsers are told on behalf of pages of other sites. Pure.

The three values are the operator's and go out as they stand; where none is configured no header is
sent and nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from marserve.request import Header

_ORIGIN = "access-control-allow-origin"
_METHODS = "access-control-allow-methods"
_HEADERS = "access-control-allow-headers"


@dataclass(frozen=True, slots=True)
class Cors:
    """`cors_allowed_origin`, `cors_allowed_methods` and `cors_allowed_headers`."""

    origin: str | None = None
    methods: str | None = None
    headers: str | None = None

    def allowed(self, already: Iterable[str] = ()) -> list[Header]:
        """The headers that belong to every answer, less those whose names are there `already`."""
        values = ((_ORIGIN, self.origin), (_METHODS, self.methods), (_HEADERS, self.headers))
        present = {name.lower() for name in already}
        return [(name, value) for name, value in values if value and name not in present]

    def answers_preflight(self, method: bytes, origin: bytes, requested_method: bytes) -> bool:
        """Whether this is a browser asking if it may ask, and an answer is configured."""
        return bool(self.origin and method == b"OPTIONS" and origin and requested_method)


NO_CORS = Cors()
