"""TorchServe's inference service over gRPC: messages to jobs, pieces and answers to messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeAlias, cast

from google.protobuf.empty_pb2 import Empty

from marserve.errors import MarServeError
from marserve.events import RequestAnswered
from marserve.inference import Inference
from marserve.protocols.faults import torchserve_json
from marserve.protocols.grpc_status import (
    MODEL_NAME_MISSING,
    CallRefused,
    Plane,
    failure,
    too_slow,
)
from marserve.protocols.pb.inference_pb2 import (
    PredictionResponse,
    PredictionsRequest,
    TorchServeHealthResponse,
)
from marserve.protocols.terms import share_of
from marserve.request import Answer, Header, Job, Reply, Request, RequestPart
from marserve.servers.grpc_methods import Asking, Peer
from marserve.servers.request_ids import RequestIds

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""What may wait for one client that reads more slowly than its handler streams."""

Outcome: TypeAlias = Answer | CallRefused

_MESSAGE_BYTES = 100
"""What a message weighs besides its prediction."""
_NO_RETRY: Header = ("x-no-retry", "1")
"""How a request says that it must not be executed twice, whatever it came over."""
_GONE_STATUS = 499
"""How a request counts whose client went away."""


class Predictor:
    """Gives requests to the data plane, and tells the bus how each one ended."""

    def __init__(self, inference: Inference, clock: Callable[[], float]) -> None:
        self._inference = inference
        self._clock = clock
        self._ids = RequestIds()

    @property
    def is_healthy(self) -> bool:
        """Whether the models are well."""
        return self._inference.is_healthy()

    async def predict(
        self, peer: Peer, name: str, version: str, parts: list[RequestPart]
    ) -> Answer:
        """The one answer to a request, streamed pieces joined.

        Raises:
            CallRefused: there is none.
        """
        replied: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def on_outcome(_asked: Asked, outcome: Outcome) -> None:
            if not replied.done():  # a call that was cancelled a moment ago
                replied.set_result(outcome)

        asked = self.ask(peer, name, version, parts, (), on_outcome)
        try:
            outcome = await replied
        finally:
            asked.give_up()
        if isinstance(outcome, CallRefused):
            raise outcome
        return outcome

    def ask(
        self,
        peer: Peer,
        name: str,
        version: str,
        parts: list[RequestPart],
        headers: tuple[Header, ...],
        on_outcome: Callable[[Asked, Outcome], None],
        on_piece: Callable[[Asked, Answer], None] | None = None,
    ) -> Asked:
        """Start answering a request; `on_outcome` is called once, unless it is abandoned.

        Raises:
            CallRefused: it is not taken, and `on_outcome` will not be called.
        """
        if not name:
            raise CallRefused(MODEL_NAME_MISSING)
        if not peer.may_repeat:
            headers = (*headers, _NO_RETRY)
        request = Request(self._ids.draw(), list(headers), parts)
        asked = Asked(self, peer, name, version or None, request, self._clock())
        asked.on_outcome = on_outcome
        if peer.deadline is not None:
            asked.deadline = peer.deadline
        if peer.terms is not None:
            asked.priority = peer.terms.priority
        if on_piece is not None:
            asked.on_piece = on_piece
        try:
            self._inference.start(asked, name, version or None)
        except MarServeError as error:
            asked.abandon()
            raise self.refused(asked, error) from error
        return asked

    def refused(self, asked: Asked, error: MarServeError) -> CallRefused:
        """A request got an error: how that looks to a gRPC client."""
        told = failure(error, Plane.PREDICTION)
        self.ended(asked, told.http_status)
        return CallRefused(told)

    def ended(self, asked: Asked, status: int) -> None:
        """Tell the bus how a request has ended; `status` is what it is to an HTTP client."""
        latency_s = self._clock() - asked.queued_at
        origin = asked.peer.origin
        self._inference.answered(
            RequestAnswered(asked.name, asked.version, status, latency_s, origin)
        )


