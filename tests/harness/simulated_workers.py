"""Worker processes that are none: what the server writes to them is kept, they do as they are told.

Everything of the server is real but the processes, their sockets and the clock.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence

import msgspec

from marserve.refs import ModelRef
from marserve.workers.channel import Channel
from marserve.workers.frames import PONG, Decoder, Frame, encode
from marserve.workers.messages import (
    Batch,
    Extra,
    Failure,
    FailureKind,
    FrameKind,
    Loaded,
    LoadFailed,
    Result,
)
from marserve_handlers.wire import STREAM_NEXT

_ANY_SIZE = 1 << 40


class SimulatedSupervisor:
    """Has the face of `Supervisor`, as far as forked workers are concerned."""

    def __init__(self) -> None:
        self.environ: dict[str, str] = {}
        self.processes: list[SimulatedProcess] = []

    async def spawn(
        self,
        worker: str,
        ref: ModelRef,
        preload: tuple[str, ...],
        python: str,
        confinement: object = None,
    ) -> SimulatedProcess:
        process = SimulatedProcess(worker, 10_000 + len(self.processes))
        self.processes.append(process)
        return process

    @property
    def alive(self) -> list[SimulatedProcess]:
        """Those that have a channel and have not ended, in order of birth."""
        return [one for one in self.processes if one.channel and not one.exited.done()]


class SimulatedProcess:
    """Has the face of `WorkerProcess`. It also is the worker, and does what its methods say."""

    last_words = ""

    def __init__(self, id_: str, pid: int) -> None:
        self.id = id_
        self.pid = pid
        self.pids = [pid]
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.channel: Channel | None = None
        self.batches: list[Batch] = []
        """Those that it has got and not answered."""
        self.answered: list[Batch] = []
        self.was_killed_from_outside = False
        self.is_doomed = False
        """It was told to end, or was killed, and has not ended yet."""
        self.is_deaf = False
        """It hangs: what it is told it does not read."""
        self.on_batch: Callable[[SimulatedProcess, Batch], None] = lambda process, batch: None
        self._decoder = Decoder(_ANY_SIZE)
        self._is_loaded = False
        self._owes_an_answer = False

    # --- what the server does to it ---

    async def open_channel(
        self,
        max_frame_bytes: int,
        on_frame: Callable[[Frame], None],
        on_lost: Callable[[str | None], None],
    ) -> Channel:
        self.channel = Channel(max_frame_bytes, on_frame, on_lost)
        self.channel.connection_made(_Transport(self._written))
        return self.channel

    def kill(self) -> None:
        self._doom(signal.SIGKILL)

    def abort(self) -> None:
        self._doom(signal.SIGABRT)

    def _doom(self, number: int) -> None:
        if not self.is_doomed:
            self.is_doomed = True
            asyncio.get_running_loop().call_soon(self._end, number)

    def _written(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            if frame.kind is FrameKind.BATCH and not self.exited.done():
                batch = msgspec.msgpack.decode(frame.meta, type=Batch)
                self.batches.append(batch)
                self.on_batch(self, batch)
            elif frame.kind is FrameKind.PING and not self.exited.done():
                if self.is_deaf:
                    self._owes_an_answer = True
                else:
                    self._received(PONG)
            elif frame.kind is FrameKind.STOP:
                self.is_doomed = True
                asyncio.get_running_loop().call_soon(self._end, 0)

    # --- what it does ---

    @property
    def is_loading(self) -> bool:
        return not self._is_loaded and not self.is_doomed and self.channel is not None

    def load(self) -> None:
        self._is_loaded = True
        self._say(FrameKind.LOADED, Loaded(0.1))

    def wake_up(self) -> None:
        """It hangs no more, and answers what it was asked meanwhile."""
        self.is_deaf = False
        if self._owes_an_answer:
            self._owes_an_answer = False
            self._received(PONG)

    def fail_to_load(self) -> None:
        self._is_loaded = True
        self._say(FrameKind.LOAD_FAILED, LoadFailed("it cannot be loaded"))

    def answer(self, batch: Batch, out_of_memory: bool = False, goes_on: bool = False) -> None:
        """Each request gets its own id for an answer; or for a piece of it, if it `goes_on`."""
        self.batches.remove(batch)
        self.answered.append(batch)
        bodies = [item.id.encode() for item in batch.items]
        extras = {}
        if out_of_memory:
            failure = Failure(FailureKind.OUT_OF_MEMORY, "no more")
            extras = dict.fromkeys(range(len(bodies)), Extra(500, None, [], failure))
        if goes_on:
            piece = Extra(200, None, [(STREAM_NEXT, "true")], None)
            extras = dict.fromkeys(range(len(bodies)), piece)
        sizes = [len(body) for body in bodies]
        result = Result(batch.id, 0.01, sizes, extras, [], ran_out_of_memory=out_of_memory)
        self._say(FrameKind.RESULT, result, bodies)

    def repeat(self) -> None:
        """Send an answer again that it has given."""
        if self.answered:
            batch = self.answered[-1]
            bodies = [item.id.encode() for item in batch.items]
            sizes = [len(body) for body in bodies]
            self._say(FrameKind.RESULT, Result(batch.id, 0.01, sizes, {}, []), bodies)

    def lie(self, how: int) -> None:
        """Send what is no answer to what it has."""
        id_ = self.batches[0].id if self.batches else 1
        count = len(self.batches[0].items) if self.batches else 1
        lies = (
            (Result(id_ + 1000, 0.0, [5] * count, {}, []), [b"wrong"] * count),
            (Result(id_, 0.0, [5] * (count + 1), {}, []), [b"wrong"] * (count + 1)),
            (Result(id_, 0.0, [5] * count, {}, []), [b"wrong"] * (count - 1)),
            (Result(id_, 0.0, [-5, 10 + 5 * count][:count], {}, []), [b"wrong"] * count),
        )
        if how >= len(lies):
            self._received(b"\xff" * (how + 1))
        else:
            self._say(FrameKind.RESULT, *lies[how])

    def die(self, status: int, hangs_up_first: bool = True) -> None:
        """End by itself, or by somebody else's hand."""
        if self.exited.done():
            return
        self.is_doomed = True
        self.was_killed_from_outside = status == signal.SIGKILL
        if not hangs_up_first:
            self.exited.set_result(status)
            asyncio.get_running_loop().call_soon(self._hang_up)
        else:
            self._hang_up()
            asyncio.get_running_loop().call_soon(self._end, status)

    def _end(self, status: int) -> None:
        if not self.exited.done():
            self.exited.set_result(status)
            self._hang_up()

    def _hang_up(self) -> None:
        if self.channel is not None:
            self.channel.connection_lost(None)

    def _say(self, kind: FrameKind, meta: msgspec.Struct, bodies: Sequence[bytes] = ()) -> None:
        self._received(encode(kind, msgspec.msgpack.encode(meta), bodies))

    def _received(self, data: bytes) -> None:
        if self.channel is not None and not self.exited.done():
            self.channel.data_received(data)


class _Transport(asyncio.Transport):
    """Where the server writes to."""

    def __init__(self, written: Callable[[bytes], None]) -> None:
        super().__init__()
        self._written = written

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written(bytes(data))

    def writelines(self, list_of_data: object) -> None:
        self._written(b"".join(bytes(one) for one in list_of_data))  # type: ignore[attr-defined]

    def abort(self) -> None:
        self._written = lambda data: None


def exit_status(code: int) -> int:
    """The wait status of a process that exited with `code`."""
    assert os.WEXITSTATUS(code << 8) == code
    return code << 8
