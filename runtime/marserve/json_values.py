"""JSON that a person wrote into a setting, checked while it is read. Pure.

Everything here raises ValueError with a sentence that names the place and what is expected.
"""

from __future__ import annotations

import json
from typing import Any


def read_object(text: str) -> dict[str, Any]:
    """The object that `text` is; a name that is given twice in one object is a mistake."""
    try:
        document = json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected one JSON object ({error})") from error
    return fields_of(document, "one JSON object")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'"{twice}" is given twice')
    return fields


def fields_of(value: Any, expected: str) -> dict[str, Any]:
    """`value`, which must be an object."""
    if not isinstance(value, dict):
        raise ValueError(f"expected {expected}")
    return value


def typed(what: str, value: Any, wanted: type, expected: str) -> Any:
    """`value`, which must be of exactly this type."""
    if type(value) is not wanted:  # bool is an int to isinstance
        raise ValueError(f"{what} is {json.dumps(value)}: expected {expected}")
    return value


def whole_number_in(what: str, value: Any) -> int:
    """`value`, which must be a whole number."""
    number: int = typed(what, value, int, "a whole number")
    return number
