"""A handler that is awaited: every request by itself, as many at a time as the server sends.

Runs in the child, on an event loop of its own. Each request gets a copy of the context as it was
after loading, one row, and a task; what the handler attached to the context is copied with it.
"""

from __future__ import annotations

import asyncio
import copy
import socket
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from marserve.workers import outcomes
from marserve.workers.frames import PONG, Decoder, Frame, encode
from marserve.workers.loaded_model import deadlines, piece, prepare
from marserve.workers.messages import (
    Batch,
    BatchItem,
    FailureKind,
    FrameKind,
    Load,
    Result,
    Threads,
)
from marserve.workers.outcomes import ItemAnswer
from marserve.workers.rows import headers, rows
from marserve.workers.worker_threads import WorkerThreads
from marserve_handlers.contract import Context
from marserve_handlers.wire import STREAM_NEXT

_READ_BYTES = 1 << 18


class AsyncModel:
    """An asynchronous handler."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.threads = WorkerThreads()
        self.threads.use(load.threads)
        self._entry, self._context = prepare(load)
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)  # handlers may ask for it while they initialise
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches = msgspec.msgpack.Decoder(Batch)
        self._handle: Any = self._entry.handle
        if load.envelope:
            from marserve_handlers.envelopes import wrap  # few servers have one

            self._handle = wrap(load.envelope, self._entry.handle, is_async=True)
        self._entry.initialize(self._context)

    def serve(self, channel: socket.socket, decoder: Decoder) -> None:
        """Answer what comes over `channel` until it ends or says stop."""
        channel.setblocking(False)
        try:
            self._loop.run_until_complete(self._serve(channel, decoder))
        finally:
            self._entry.close()

    async def _serve(self, channel: socket.socket, decoder: Decoder) -> None:
        writer = self._loop.create_task(self._write(channel))
        reader = self._loop.create_task(self._read(channel, decoder))
        await asyncio.wait((writer, reader), return_when=asyncio.FIRST_COMPLETED)
        for task in (writer, reader):
            task.cancel()

    async def _write(self, channel: socket.socket) -> None:
        while True:
            await self._loop.sock_sendall(channel, await self._outgoing.get())

    async def _read(self, channel: socket.socket, decoder: Decoder) -> None:
        while (frames := await self._received(channel, decoder)) is not None:
            for frame in frames:
                if frame.kind is FrameKind.PING:
                    self._outgoing.put_nowait(PONG)
                    continue
                if frame.kind is FrameKind.THREADS:
                    self.threads.use(msgspec.msgpack.decode(frame.meta, type=Threads).threads)
                    continue
                if frame.kind is not FrameKind.BATCH:
                    return
                batch = self._batches.decode(frame.meta)
                [item] = batch.items
                task = self._loop.create_task(self._answer(batch, item, frame.buffers))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _received(self, channel: socket.socket, decoder: Decoder) -> list[Frame] | None:
        """The frames that one read completes; None: the server has hung up."""
        if decoder.room is None:
            data = await self._loop.sock_recv(channel, _READ_BYTES)
            return list(decoder.feed(data)) if data else None
        count = await self._loop.sock_recv_into(channel, decoder.room)
        frame = decoder.filled(count)
        if frame is not None:
            return [frame]
        return [] if count else None

    async def _answer(self, batch: Batch, item: BatchItem, buffers: memoryview) -> None:
        started = time.monotonic()
        context, (body, extra) = await self._run(batch, item, buffers)
        body = bytes(body)  # other tasks of the handler may change it meanwhile
        await asyncio.sleep(0)  # pieces that the handler has just sent go first
        metrics = outcomes.told_metrics(context.metrics.drain())
        extras = {} if extra is None else {0: extra}
        failed = None if extra is None else extra.failure
        ran_out = failed is not None and failed.kind is FailureKind.OUT_OF_MEMORY
        handler_s = time.monotonic() - started
        result = Result(
            batch.id, handler_s, [len(body)], extras, metrics, ran_out_of_memory=ran_out
        )
        self._send(FrameKind.RESULT, result, [body])

    async def _run(
        self, batch: Batch, item: BatchItem, buffers: memoryview
    ) -> tuple[Context, ItemAnswer]:
        context = self._context
        has_streamed = False

        def send_intermediate(results: list[Any], of: Context) -> None:
            nonlocal has_streamed
            has_streamed = True
            result, bodies = piece(batch.id, results, of, 1, self._load)
            copies = [bytes(body) for body in bodies]  # they are the handler's again at once
            self._loop.call_soon_threadsafe(self._send, FrameKind.PIECE, result, copies)

        try:
            context = copy.deepcopy(self._context)
            context.begin_batch([item.id], [headers(item)])
            if batch.left_s is not None:
                context.deadlines = tuple(deadlines(batch, time.monotonic()).values())
            context.send_intermediate = send_intermediate
            outputs = await self._handle(rows([item], buffers, self._load.decode_input), context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  user code: answered, not propagated
            outcomes.tell(error, [item.id])
            outcomes.leave_with_lost_device(error)
            return context, outcomes.raised(error)
        problem = outcomes.complaint(outputs, 1)
        if problem is not None:
            return context, outcomes.failure(FailureKind.BAD_OUTPUT, problem)
        if has_streamed:
            context.set_response_header(0, STREAM_NEXT, "false")
        return context, outcomes.encoded(outputs[0], 0, context, self._load.max_response_bytes)

    def _send(self, kind: FrameKind, result: Result, bodies: Sequence[bytes]) -> None:
        self._outgoing.put_nowait(encode(kind, msgspec.msgpack.encode(result), bodies))
