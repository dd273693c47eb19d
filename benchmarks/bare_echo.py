"""The least a server can do with a body: read it, perhaps hand it to another process, answer it.

    python benchmarks/bare_echo.py PORT direct|hop same|small

`direct` answers from the process that reads; `hop` sends each body to a second process over a
socketpair and waits for it to come back, which is the way of a request in a model server whose
handlers live in processes of their own. The answer is the same bytes, or a small one. HTTP is
reduced to finding the length. This is the yardstick of `large_bodies.py`, not a server.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from typing import cast

import uvloop

LENGTH = struct.Struct("!Q")
SMALL = b"ok"
Done = Callable[[list[bytes], int], None]
Serve = Callable[[list[bytes], int, Done], None]


class Connection(asyncio.Protocol):
    """Collects a body without copying it, and answers when `serve` calls back."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._chunks: list[bytes] = []
        self._wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Serve when the body is whole; the head is taken to come in one piece."""
        if not self._wanted:
            end = data.index(b"\r\n\r\n") + 4
            start = data.lower().index(b"content-length:") + 15
            self._size = self._wanted = int(data[start : data.index(b"\r\n", start)])
            data = data[end:]
        self._chunks.append(data)
        self._wanted -= len(data)
        if not self._wanted:
            chunks, self._chunks = self._chunks, []
            self._serve(chunks, self._size, self._answer)

    def _answer(self, chunks: list[bytes], size: int) -> None:
        if self._transport.is_closing():
            return
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
        self._transport.writelines([head, *chunks])


class Hop(asyncio.Protocol):
    """Our end of the socketpair. Answers come back in the order of the questions."""

    def __init__(self) -> None:
        self._waiting: deque[Done] = deque()
        self._chunks: list[bytes] = []
        self._wanted = self._size = 0
        self._length = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast(asyncio.Transport, transport)

    def send(self, chunks: list[bytes], size: int, done: Done) -> None:
        """Hand a body over; `done` gets what comes back."""
        self._waiting.append(done)
        self._transport.writelines([LENGTH.pack(size), *chunks])

    def data_received(self, data: bytes) -> None:
        """Give each body that is whole to whom it belongs."""
        while data:
            if not self._wanted:
                missing = LENGTH.size - len(self._length)
                self._length, data = self._length + data[:missing], data[missing:]
                if len(self._length) < LENGTH.size:
                    return
                self._size = self._wanted = LENGTH.unpack(self._length)[0]
                self._length = b""
            mine, data = data[: self._wanted], data[self._wanted :]
            self._chunks.append(mine)
            self._wanted -= len(mine)
            if not self._wanted:
                chunks, self._chunks = self._chunks, []
                self._waiting.popleft()(chunks, self._size)


def far_end(sock: socket.socket, small: bool) -> None:
    """The second process: reads a body whole, sends it back."""
    length = bytearray(LENGTH.size)
    while _read(sock, memoryview(length)):
        body = memoryview(bytearray(LENGTH.unpack(length)[0]))
        if not _read(sock, body):
            return
        answer = memoryview(SMALL) if small else body
        sock.sendall(LENGTH.pack(len(answer)))
        sock.sendall(answer)


def _read(sock: socket.socket, into: memoryview) -> bool:
    while into:
        count = sock.recv_into(into)
        if not count:
            return False
        into = into[count:]
    return True


async def main(port: int, way: str, answer: str) -> None:
    """Serve until killed."""
    small = answer == "small"
    loop = asyncio.get_running_loop()

    def direct(chunks: list[bytes], size: int, done: Done) -> None:
        done(*(([SMALL], len(SMALL)) if small else (chunks, size)))

    serve: Serve = direct
    if way == "hop":
        near, far = socket.socketpair()
        if os.fork() == 0:
            near.close()
            far_end(far, small)
            os._exit(0)
        far.close()
        _, hop = await loop.create_connection(Hop, sock=near)
        serve = hop.send
    server = await loop.create_server(lambda: Connection(serve), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), *sys.argv[2:4]))
