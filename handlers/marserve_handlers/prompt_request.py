"""The JSON object that a client of a language model sends. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from marserve_handlers.errors import PredictionException
from marserve_handlers.row import row_value


def prompt_request(row: Mapping[str, Any]) -> dict[str, Any]:
    """The object in a row, also where the client did not say that it is JSON.

    Raises:
        PredictionException: the row holds no JSON object (400).
    """
    value = row_value(row)
    if isinstance(value, bytes | bytearray | str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError) as error:
            raise PredictionException(f"The input must be a JSON object: {error}.", 400) from error
    if not isinstance(value, dict):
        raise PredictionException(
            f"The input must be a JSON object, not {type(value).__name__}.", 400
        )
    return value
