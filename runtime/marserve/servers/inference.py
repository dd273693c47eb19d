"""The inference port: exchanges to requests, replies to answers. Runs on the event loop.

The hot path is callbacks: an exchange becomes a request and a job, and when the job is resolved
its answer is written. Nothing is awaited and no task is made. What can be known from a head alone
is found out once for all requests that repeat it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from marserve.errors import InvalidInput, MarServeError, WorkflowNotFound
from marserve.events import Bus, HttpAnswered, Origin, RequestAbandoned, RequestAnswered
from marserve.inference import Inference
from marserve.protocols import torchserve
from marserve.protocols.cors import NO_CORS, Cors
from marserve.protocols.faults import Fault, fault, fault_body, torchserve_json
from marserve.protocols.heads import Heads, has_body
from marserve.protocols.terms import Terms, share_of, terms
from marserve.request import Answer, Header, Job, Reply, Request, RequestPart
from marserve.servers.about import About
from marserve.servers.exchange import Exchange
from marserve.servers.refusals import refusal
from marserve.servers.request_ids import RequestIds
from marserve.servers.routes import Operation, Routes, Target, is_public

_log = logging.getLogger("marserve.servers")
_MAX_CACHED_TARGETS = 1024
_LARGE_FORM_BYTES = 256 * 1024
_FORM_READERS = 2
_MAX_WARNED = 1024
_INFER = Operation.INFER  # reading it off the enum takes longer than comparing with it
_JSON: Header = ("content-type", "application/json")


class Workflows(Protocol):
    """Who runs workflows."""

    def predict(
        self, name: str, request: Request, reply_to: Callable[[Reply], None]
    ) -> Callable[[], None]:
        """Start running a workflow; `reply_to` is called once.

        Returns what to call when nobody waits for the outcome any more.

        Raises:
            WorkflowNotFound, WorkflowFailed: it cannot be run, and `reply_to` will not be called.
        """
        ...


@dataclass(frozen=True, slots=True)
class FrontOptions:
    """What an operator can choose about the inference port."""

    max_request_bytes: int
    cors: Cors = NO_CORS
    open_inference_protocol: bool = False
    authorize: Callable[[str | None], None] | None = None
    """Raises unless this `Authorization` header may pass; None: everybody may."""
    trusts_clients: bool = False
    """Whether to believe how urgent clients call their requests, and who they say they are."""


class _Reading:
    """What the head of an exchange means here; the same for all that repeat it."""

    __slots__ = ("kind", "origin", "target", "terms")

    def __init__(
        self, target: Target, kind: str | None, origin: Origin, terms: Terms | None = None
    ) -> None:
        self.target = target
        self.kind = kind
        """The content type of a body that is one part; None: the body says its parts."""
        self.origin = origin
        self.terms = terms
        """What the client says of the request besides its content; None: nothing."""


class _Call(Job):
    """A job whose answer goes to an exchange."""

    def __init__(
        self,
        front: InferenceFront,
        exchange: Exchange,
        reading: _Reading,
        request: Request,
        queued_at: float,
    ) -> None:
        self.request = request
        self.queued_at = queued_at
        self._front = front
        self._exchange = exchange
        self._reading = reading

    @property
    def client(self) -> str:
        """Who asks, as far as shares are concerned."""
        return share_of(self._reading.terms, self._reading.origin.client)

    def deliver(self, reply: Reply) -> None:
        """Write the answer."""
        self._front.answer(self._exchange, self._reading, self.request.id, reply)

    def deliver_piece(self, piece: Answer) -> bool:
        """Write a piece of the answer."""
        if not self._front.answer_piece(self._exchange, self._reading, self.request.id, piece):
            self.abandon()
        return True

    def gone(self) -> None:
        """The client has hung up."""
        self._front.abandon(self, self._reading.target.name)


class InferenceFront:
    """Serves TorchServe's inference API over whatever carries exchanges."""

    def __init__(
        self,
        inference: Inference,
        about: About,
        bus: Bus,
        clock: Callable[[], float],
        options: FrontOptions,
        only_model: Callable[[], str | None] = lambda: None,
        workflows: Workflows | None = None,
    ) -> None:
        """`only_model`: the one model of the start, if it was exactly one (for `/invocations`)."""
        self._inference = inference
        self._about = about
        self._bus = bus
        self._clock = clock
        self._max_request_bytes = options.max_request_bytes
        self._cors = options.cors
        self._authorize = options.authorize
        self._trusts_clients = options.trusts_clients
        self._is_guarded = options.authorize is not None or options.cors.origin is not None
        self._only_model = only_model
        self._workflows = workflows
        self._heads = Heads(options.cors)
        self._ids = RequestIds()
        self._routes = Routes(options.open_inference_protocol)
        self._targets: dict[tuple[bytes, bytes], Target] = {}
        self._warned: set[str] = set()
        self._readers: ThreadPoolExecutor | None = None

    def on_request(self, exchange: Exchange) -> None:
        """Serve one exchange, now or when its answer is there."""
        try:
            if self._is_guarded and not self._lets_pass(exchange):
                return
            reading = exchange.head.reading
            if not isinstance(reading, _Reading):
                reading = self._read(exchange)
            if reading.kind is None and len(exchange.body) > _LARGE_FORM_BYTES:
                self._read_aside(exchange, reading)
            elif reading.target.operation is _INFER:
                self._infer(exchange, reading, self._row(exchange, reading))
            else:
                self._serve_other(exchange, reading)
        except Exception as error:  # noqa: BLE001  every exchange gets an answer
            self._fail(exchange, None, fault(error))

    def on_refused(self, exchange: Exchange, status: int) -> None:
        """Answer what could not be read as a request."""
        self._fail(exchange, None, refusal(status, self._max_request_bytes))

    # --- before anything is served ----------------------------------------------------------------

    def _lets_pass(self, exchange: Exchange) -> bool:
        """Whether the exchange is still to be served: a browser that asks if it may ask is told.

        Raises:
            TokenMissing, TokenRefused: it may not be.
        """
        origin = exchange.header(b"origin")
        asked = exchange.header(b"access-control-request-method")
        if self._cors.answers_preflight(exchange.method, origin, asked):
            self._respond(exchange, 204, [], b"")
            return False
        if self._authorize is not None and not is_public(exchange.target):
            authorization = exchange.header(b"authorization")
            self._authorize(authorization.decode("latin-1") or None)
        return True

    # --- operations -------------------------------------------------------------------------------

    def _read(self, exchange: Exchange) -> _Reading:
        head = exchange.head
        target = self._target(exchange)
        kind = torchserve.kind_of_whole(head.header(b"content-type"))
        origin = Origin(
            head.method.decode("latin-1"), head.target.decode("latin-1"), exchange.client
        )
        said = terms(head.headers, self._trusts_clients)
        reading = head.reading = _Reading(target, kind, origin, said)
        return reading

    def _serve_other(self, exchange: Exchange, reading: _Reading) -> None:
        target = reading.target
        match target.operation:
            case Operation.INVOKE:
                self._invoke(exchange, reading, self._row(exchange, reading))
            case Operation.WORKFLOW:
                self._run_workflow(exchange, reading, self._row(exchange, reading))
            case _:
                status, document = self._about.page(target)
                exchange.keep_alive = exchange.keep_alive and status < 400
                self._respond(exchange, status, [_JSON], torchserve_json(document))

    def _row(self, exchange: Exchange, reading: _Reading) -> list[RequestPart]:
        if reading.kind is not None:
            row = [(torchserve.BODY, reading.kind, exchange.body)]
        else:
            row = torchserve.parts(exchange.header(b"content-type"), exchange.body)
        query = reading.target.query
        return torchserve.with_query(query, row) if query else row

    def _read_aside(self, exchange: Exchange, reading: _Reading) -> None:
        """Take a large form apart in a thread: it may take a second, and others go on meanwhile."""
        readers = self._readers
        if readers is None:
            readers = self._readers = ThreadPoolExecutor(_FORM_READERS, "form")
        gone: list[bool] = []
        exchange.on_gone = lambda: gone.append(True)
        rows = asyncio.get_running_loop().run_in_executor(readers, self._row, exchange, reading)

        def serve(_: asyncio.Future[list[RequestPart]]) -> None:
            exchange.on_gone = None
            if gone:
                return
            try:
                row = rows.result()
                match reading.target.operation:
                    case Operation.INFER:
                        self._infer(exchange, reading, row)
                    case Operation.INVOKE:
                        self._invoke(exchange, reading, row)
                    case Operation.WORKFLOW:
                        self._run_workflow(exchange, reading, row)
                    case _:
                        self._serve_other(exchange, reading)
            except Exception as error:  # noqa: BLE001  every exchange gets an answer
                self._fail(exchange, None, fault(error))

        rows.add_done_callback(serve)

    def _infer(self, exchange: Exchange, reading: _Reading, row: list[RequestPart]) -> None:
        target = reading.target
        request = self._request(exchange, target, self._ids.draw(), row)
        call = _Call(self, exchange, reading, request, self._clock())
        if reading.terms is not None:
            call.deadline = reading.terms.ends_at(call.queued_at, time.time)
            call.priority = reading.terms.priority
        try:
            self._inference.start(call, target.name, target.version)
        except MarServeError as error:
            self._fail(exchange, reading, fault(error), request.id)
            return
        exchange.on_gone = call.gone
        if reading.kind is None and (not row or row[0][0][:1] == "{"):
            self._warn_if_misread(exchange, target.name, row)

    def _request(
        self, exchange: Exchange, target: Target, request_id: str, row: list[RequestPart]
    ) -> Request:
        headers = exchange.head.seen
        if exchange.head.is_reframed:
            headers = torchserve.seen_headers(headers, len(exchange.body))
        return Request(request_id, headers, row, target.explain, target.url_path)

    def abandon(self, call: Job, name: str) -> None:
        """The client of a call went away."""
        if call.is_open:
            call.abandon()
            self._bus.publish(RequestAbandoned(name, call.request.id))

    def _invoke(self, exchange: Exchange, reading: _Reading, row: list[RequestPart]) -> None:
        target = reading.target
        name = (
            torchserve.text_of(target.query, "model_name")
            or self._only_model()
            or torchserve.text_of(row, "model_name")
        )
        if not name:
            raise InvalidInput("Parameter model_name is required.")
        named = _Reading(replace(target, name=name), reading.kind, reading.origin, reading.terms)
        self._infer(exchange, named, row)

    def _run_workflow(self, exchange: Exchange, reading: _Reading, row: list[RequestPart]) -> None:
        target = reading.target
        if self._workflows is None:
            raise WorkflowNotFound(f"Workflow not found: {target.name}")
        request_id = self._ids.draw()
        request = self._request(exchange, target, request_id, row)

        def reply_to(reply: Reply) -> None:
            try:
                if isinstance(reply, Answer) and reply.headers is None:
                    reply = Answer(reply.body, reply.status, reply.phrase, [_JSON])
                self._answer(exchange, None, request_id, reply)
            except Exception as error:  # noqa: BLE001  whoever resolves must not be harmed
                self._fail(exchange, None, fault(error), request_id)

        exchange.on_gone = self._workflows.predict(target.name, request, reply_to)

    def _warn_if_misread(self, exchange: Exchange, name: str, row: list[RequestPart]) -> None:
        """Say once for each model why its handler sees an empty row."""
        if name in self._warned or len(self._warned) >= _MAX_WARNED:
            return
        if not torchserve.is_misread(exchange.header(b"content-type"), row):
            return
        self._warned.add(name)
        _log.warning(
            "A client of model %s sends a body that is no form under the content type of one, and "
            "so the handler gets no body. curl -d does that: add -H 'Content-Type: "
            "application/json' for JSON, or use -T.",
            name,
        )

    # --- answers ----------------------------------------------------------------------------------

    def answer(self, exchange: Exchange, reading: _Reading, request_id: str, reply: Reply) -> None:
        """Write the answer to an inference request, whatever it is."""
        try:
            if type(reply) is not Answer or not reply.is_plain or exchange.begun_status:
                self._answer(exchange, reading, request_id, reply)
                return
            body = reply.body
            head = self._heads.plain(request_id, len(body), exchange.keep_alive)
            exchange.respond(head, body)
            target = reading.target
            latency_s = self._clock() - exchange.received_at
            self._inference.answered(
                RequestAnswered(target.name, target.version, 200, latency_s, reading.origin)
            )
        except Exception as error:  # noqa: BLE001  batch-mates must get their answers
            self._fail(exchange, reading, fault(error), request_id)

    def answer_piece(
        self, exchange: Exchange, reading: _Reading, request_id: str, piece: Answer
    ) -> bool:
        """Write a piece of an answer; False: it cannot be written, and the client was told."""
        try:
            self._send_piece(exchange, request_id, piece)
        except Exception as error:  # noqa: BLE001  batch-mates must get their answers
            self._fail(exchange, reading, fault(error), request_id)
            return False
        return True

    def _answer(
        self, exchange: Exchange, reading: _Reading | None, request_id: str, reply: Reply
    ) -> None:
        if not isinstance(reply, Answer):
            self._fail(exchange, reading, fault(reply), request_id)
            return
        if exchange.begun_status:
            exchange.write(reply.body)
            exchange.finish()
            self._publish(exchange, reading, exchange.begun_status)
            return
        if reply.status >= 400:
            exchange.keep_alive = False  # as TorchServe does, and its clients expect
        head = self._heads.answer(reply, request_id, exchange.keep_alive)
        exchange.respond(head, reply.body if has_body(reply.status) else b"")
        self._publish(exchange, reading, reply.status)

    def _send_piece(self, exchange: Exchange, request_id: str, piece: Answer) -> None:
        """The first piece decides status and headers."""
        if not exchange.begun_status:
            if piece.status >= 400 or not exchange.takes_chunks:
                exchange.keep_alive = False
            head = self._heads.stream(piece, request_id, exchange.keep_alive, exchange.takes_chunks)
            exchange.is_head = exchange.is_head or not has_body(piece.status)
            exchange.begin(head, piece.status)
        exchange.write(piece.body)

    def _fail(
        self, exchange: Exchange, reading: _Reading | None, refused: Fault, request_id: str = ""
    ) -> None:
        if exchange.begun_status:
            _log.warning("An answer broke off after its beginning: %s", refused.message)
            exchange.cut()
            self._publish(exchange, reading, refused.status)
            return
        headers = [_JSON]
        if refused.retry_after_s is not None:
            headers.append(("Retry-After", str(refused.retry_after_s)))
        if refused.status == 401:
            headers.append(("WWW-Authenticate", "Bearer"))
        if refused.reason is None:
            exchange.keep_alive = False  # as TorchServe does, and its clients expect
        body = fault_body(refused)
        self._respond(exchange, refused.status, headers, body, request_id, reading)

    def _respond(
        self,
        exchange: Exchange,
        status: int,
        headers: list[Header],
        body: bytes,
        request_id: str = "",
        reading: _Reading | None = None,
    ) -> None:
        length = len(body) if has_body(status) else None
        request_id = request_id or self._ids.draw()
        head = self._heads.any(status, headers, request_id, length, exchange.keep_alive)
        exchange.respond(head, body)
        self._publish(exchange, reading, status)

    def _publish(self, exchange: Exchange, reading: _Reading | None, status: int) -> None:
        duration_s = self._clock() - exchange.received_at if exchange.received_at else 0.0
        if reading is None:
            method = exchange.method.decode("latin-1")
            path = exchange.target.decode("latin-1")
            self._bus.publish(
                HttpAnswered("inference", method, path, exchange.client, status, duration_s)
            )
        else:
            target = reading.target
            self._inference.answered(
                RequestAnswered(target.name, target.version, status, duration_s, reading.origin)
            )

    def _target(self, exchange: Exchange) -> Target:
        key = (exchange.method, exchange.target)
        target = self._targets.get(key)
        if target is None:
            target = self._routes.resolve(*key)
            if len(self._targets) >= _MAX_CACHED_TARGETS:
                self._targets.clear()
            self._targets[key] = target
        return target