class Asked(Job):
    """One request that was given to the data plane, until its end is told to the bus."""

    on_outcome: Callable[[Asked, Outcome], None]
    """Called once with how it has ended, unless it is given up."""
    on_piece: Callable[[Asked, Answer], None] | None = None
    """Called with each piece of its answer; None: whoever asks wants it whole."""

    def __init__(
        self,
        predictor: Predictor,
        peer: Peer,
        name: str,
        version: str | None,
        request: Request,
        queued_at: float,
    ) -> None:
        self.request = request
        self.queued_at = queued_at
        self.peer = peer
        self.name = name
        self.version = version
        self._predictor = predictor

    @property
    def client(self) -> str:
        """Who asks, as far as shares are concerned."""
        return share_of(self.peer.terms, self.peer.origin.client)

    def deliver(self, reply: Reply) -> None:
        """It got its answer. A status that the handler chose is none of gRPC's concern."""
        outcome: Outcome
        if isinstance(reply, Answer):
            self._predictor.ended(self, 200)
            outcome = reply
        else:
            outcome = self._predictor.refused(self, reply)
        self.on_outcome(self, outcome)

    def deliver_piece(self, piece: Answer) -> bool:
        """It got a piece of its answer."""
        if self.on_piece is None:
            return False
        self.on_piece(self, piece)
        return True

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        if self.is_open:
            self.abandon()
            self._predictor.ended(self, _GONE_STATUS)


class Outbox:
    """Messages for a client, in order, until the last one; bounded by what they weigh."""

    def __init__(self, limit_bytes: int = MAX_WAITING_BYTES) -> None:
        self._queue: asyncio.Queue[PredictionResponse | Exception | None] = asyncio.Queue()
        self._limit_bytes = limit_bytes
        self._bytes = 0

    def put(self, message: PredictionResponse) -> bool:
        """Send a message when its turn comes. False: the client is too slow, and gets an error."""
        self._bytes += len(message.prediction) + _MESSAGE_BYTES
        if self._bytes > self._limit_bytes:
            self._queue = asyncio.Queue()
            self.fail(CallRefused(too_slow(self._limit_bytes)))
            return False
        self._queue.put_nowait(message)
        return True

    def fail(self, error: Exception) -> None:
        """End with an error, after what is sent before it."""
        self._queue.put_nowait(error)

    def close(self) -> None:
        """End, after what is sent before."""
        self._queue.put_nowait(None)

    async def messages(self) -> AsyncIterator[PredictionResponse]:
        """All messages to the last; raises what `fail` was given."""
        while True:
            message = await self._queue.get()
            if message is None:
                return
            if isinstance(message, Exception):
                raise message
            self._bytes -= len(message.prediction) + _MESSAGE_BYTES
            yield message


class InferenceService:
    """Ping, Predictions and StreamPredictions."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    async def ping(self, _request: Empty, _peer: Peer) -> TorchServeHealthResponse:
        """Whether the models are well, as JSON text."""
        health = "Healthy" if self._predictor.is_healthy else "Unhealthy"
        text = torchserve_json({"status": health}).decode().removesuffix("\n")
        return TorchServeHealthResponse(health=text)

    def predictions(self, request: PredictionsRequest, call: Asking) -> None:
        """One request, one answer."""
        asked = self._predictor.ask(
            call, request.model_name, request.model_version, parts(request), (), _answer
        )
        call.on_gone = asked.give_up

    async def stream_predictions(
        self, request: PredictionsRequest, peer: Peer
    ) -> AsyncGenerator[PredictionResponse, None]:
        """One request; a message per piece, the handler's last return included."""
        outbox = Outbox()

        def on_piece(asked: Asked, piece: Answer) -> None:
            if not outbox.put(PredictionResponse(prediction=piece.body)):
                asked.give_up()

        def on_outcome(_asked: Asked, outcome: Outcome) -> None:
            if isinstance(outcome, CallRefused):
                outbox.fail(outcome)
            elif outbox.put(PredictionResponse(prediction=outcome.body)):
                outbox.close()

        asked = self._predictor.ask(
            peer,
            request.model_name,
            request.model_version,
            parts(request),
            (),
            on_outcome,
            on_piece,
        )
        try:
            async for message in outbox.messages():
                yield message
        finally:
            asked.give_up()


def _answer(asked: Asked, outcome: Outcome) -> None:
    call = cast(Asking, asked.peer)
    try:
        if isinstance(outcome, CallRefused):
            call.fail(outcome)
        else:
            call.reply(PredictionResponse(prediction=outcome.body))
    except Exception as error:  # noqa: BLE001  batch-mates must get their answers
        call.fail(error)


def parts(request: PredictionsRequest) -> list[RequestPart]:
    """The row: a value without a content type reaches the handler as a bytearray."""
    values = request.input
    return [(name, "", values[name]) for name in values]  # its items() would be slow Python
