"""Bytes of a request to the row that a handler sees, and a handler's result to bytes.

Pure, standard library only: torch and numpy values are recognised only when the handler has
imported those packages itself.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from marserve_handlers.errors import UnsupportedOutput
from marserve_handlers.indented_json import indented

JSON_TYPE: Final = "application/json"
TEXT_PREFIX: Final = "text/"


@dataclass(frozen=True, slots=True)
class Part:
    """One named piece of a request as it came in: a raw body, a form field or a file."""

    name: str
    content_type: str
    """As the client sent it, parameters included; empty when it named none."""
    body: bytes | bytearray | memoryview


def decode_row(parts: Sequence[Part], decode: bool = True) -> dict[str, object]:
    """The row that a handler gets for one request: part name to value.

    `application/json` becomes the decoded object and `text/*` becomes str; whatever is neither,
    or is broken, becomes a bytearray. The last part of a name wins.

    Args:
        parts: what the client sent, in order.
        decode: False leaves every value a bytearray.
    """
    return {part.name: _decoded(part) if decode else _raw(part) for part in parts}


def encode_item(item: object) -> bytes:
    """The body that a client gets for one result of a handler.

    bytes go out as they are, text as UTF-8, a torch tensor as `torch.save` writes it, and
    anything else as JSON indented by two; numpy arrays and scalars count as lists and numbers.

    Raises:
        UnsupportedOutput: the result is none of these.
    """
    if isinstance(item, bytes | bytearray):
        return bytes(item)
    if isinstance(item, str):
        return _utf8(item)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(item, getattr(torch, "Tensor", ())):
        buffer = io.BytesIO()
        torch.save(item, buffer)
        return buffer.getvalue()
    return _json(item)


def _decoded(part: Part) -> object:
    content_type = part.content_type.partition(";")[0].strip()
    if content_type == JSON_TYPE:
        try:
            return json.loads(str(part.body, "utf-8"))
        except (ValueError, RecursionError):
            return _raw(part)
    if content_type.startswith(TEXT_PREFIX):
        try:
            return str(part.body, "utf-8")
        except ValueError:
            return _raw(part)
    return _raw(part)


def _raw(part: Part) -> bytearray:
    return part.body if isinstance(part.body, bytearray) else bytearray(part.body)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UnsupportedOutput(f"The text cannot be written as UTF-8: {error}.") from error


def _json(item: object) -> bytes:
    try:
        quick = indented(item)
        text = json.dumps(item, indent=2, default=plain) if quick is None else quick
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedOutput(
            f"A {type(item).__name__} was returned that JSON cannot hold ({error}). Return bytes, "
            "str, a tensor, or numbers, text, lists and dicts of these."
        ) from error
    return text.encode("ascii")


def plain(value: object) -> object:
    """What `json.dumps(default=…)` makes of a numpy value.

    Raises:
        TypeError: it is none.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
        listed: object = value.tolist()  # pyright: ignore[reportAttributeAccessIssue] # narrowed by a lookup
        return listed
    raise TypeError(f"{type(value).__name__} is not JSON serializable")
