"""The one value of a row that most handlers care about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marserve_handlers.errors import PredictionException


def row_value(row: Mapping[str, Any]) -> Any:
    """What the client sent under `data`, or else as the body.

    Raises:
        PredictionException: the row has neither (status 400).
    """
    for key in ("data", "body"):
        if key in row:
            return row[key]
    found = ", ".join(sorted(row)) or "nothing"
    raise PredictionException(
        f'The request has neither a body nor a part called "data"; it has {found}. Send the input '
        "as the body with a Content-Type of its own, or as the part data of a form.",
        400,
    )
