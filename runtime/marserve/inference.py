"""The data plane: a request finds its version and is given to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from marserve.directory import Directory
from marserve.errors import MarServeError
from marserve.events import (
    Bus,
    RequestAnswered,
    RequestRefused,
    RequestsAnswered,
    RequestsReceived,
)
from marserve.request import Job, OnPiece, ReplyTo, Request


class Inference:
    """What every front calls. Runs on the event loop; nothing here waits."""

    def __init__(
        self,
        directory: Directory,
        bus: Bus,
        clock: Callable[[], float],
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_stopping`: the server has been told to stop, and is not healthy any more."""
        self._directory = directory
        self._bus = bus
        self._clock = clock
        self._is_stopping = is_stopping
        self._loop = asyncio.get_running_loop()
        self._answered: list[RequestAnswered] = []
        self._received = 0

    def infer(
        self,
        name: str,
        version: str | None,
        request: Request,
        reply_to: ReplyTo,
        on_piece: OnPiece | None = None,
    ) -> Job:
        """Start answering a request; `reply_to` is called once, unless the job is abandoned.

        `on_piece` is called before that with each piece of an answer that the handler streams; the
        last piece is the answer. An error after a piece means that the rest will not come.

        Raises:
            ModelNotFound, VersionNotFound, or what `Intake.submit` raises: it is not taken, and
                `reply_to` will not be called.
        """
        job = Job(request, self._clock(), reply_to, on_piece)
        self.start(job, name, version)
        return job

    def start(self, job: Job, name: str, version: str | None) -> None:
        """As `infer`, with a job of the caller's own."""
        if not self._received:
            self._loop.call_soon(self._publish_received)
        self._received += 1
        try:
            self._directory.lookup(name, version).submit(job, version)
        except MarServeError as error:
            self._bus.publish(RequestRefused(name, error.reason or error.kind.name.lower()))
            raise

    def answered(self, answered: RequestAnswered) -> None:
        """A front has answered a request. Those of one turn of the loop are published together."""
        if not self._answered:
            self._loop.call_soon(self._publish_answered)
        self._answered.append(answered)

    def _publish_answered(self) -> None:
        answered, self._answered = self._answered, []
        self._bus.publish(RequestsAnswered(answered))

    def _publish_received(self) -> None:
        received, self._received = self._received, 0
        self._bus.publish(RequestsReceived(received))

    def is_healthy(self) -> bool:
        """Whether no model's default version lacks workers for longer than it may.

        A liveness probe must not restart a server for a crash that it is about to mend; whether
        requests can be answered now is the question of readiness.
        """
        return not self._is_stopping() and not any(
            deployment.is_given_up for deployment in self._directory.defaults()
        )
