"""The inference port: exchanges to requests, replies to answers. Runs on the event loop.

The hot path is callbacks: an exchange becomes a request and a job, and when the job is resolved
its answer is written. Nothing is awaited and no task is made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from marserve.errors import InvalidInput, MarServeError, WorkflowNotFound
from marserve.events import Bus, HttpAnswered, RequestAbandoned, RequestAnswered
from marserve.inference import Inference
from marserve.protocols import torchserve
from marserve.protocols.cors import NO_CORS, Cors
from marserve.protocols.faults import Fault, fault, fault_body, torchserve_json
from marserve.protocols.heads import Heads, has_body
from marserve.request import Answer, Header, Job, Reply, Request, RequestPart
from marserve.servers.about import About
from marserve.servers.exchange import Exchange
from marserve.servers.refusals import refusal
from marserve.servers.request_ids import RequestIds
from marserve.servers.routes import Operation, Routes, Target, is_public

_log = logging.getLogger("marserve.servers")
_MAX_CACHED_TARGETS = 1024
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
        self._is_guarded = options.authorize is not None or options.cors.origin is not None
        self._only_model = only_model
        self._workflows = workflows
        self._heads = Heads(options.cors)
        self._ids = RequestIds()
        self._routes = Routes(options.open_inference_protocol)
        self._targets: dict[tuple[bytes, bytes], Target] = {}
        self._warned: set[str] = set()

    def on_request(self, exchange: Exchange) -> None:
        """Serve one exchange, now or when its answer is there."""
        try:
            if self._is_guarded and not self._lets_pass(exchange):
                return
            target = self._target(exchange)
            if target.operation is _INFER:
                self._infer(exchange, target, self._row(exchange, target))
            else:
                self._serve_other(exchange, target)
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

    def _serve_other(self, exchange: Exchange, target: Target) -> None:
        match target.operation:
            case Operation.INVOKE:
                self._invoke(exchange, target)
            case Operation.WORKFLOW:
                self._run_workflow(exchange, target)
            case _:
                status, document = self._about.page(target)
                self._respond(exchange, status, [_JSON], torchserve_json(document))

    def _row(self, exchange: Exchange, target: Target) -> list[RequestPart]:
        row = torchserve.parts(exchange.header(b"content-type"), exchange.body)
        return torchserve.with_query(target.query, row) if target.query else row

    def _infer(self, exchange: Exchange, target: Target, row: list[RequestPart]) -> None:
        request_id = self._ids.draw()

        def reply_to(job: Job, reply: Reply) -> None:
            # One closure for the pieces and for the last one: a request that waits costs less.
            try:
                if job.is_open and isinstance(reply, Answer):
                    self._send_piece(exchange, request_id, reply)
                else:
                    self._answer(exchange, target, request_id, reply)
            except Exception as error:  # noqa: BLE001  batch-mates must get their answers
                job.abandon()
                self._fail(exchange, target, fault(error), request_id)

        request = self._request(exchange, target, request_id, row)
        try:
            job = self._inference.infer(target.name, target.version, request, reply_to, reply_to)
        except MarServeError as error:
            self._fail(exchange, target, fault(error), request_id)
            return
        exchange.on_gone = partial(self._abandon, job, target.name)
        if not row or row[0][0][:1] == "{":
            self._warn_if_misread(exchange, target.name, row)

    def _request(
        self, exchange: Exchange, target: Target, request_id: str, row: list[RequestPart]
    ) -> Request:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in exchange.headers
        ]
        if exchange.is_reframed:
            headers = torchserve.seen_headers(headers, len(exchange.body))
        return Request(request_id, headers, row, target.explain, target.url_path)

    def _abandon(self, job: Job, name: str) -> None:
        if job.is_open:
            job.abandon()
            self._bus.publish(RequestAbandoned(name, job.request.id))

    def _invoke(self, exchange: Exchange, target: Target) -> None:
        row = self._row(exchange, target)
        name = (
            torchserve.text_of(target.query, "model_name")
            or self._only_model()
            or torchserve.text_of(row, "model_name")
        )
        if not name:
            raise InvalidInput("Parameter model_name is required.")
        self._infer(exchange, replace(target, name=name), row)

    def _run_workflow(self, exchange: Exchange, target: Target) -> None:
        if self._workflows is None:
            raise WorkflowNotFound(f"Workflow not found: {target.name}")
        request_id = self._ids.draw()
        request = self._request(exchange, target, request_id, self._row(exchange, target))

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

    def _answer(
        self, exchange: Exchange, target: Target | None, request_id: str, reply: Reply
    ) -> None:
        if not isinstance(reply, Answer):
            self._fail(exchange, target, fault(reply), request_id)
            return
        if exchange.begun_status:
            exchange.write(reply.body)
            exchange.finish()
            self._publish(exchange, target, exchange.begun_status)
            return
        if reply.status >= 400:
            exchange.keep_alive = False  # as TorchServe does, and its clients expect
        head = self._heads.answer(reply, request_id, exchange.keep_alive)
        exchange.respond(head, reply.body if has_body(reply.status) else b"")
        self._publish(exchange, target, reply.status)

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
        self, exchange: Exchange, target: Target | None, refused: Fault, request_id: str = ""
    ) -> None:
        if exchange.begun_status:
            _log.warning("An answer broke off after its beginning: %s", refused.message)
            exchange.cut()
            self._publish(exchange, target, refused.status)
            return
        headers = [_JSON]
        if refused.retry_after_s is not None:
            headers.append(("Retry-After", str(refused.retry_after_s)))
        if refused.status == 401:
            headers.append(("WWW-Authenticate", "Bearer"))
        exchange.keep_alive = False
        self._respond(exchange, refused.status, headers, fault_body(refused), request_id, target)

    def _respond(
        self,
        exchange: Exchange,
        status: int,
        headers: list[Header],
        body: bytes,
        request_id: str = "",
        target: Target | None = None,
    ) -> None:
        exchange.keep_alive = exchange.keep_alive and status < 400
        length = len(body) if has_body(status) else None
        request_id = request_id or self._ids.draw()
        head = self._heads.any(status, headers, request_id, length, exchange.keep_alive)
        exchange.respond(head, body)
        self._publish(exchange, target, status)

    def _publish(self, exchange: Exchange, target: Target | None, status: int) -> None:
        duration_s = self._clock() - exchange.received_at if exchange.received_at else 0.0
        method = exchange.method.decode("latin-1")
        path = exchange.target.decode("latin-1")
        if target is None:
            self._bus.publish(
                HttpAnswered("inference", method, path, exchange.client, status, duration_s)
            )
        else:
            self._bus.publish(
                RequestAnswered(
                    target.name, target.version, status, duration_s, method, path, exchange.client
                )
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
