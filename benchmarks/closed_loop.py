"""Clients that each send the next body when the last one is answered, and count in steady state.

    rate = drive(target.url, bodies, "image/jpeg", clients=24, seconds=4)

For slow models, where `wrk` would count the moments until the first batches are full and lose the
last ones. Answers count from the first one after a short start until the last one, so whole batches
are counted.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

_SAME_BATCH_S = 0.004
START_S = 0.7
"""Until then queue and batches have filled up."""


class RequestFailed(Exception):
    """An answer was not 200."""


def drive(
    url: str, bodies: Sequence[bytes], content_type: str, clients: int, seconds: float
) -> float:
    """Answers per second.

    Args:
        url: where to post.
        bodies: sent in turn.
        content_type: of the bodies.
        clients: how many requests are under way at any moment.
        seconds: of counting.

    Raises:
        RequestFailed: with the first answer that was not 200.
    """
    return asyncio.run(_drive(url, bodies, content_type, clients, seconds))


async def _drive(
    url: str, bodies: Sequence[bytes], content_type: str, clients: int, seconds: float
) -> float:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {content_type}\r\n"
    requests = [f"{head}Content-Length: {len(b)}\r\n\r\n".encode() + b for b in bodies]
    turns = itertools.cycle(requests)
    answered: list[float] = []
    loop = asyncio.get_running_loop()
    end = loop.time() + START_S + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_client(parts.hostname, parts.port, turns, answered, end))
    begin = next(moment for moment in sorted(answered) if moment >= end - seconds)
    last = max(moment for moment in answered if moment <= end)
    # what came with the first batch belongs to the time before it
    counted = sum(begin + _SAME_BATCH_S < moment <= last for moment in answered)
    return counted / (last - begin)


async def _client(
    host: str | None, port: int | None, turns: Iterator[bytes], answered: list[float], end: float
) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    loop = asyncio.get_running_loop()
    while loop.time() < end:
        writer.write(next(turns))
        head = await reader.readuntil(b"\r\n\r\n")
        size = _content_length(head)
        body = await reader.readexactly(size)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RequestFailed(body.decode(errors="replace"))
        answered.append(loop.time())
    writer.close()
    await writer.wait_closed()


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise RequestFailed(f"an answer without a length: {head!r}")
