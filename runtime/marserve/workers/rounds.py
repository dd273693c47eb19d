"""One step of continuous batching: who has an answer, who goes on, and who joins them.

A result is a piece for the requests that go on, and the answer of the others. Knows no workers:
what it decides is carried out by their pool.
"""

from __future__ import annotations

import logging
from typing import Protocol

from marserve.model_version import SequenceHeaders
from marserve.request import Answer, Job, Reply
from marserve.workers.replies import ended_sequences, will_go_on

_log = logging.getLogger("marserve.workers")


class Listener(Protocol):
    """Who learns of the steps of a round."""

    def on_answered(self, jobs: list[Job], took_s: float) -> None:
        """These came back from a worker, for good."""

    def on_room(self, worker: str, room: int) -> list[Job]:
        """Jobs, up to `room` of them, that join those this worker goes on with."""
        ...

    def on_sequences_end(self, sequences: list[str]) -> None:
        """The handler says that these sequences are over."""


class Rounds:
    """Takes the steps of all rounds of a version, each of at most `size` requests."""

    def __init__(self, size: int, headers: SequenceHeaders | None, listener: Listener) -> None:
        self._size = size
        self._headers = headers
        self._listener = listener

    def step(self, jobs: list[Job], answers: list[Reply], took_s: float) -> list[Job]:
        """Hand out pieces and answers; returns the jobs that go on."""
        are_pieces = [will_go_on(job, reply) for job, reply in zip(jobs, answers, strict=True)]
        done = [job for job, is_piece in zip(jobs, are_pieces, strict=True) if not is_piece]
        self._listener.on_answered(done, took_s)
        for job, reply, is_piece in zip(jobs, answers, are_pieces, strict=True):
            ended = ended_sequences(reply, self._headers)
            if ended:
                self._listener.on_sequences_end(ended)
            if is_piece and isinstance(reply, Answer):
                job.stream(reply)
            else:
                job.resolve(reply)
        pieced = [job for job, is_piece in zip(jobs, are_pieces, strict=True) if is_piece]
        left = [job for job in pieced if not job.is_open]
        for job in left:
            _log.info("Connection to client got closed; Removing job: %s", job.request.id)
        if left:
            self._listener.on_answered(left, took_s)
        return [job for job in pieced if job not in left]

    def joining(self, worker: str, going_on: int) -> list[Job]:
        """Who joins the `going_on` requests of this worker."""
        room = self._size - going_on
        return self._listener.on_room(worker, room) if room > 0 else []
