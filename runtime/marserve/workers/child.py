"""The life of a worker process, inside it: load one model, answer batches until told to stop.

Everything here runs in the child. The channel is a blocking socket; when it ends, so does the
process. Exceptions of user code never cross the process line as objects: the server gets kind and
message, the worker's own output gets the traceback.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import io
import logging
import os
import select
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import NoReturn

import msgspec

from marserve.heap import keep_freed_memory
from marserve.workers import handler_environ, outcomes, sandbox
from marserve.workers.async_model import AsyncModel
from marserve.workers.frames import PONG, Buffer, Decoder, Frame, encode_pieces
from marserve.workers.idle_memory import IdleMemory, trim
from marserve.workers.loaded_model import LoadedModel
from marserve.workers.messages import Batch, FrameKind, Load, Loaded, LoadFailed, Result, Threads
from marserve_handlers.errors import HandlerError

_MAX_FRAME_BYTES = 1 << 40
"""The server is trusted with sizes: it has bounded every request before."""
_READ_BYTES = 1 << 18
_MAX_LOAD_MESSAGE_CHARS = 600
_FIRST_OWN_FD = 200
"""Handlers that close what they did not open begin with the small numbers."""
_LAST_WORDS_S = 0.5
"""How long a handler has to clear up when the server is gone."""


def main(channel: socket.socket, outputs: tuple[int, int]) -> NoReturn:
    """Serve one model over `channel`; what the handler prints goes to the `outputs`."""
    status = 1
    try:
        _redirect_output(*outputs)
        channel = _out_of_reach(channel)
        threading.Thread(target=_end_with, args=(channel,), daemon=True).start()
        keep_freed_memory()
        status = _Worker(channel).run()
    except (BrokenPipeError, ConnectionResetError):
        status = 0
    except BaseException:  # noqa: BLE001  the last frame of the process: there is nobody else to tell
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Worker:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._pid = os.getpid()
        self._memory = IdleMemory(channel)
        self._decoder = Decoder(_MAX_FRAME_BYTES)
        self._frames: list[Frame] = []
        self._sending = threading.Lock()

    def run(self) -> int:
        frame = self._next_frame()
        if frame is None or frame.kind is not FrameKind.LOAD:
            return 0
        load = msgspec.msgpack.decode(frame.meta, type=Load)
        model = self._load(load)
        if model is None:
            return 1
        if isinstance(model, AsyncModel):
            model.serve(self._channel, self._decoder)
            return 0
        batches = msgspec.msgpack.Decoder(Batch)
        while (frame := self._next_frame()) is not None:
            if frame.kind is FrameKind.PING:
                with self._sending:  # it must not get into the middle of a piece
                    self._channel.sendall(PONG)
                self._memory.asked()
                continue
            if frame.kind is FrameKind.THREADS:
                model.threads.use(msgspec.msgpack.decode(frame.meta, type=Threads).threads)
                continue
            if frame.kind is not FrameKind.BATCH:
                break
            self._answer(model, batches.decode(frame.meta), frame.buffers)
            self._memory.work_done()
        model.close()
        return 0

    def _answer(self, model: LoadedModel, batch: Batch, buffers: memoryview) -> None:
        """Nothing of the answer is held afterwards: its bodies may be buffers of the handler."""
        result, bodies = model.answer(batch, buffers)
        self._send(FrameKind.RESULT, result, bodies)

    def _load(self, load: Load) -> LoadedModel | AsyncModel | None:
        started = time.monotonic()
        advice = handler_environ.remedy(os.environ)  # before the handler changes them
        try:
            model = AsyncModel(load) if load.is_async else LoadedModel(load, self._send_piece)
        except BaseException as error:  # noqa: BLE001  user code: whatever it raises is its cause
            traceback.print_exc()
            _tell(advice)
            message = str(error) if isinstance(error, HandlerError) else outcomes.sentence(error)
            # the whole of it is in the log
            line = " ".join(f"{message} {sandbox.remedy(error)}".split())
            failed = LoadFailed(line[:_MAX_LOAD_MESSAGE_CHARS], outcomes.is_out_of_memory(error))
            self._send(FrameKind.LOAD_FAILED, failed)
            return None
        gc.collect()
        gc.freeze()
        trim()
        self._send(FrameKind.LOADED, Loaded(time.monotonic() - started))
        return model

    def _next_frame(self) -> Frame | None:
        while not self._frames:
            try:
                if not self._receive():
                    return None
            except BlockingIOError:
                self._memory.rest()
        return self._frames.pop(0)

    def _receive(self) -> bool:
        """Read once; False: the server has hung up."""
        decoder = self._decoder
        if decoder.room is None:
            data = self._channel.recv(_READ_BYTES)
            self._frames.extend(decoder.feed(data))
            return len(data) > 0
        count = self._channel.recv_into(decoder.room)
        frame = decoder.filled(count)
        if frame is not None:
            self._frames.append(frame)
        return count > 0

    def _send(self, kind: FrameKind, meta: msgspec.Struct, buffers: Sequence[Buffer] = ()) -> None:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # the handler's to break
            sys.stdout.flush()
        if os.getpid() != self._pid:  # the handler has forked, and this is not the worker
            os._exit(1)
        data = encode_pieces(kind, msgspec.msgpack.encode(meta), buffers)
        with self._sending:  # the handler may stream from a thread of its own
            for piece in (data,) if isinstance(data, bytes) else data:
                self._channel.sendall(piece)

    def _send_piece(self, result: Result, bodies: list[Buffer]) -> None:
        self._send(FrameKind.PIECE, result, bodies)


def _tell(advice: str) -> None:
    """The model's log, after the cause."""
    if advice:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # the handler's to break
            sys.stderr.write(f"{advice}\n")


def _end_with(channel: socket.socket) -> None:
    """End this process when the server is gone, whatever the handler is waiting for."""
    hanging_up = select.poll()
    hanging_up.register(channel, select.POLLRDHUP)
    hanging_up.poll()
    time.sleep(_LAST_WORDS_S)
    os._exit(0)


def _out_of_reach(channel: socket.socket) -> socket.socket:
    with contextlib.suppress(OSError, ValueError):  # so many descriptors may not be allowed
        moved = fcntl.fcntl(channel, fcntl.F_DUPFD_CLOEXEC, _FIRST_OWN_FD)
        channel.close()
        return socket.socket(fileno=moved)
    return channel


def _redirect_output(stdout_fd: int, stderr_fd: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(stdout_fd, 1)
    os.dup2(stderr_fd, 2)
    for descriptor in (null, stdout_fd, stderr_fd):
        os.close(descriptor)
    sys.stdout, sys.stderr = _writer(1), _writer(2)
    faulthandler.enable(sys.stderr)
    # what handlers log reaches the model's log, as what they print does
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO, force=True)


def _writer(descriptor: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="replace", line_buffering=True)
