"""The channels to the ranks of one worker, which together look like one channel.

Every rank loads the model. In step (tp, pptp) every rank runs every batch, rank 0's answer is the
answer, and it counts once all ranks have answered: a rank that lags would otherwise pair what it
computes for this batch with what the others compute for the next. Out of step (pp) rank 0 alone
is given batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from socket import socket

import msgspec

from marserve.workers.channel import Channel
from marserve.workers.frames import Frame
from marserve.workers.messages import FailureKind, FrameKind, Load, Result

_MISSTEPS = (FailureKind.RAISED, FailureKind.OUT_OF_MEMORY)
"""Failures after which a rank may have left its part of a batch undone."""


class RankChannels:
    """Has the face of `Channel`. `on_lost` is called once, when the first rank has hung up; after
    STOP, when all have.
    """

    has_unsent = False
    """Nobody can say that: some rank may have the whole of it."""

    def __init__(
        self,
        is_in_step: bool,
        on_frame: Callable[[Frame], None],
        on_lost: Callable[[str | None], None],
    ) -> None:
        self._is_in_step = is_in_step
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._channels: list[Channel] = []
        self._loaded: set[int] = set()
        self._hung_up: set[int] = set()
        self._answers: dict[int, dict[int, tuple[Frame, set[int]]]] = {}
        """By batch, by rank; with each the rows that failed."""
        self._results = msgspec.msgpack.Decoder(Result)
        self._has_failed_to_load = False
        self._is_stopping = False
        self._is_over = False

    async def connect(self, sockets: Sequence[socket], max_frame_bytes: int) -> None:
        """Take over the connections of all ranks, in order."""
        loop = asyncio.get_running_loop()
        for rank, sock in enumerate(sockets):
            channel = Channel(
                max_frame_bytes, partial(self._received, rank), partial(self._lost, rank)
            )
            self._channels.append(channel)
            await loop.create_connection(lambda channel=channel: channel, sock=sock)  # type: ignore[misc]

    def send(self, kind: FrameKind, meta: object, buffers: Sequence[bytes] = ()) -> None:
        """Queue one frame for the ranks that it concerns."""
        self._is_stopping |= kind is FrameKind.STOP
        for rank, channel in enumerate(self._channels):
            if isinstance(meta, Load):
                # a rank sees only the devices of its worker, and its own is the one of its number
                gpu_id = meta.gpu_id if meta.gpu_id is None or len(self._channels) == 1 else rank
                own = msgspec.structs.replace(meta, gpu_id=gpu_id, in_step=self._is_in_step)
                channel.send(kind, own)
            elif rank == 0 or kind is not FrameKind.BATCH or self._is_in_step:
                channel.send(kind, meta, buffers)

    def close(self, reason: str | None) -> None:
        """Drop all connections now; `on_lost` gets `reason`."""
        self._end(reason)
        for channel in self._channels:
            channel.close(None)

    async def drained(self) -> None:
        """Wait until what dead ranks had still sent is read; bounded."""
        await asyncio.gather(*(channel.drained() for channel in self._channels))

    def _received(self, rank: int, frame: Frame) -> None:
        match frame.kind:
            case FrameKind.LOADED:
                self._loaded.add(rank)
                if len(self._loaded) == len(self._channels):
                    self._on_frame(frame)  # the last one's, who took longest
            case FrameKind.LOAD_FAILED:
                if not self._has_failed_to_load:
                    self._has_failed_to_load = True
                    self._on_frame(frame)
            case FrameKind.RESULT if self._is_in_step:
                self._collect(rank, frame)
            case _ if rank == 0:
                self._on_frame(frame)

    def _collect(self, rank: int, frame: Frame) -> None:
        result = self._results.decode(frame.meta)
        answers = self._answers.setdefault(result.id, {})
        answers[rank] = frame, _missteps(result)
        if len(answers) < len(self._channels):
            return
        del self._answers[result.id]
        first, failed = answers[0]
        self._on_frame(first)
        if any(failed - others for _, others in answers.values()):
            self.close("rank 0 failed where another did not, so they may be out of step")

    def _lost(self, rank: int, reason: str | None) -> None:
        self._hung_up.add(rank)
        ranks = len(self._channels)
        if self._is_stopping and reason is None:
            if len(self._hung_up) == ranks:
                self._end(None)
            return
        if reason is None:
            reason = (
                f"rank {rank} of its {ranks} processes has ended"
                if ranks > 1
                else "its process has ended"
            )
        self._end(reason)

    def _end(self, reason: str | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._on_lost(reason)


def _missteps(result: Result) -> set[int]:
    return {
        index
        for index, extra in result.extras.items()
        if extra.failure is not None and extra.failure.kind in _MISSTEPS
    }
