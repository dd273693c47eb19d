"""A handler that answers what it got: for smoke tests, and to see what a request turns into."""

from __future__ import annotations

import base64

from marserve_handlers.contract import Context


class Passthrough:
    """Answers each request with its own body.

    A row with `data` or `body` is answered with that value alone, byte for byte. A form is
    answered with an object of its fields; a field that is not UTF-8 becomes `{"b64": "…"}`.
    """

    def initialize(self, context: Context) -> None:
        """There is nothing to load."""

    def handle(self, data: list[dict[str, object]], context: Context) -> list[object]:
        """One answer per row."""
        return [_answer(row) for row in data]


def _answer(row: dict[str, object]) -> object:
    if len(row) == 1:
        for key in ("data", "body"):
            if key in row:
                return row[key]
    return {name: _printable(value) for name, value in row.items()}


def _printable(value: object) -> object:
    if not isinstance(value, bytes | bytearray):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode("ascii")}
