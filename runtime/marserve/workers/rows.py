"""What a batch's items mean to a handler: one row and one dict of headers each. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from marserve.workers.messages import BatchItem
from marserve_handlers.payload import Part, decode_row


def rows(items: Sequence[BatchItem], buffers: memoryview, decode: bool) -> list[dict[str, object]]:
    """One row per item; `buffers` holds the bytes of all parts in a row.

    An item that the handler knows already (continuous batching) has no parts: its row is empty.
    """
    made: list[dict[str, object]] = []
    start = 0
    for item in items:
        parts = []
        for part in item.parts:
            end = start + part.size_bytes
            parts.append(Part(part.name, part.content_type, buffers[start:end]))
            start = end
        made.append(decode_row(parts, decode))
    return made


def cut(items: Sequence[BatchItem], buffers: memoryview) -> list[memoryview]:
    """Each item's own share of the buffers."""
    shares = []
    start = 0
    for item in items:
        end = start + sum(part.size_bytes for part in item.parts)
        shares.append(buffers[start:end])
        start = end
    return shares


def headers(item: BatchItem) -> dict[str, object]:
    """The client's headers, and what the server says of the request among them."""
    told: dict[str, object] = {
        part.name: {"content-type": part.content_type} for part in item.parts
    }
    if item.explain is not None:
        told["explain"] = "True" if item.explain else "False"
    told.update(item.headers)
    if item.url_path is not None:
        told["url_path"] = item.url_path
    if item.describe:
        told["describe"] = "True"
    return told
