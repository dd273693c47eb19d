"""StreamPredictions2: the requests of sequences come in on one call, their answers go out on it.

A request that cannot be served gets a message that says so, and the call goes on. When the client
has sent its last request, the answers that are outstanding still go out. While as many requests as
one call may have are unanswered, no more are read, so a client is slowed down, not refused.
"""

from __future__ import annotations

import asyncio
from typing import cast

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from marserve.errors import MarServeError
from marserve.protocols.grpc_status import (
    SEQUENCE_ID_MISSING,
    CallRefused,
    Failure,
    Plane,
    failure,
    stopping,
)
from marserve.protocols.pb.inference_pb2 import PredictionResponse, PredictionsRequest
from marserve.request import Answer
from marserve.servers.grpc_inference import Asked, Outbox, Outcome, Predictor, parts
from marserve.servers.grpc_methods import Peer, Stream

MAX_UNANSWERED = 100
"""Requests of one call that are read and not answered yet."""


class SequenceService:
    """Serves StreamPredictions2.

    Args:
        predictor: answers the requests.
        id_header: the request header in which handlers find the id of the sequence.
        closing: set when the server stops; a call then ends as if the client had sent its last
            request, and with UNAVAILABLE, because the client meant to go on.
    """

    def __init__(self, predictor: Predictor, id_header: str, closing: asyncio.Event) -> None:
        self._predictor = predictor
        self._id_header = id_header
        self._closing = closing

    async def stream_predictions(self, stream: Stream, peer: Peer) -> None:
        """One call."""
        conversation = _Conversation(self._predictor, self._id_header, peer)
        reading = asyncio.create_task(self._read(stream, conversation))
        try:
            async for message in conversation.outbox.messages():
                await stream.write(message)
            await reading  # it is done; this raises what it raised
        finally:
            reading.cancel()
            conversation.abandon()

    async def _read(self, stream: Stream, conversation: _Conversation) -> None:
        """Take requests until there are no more, or until the server stops."""
        taking = asyncio.create_task(_take_all(stream, conversation))
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait((taking, closing), return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                raise CallRefused(stopping())
            taking.result()
        finally:
            taking.cancel()
            closing.cancel()
            conversation.no_more()


async def _take_all(stream: Stream, conversation: _Conversation) -> None:
    while True:
        await conversation.room()
        request = await stream.read()
        if request is None:
            return
        conversation.take(cast("PredictionsRequest", request))


class _Conversation:
    """The requests of one call that are not answered yet, and the messages that go out."""

    def __init__(self, predictor: Predictor, id_header: str, peer: Peer) -> None:
        self.outbox = Outbox()
        self._predictor = predictor
        self._id_header = id_header
        self._peer = peer
        self._unanswered: set[Asked] = set()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_last_taken = False

    async def room(self) -> None:
        """Wait until one more request may be read."""
        await self._has_room.wait()

    def take(self, request: PredictionsRequest) -> None:
        """Start answering one request; whatever is wrong with it is said in its answer."""
        sequence_id = request.sequence_id
        try:
            self._ask(request, sequence_id)
        except (CallRefused, MarServeError) as error:
            self.outbox.put(_refusal(failure(error, Plane.PREDICTION), sequence_id))

    def no_more(self) -> None:
        """The last request is taken: end when the last answer is out."""
        self._is_last_taken = True
        self._close_if_done()

    def abandon(self) -> None:
        """The call is over."""
        for asked in self._unanswered:
            asked.give_up()

    def _ask(self, request: PredictionsRequest, sequence_id: str) -> None:
        if not sequence_id:
            raise CallRefused(SEQUENCE_ID_MISSING)

        def on_piece(_asked: Asked, piece: Answer) -> None:
            message = PredictionResponse(prediction=piece.body, sequence_id=sequence_id)
            if not self.outbox.put(message):
                self.abandon()

        def on_outcome(asked: Asked, outcome: Outcome) -> None:
            self._unanswered.discard(asked)
            self._has_room.set()
            if isinstance(outcome, CallRefused):
                self.outbox.put(_refusal(outcome.failure, sequence_id))
            else:
                on_piece(asked, outcome)
            self._close_if_done()

        headers = ((self._id_header, sequence_id),)
        asked = self._predictor.ask(
            self._peer,
            request.model_name,
            request.model_version,
            parts(request),
            headers,
            on_outcome,
            on_piece,
        )
        if asked.is_open:
            self._unanswered.add(asked)
        if len(self._unanswered) >= MAX_UNANSWERED:
            self._has_room.clear()

    def _close_if_done(self) -> None:
        if self._is_last_taken and not self._unanswered:
            self.outbox.close()


def _refusal(told: Failure, sequence_id: str) -> PredictionResponse:
    """The message for a request that has no prediction."""
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=told.reason))
    status = Status(code=told.code, message=told.message, details=[detail])
    message = PredictionResponse(status=status)
    if sequence_id:
        message.sequence_id = sequence_id
    return message
