"""The parameters of a control request: a query or a JSON body -> typed values. Pure.

Strings become values here, once; a parameter that makes no sense is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from marserve.errors import InvalidInput

Parameters = Mapping[str, object]
"""What the client gave: text from a query, any JSON value from a body."""

LARGEST = 2**31 - 1
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")


def parameters(query: Mapping[str, str], content_type: str, body: bytes) -> Parameters:
    """The parameters of a request: the JSON body's if there is one, else the query's.

    Raises:
        InvalidInput: the body is not one JSON object with each name once.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json" or not body.strip():
        return query
    try:
        document = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The request body is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput("The request body must be a JSON object.")
    return document


def text(given: Parameters, name: str) -> str | None:
    """A text parameter; an empty one counts as not given.

    Raises:
        InvalidInput: it is a JSON value of another type.
    """
    value = given.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"Parameter {name} must be text.")
    return value


def integer(given: Parameters, name: str, *, at_least: int | None) -> int | None:
    """A whole number, as itself or as text.

    Raises:
        InvalidInput: it is no whole number, does not fit 32 bits, or is less than `at_least`.
    """
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 4.0: some languages know no other numbers
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST:
        raise InvalidInput(f"Parameter {name} must be a whole number.")
    if at_least is not None and value < at_least:
        raise InvalidInput(f"Parameter {name} must be at least {at_least}, not {value}.")
    return value


def digest(given: Parameters, name: str) -> str | None:
    """A sha256 in hex, lower-case.

    Raises:
        InvalidInput: it is anything else.
    """
    value = text(given, name)
    if value is not None and not _DIGEST.fullmatch(value):
        raise InvalidInput(f"Parameter {name} must be 64 hexadecimal digits.")
    return None if value is None else value.lower()


def flag(given: Parameters, name: str, *, default: bool) -> bool:
    """`true` or `false` in any case, or a JSON boolean.

    Raises:
        InvalidInput: it is anything else.
    """
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if not isinstance(value, bool):
        raise InvalidInput(f"Parameter {name} must be true or false.")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return document


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON value")
