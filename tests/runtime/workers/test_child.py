"""What a worker process writes, and that no frame gets into the middle of another."""

import socket
from types import SimpleNamespace

import msgspec

from marserve.workers import child
from marserve.workers.frames import PONG, encode
from marserve.workers.messages import FrameKind, Load

LOAD = Load("m", "1.0", "/", "h", 1, None, True, True, 1000, None)


class Watched:
    """A channel that knows whether what is written to it is written by one thread at a time."""

    def __init__(self, sock, lock):
        self._sock = sock
        self._lock = lock
        self.written = []

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def sendall(self, data):
        self.written.append((bytes(data), self._lock.locked()))


def test_the_answer_to_a_question_waits_until_a_piece_is_written(monkeypatch):
    """A handler may have left a thread behind that streams."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = child._Worker(ours)
        worker._channel = channel = Watched(ours, worker._sending)
        monkeypatch.setattr(worker, "_load", lambda load: SimpleNamespace(close=lambda: None))
        theirs.sendall(encode(FrameKind.LOAD, msgspec.msgpack.encode(LOAD)))
        theirs.sendall(encode(FrameKind.PING, msgspec.msgpack.encode(())))
        theirs.shutdown(socket.SHUT_WR)

        assert worker.run() == 0

    assert channel.written == [(PONG, True)]
