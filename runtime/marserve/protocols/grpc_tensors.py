"""The elements of one Open Inference tensor: typed fields or raw bytes <-> Python values. Pure.

Bytes are little-endian and row-major. Nothing here knows shapes but by their number of elements.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from marserve.protocols.pb.open_inference_grpc_pb2 import InferTensorContents

BYTES = "BYTES"

FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "bool_contents",
        "INT8": "int_contents",
        "INT16": "int_contents",
        "INT32": "int_contents",
        "INT64": "int64_contents",
        "UINT8": "uint_contents",
        "UINT16": "uint_contents",
        "UINT32": "uint_contents",
        "UINT64": "uint64_contents",
        "FP16": "fp32_contents",
        "BF16": "fp32_contents",
        "FP32": "fp32_contents",
        "FP64": "fp64_contents",
        BYTES: "bytes_contents",
    }
)
"""Every datatype, and the field of `InferTensorContents` that its elements are in.

The protocol has no field for FP16 and BF16, which travel raw; who sends them all the same sends
them as FP32.
"""

RAW_ONLY = ("FP16", "BF16")
"""What an answer cannot say in a typed field."""

_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "?",
        "INT8": "b",
        "INT16": "h",
        "INT32": "i",
        "INT64": "q",
        "UINT8": "B",
        "UINT16": "H",
        "UINT32": "I",
        "UINT64": "Q",
        "FP16": "e",
        "BF16": "H",
        "FP32": "f",
        "FP64": "d",
    }
)
_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "INT8": (-(2**7), 2**7 - 1),
        "INT16": (-(2**15), 2**15 - 1),
        "UINT8": (0, 2**8 - 1),
        "UINT16": (0, 2**16 - 1),
    }
)
"""Of the integers whose field is wider than they are."""
_LENGTH_BYTES = 4


def from_contents(datatype: str, contents: InferTensorContents) -> list[Any]:
    """The elements in the field that fits `datatype`, one of `FIELDS`.

    Raises:
        ValueError: another field is filled; the message continues "the tensor …".
    """
    field = FIELDS[datatype]
    strays = [
        descriptor.name for descriptor, _ in contents.ListFields() if descriptor.name != field
    ]
    if strays:
        raise ValueError(f"has elements in {strays[0]}; those of {datatype} belong into {field}")
    return list(getattr(contents, field))


def to_contents(datatype: str, elements: Sequence[Any]) -> InferTensorContents:
    """The elements in the field that fits `datatype`, one of `FIELDS` but not `RAW_ONLY`.

    Raises:
        ValueError: an element is no value of that datatype; the message continues "the tensor …".
    """
    low, high = _RANGES.get(datatype, (-math.inf, math.inf))
    contents = InferTensorContents()
    try:
        if datatype in _RANGES and not all(low <= element <= high for element in elements):
            raise ValueError(f"value out of range: {datatype} is {low} to {high}")
        getattr(contents, FIELDS[datatype]).extend(elements)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"has an element that is no {datatype} ({error})") from error
    return contents


def raw_count(datatype: str, raw: bytes) -> int | None:
    """How many elements `raw` holds, without reading them; None: only reading them tells.

    Raises:
        ValueError: it is no whole number of them; the message continues "the tensor …".
    """
    if datatype == BYTES:
        return None
    count, rest = divmod(len(raw), struct.calcsize(f"<{_FORMATS[datatype]}"))
    if rest:
        raise ValueError(f"has {len(raw)} raw bytes, which is no whole number of {datatype}")
    return count


def from_raw(datatype: str, raw: bytes) -> list[Any]:
    """The elements that `raw` holds.

    Raises:
        ValueError: it is no whole number of them; the message continues "the tensor …".
    """
    count = raw_count(datatype, raw)
    if count is None:
        return _byte_strings(raw)
    elements = struct.unpack(f"<{count}{_FORMATS[datatype]}", raw)
    return _widened(elements) if datatype == "BF16" else list(elements)


def to_raw(datatype: str, elements: Sequence[Any]) -> bytes:
    """The elements as bytes; those of BYTES are bytes already.

    Raises:
        ValueError: an element is no value of that datatype; the message continues "the tensor …".
    """
    try:
        if datatype == BYTES:
            return b"".join(struct.pack("<I", len(one)) + one for one in elements)
        if datatype == "BF16":
            elements = _narrowed(elements)
        return struct.pack(f"<{len(elements)}{_FORMATS[datatype]}", *elements)
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise ValueError(f"has an element that is no {datatype} ({error})") from error


def _byte_strings(raw: bytes) -> list[bytes]:
    elements: list[bytes] = []
    at = 0
    while at < len(raw):
        start = at + _LENGTH_BYTES
        end = start + int.from_bytes(raw[at:start], "little")
        if start > len(raw) or end > len(raw):
            raise ValueError("has raw BYTES that end in the middle of an element")
        elements.append(raw[start:end])
        at = end
    return elements


def _widened(halves: Sequence[int]) -> list[float]:
    """The upper halves of FP32 numbers -> those numbers."""
    words = struct.pack(f"<{len(halves)}I", *(half << 16 for half in halves))
    return list(struct.unpack(f"<{len(halves)}f", words))


def _narrowed(elements: Iterable[float]) -> list[int]:
    """FP32 numbers -> their upper halves, rounded to even."""
    halves = []
    for element in elements:
        (word,) = struct.unpack("<I", struct.pack("<f", element))
        if element == element:  # NaN stays as it is: rounding could make it an infinity
            word += 0x7FFF + (word >> 16 & 1)
        halves.append(word >> 16)
    return halves
