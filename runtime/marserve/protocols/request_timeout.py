"""The header by which a client says how long it will wait for its answer. Pure."""

from __future__ import annotations

from marserve.errors import InvalidInput

NAME = b"x-request-timeout-ms"
_LONGEST_MS = 86_400_000


def timeout_s(value: bytes) -> float | None:
    """The seconds that a header's value (milliseconds) stands for; None where it is empty.

    Raises:
        InvalidInput: it is no whole number of milliseconds from 1 to a day.
    """
    if not value:
        return None
    if not value.isdigit() or len(value) > 8 or not 1 <= int(value) <= _LONGEST_MS:
        raise InvalidInput(
            "The header X-Request-Timeout-Ms must be a whole number of milliseconds from 1 to "
            f"{_LONGEST_MS}."
        )
    return int(value) / 1000.0
