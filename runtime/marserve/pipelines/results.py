"""The results of a workflow's last nodes as one body. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from marserve.errors import HandlerFailed
from marserve.protocols.faults import torchserve_json


def joined(results: Mapping[str, bytes]) -> bytes:
    """One result as it is; several as a JSON object with the nodes' names.

    A result that is no JSON stands there as a JSON string.

    Raises:
        HandlerFailed: a result of several is neither JSON nor text.
    """
    if len(results) == 1:
        return next(iter(results.values()))
    return torchserve_json({node: _value(node, result) for node, result in results.items()})


def _value(node: str, result: bytes) -> Any:
    try:
        text = bytes(result).decode()
    except UnicodeDecodeError as error:
        raise HandlerFailed(
            f"Error executing {node}: its result is neither JSON nor text, and so cannot stand "
            "beside the results of the workflow's other last nodes.",
            500,
        ) from error
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{digits} is out of range")
    return value
