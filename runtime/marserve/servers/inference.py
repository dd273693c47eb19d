"""The inference port: exchanges to requests, replies to answers. Runs on the event loop.

The hot path is callbacks: an exchange becomes a request and a job, and when the job is resolved
its answer is written. Nothing is awaited and no task is made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from marserve.errors import MarServeError, RequestTooLarge
from marserve.events import Bus, HttpAnswered, RequestAnswered
from marserve.inference import Inference
from marserve.protocols import torchserve
from marserve.protocols.faults import Fault, fault, fault_body, torchserve_json
from marserve.request import Answer, Header, Job, Reply, Request
from marserve.servers.exchange import Exchange
from marserve.servers.request_ids import RequestIds
from marserve.servers.routes import Operation, Target, resolve

_log = logging.getLogger("marserve.servers")
_MAX_CACHED_TARGETS = 1024
_JSON: Header = ("content-type", "application/json")
_REFUSALS = {
    400: "Invalid HTTP message.",
    408: "The body came too slowly.",
    414: "The request target is too long.",
    417: "Only the expectation 100-continue is understood.",
    431: "The request headers are too large.",
}


class InferenceFront:
    """Serves TorchServe's inference API over whatever carries exchanges."""

    def __init__(
        self,
        inference: Inference,
        bus: Bus,
        clock: Callable[[], float],
        max_request_bytes: int,
    ) -> None:
        self._inference = inference
        self._bus = bus
        self._clock = clock
        self._max_request_bytes = max_request_bytes
        self._ids = RequestIds()
        self._targets: dict[tuple[bytes, bytes], Target] = {}

    def on_request(self, exchange: Exchange) -> None:
        """Serve one exchange, now or when its answer is there."""
        try:
            target = self._target(exchange)
            if target.operation is Operation.PING:
                self._ping(exchange)
            else:
                self._predict(exchange, target)
        except Exception as error:  # noqa: BLE001  every exchange gets an answer
            self._fail(exchange, None, fault(error))

    def on_refused(self, exchange: Exchange, status: int) -> None:
        """Answer what could not be read as a request."""
        if status == 413:
            refused = fault(RequestTooLarge(self._max_request_bytes))
        else:
            refused = Fault(status, "BadRequestException", _REFUSALS[status])
        self._fail(exchange, None, refused)

    # --- operations -------------------------------------------------------------------------------

    def _ping(self, exchange: Exchange) -> None:
        healthy = self._inference.is_healthy()
        body = torchserve_json({"status": "Healthy" if healthy else "Unhealthy"})
        status = 200 if healthy else 500
        self._respond(exchange, status, [_JSON], self._ids.draw(), body)

    def _predict(self, exchange: Exchange, target: Target) -> None:
        request_id = self._ids.draw()
        headers = exchange.headers
        request = Request(
            request_id,
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
            torchserve.parts(exchange.header(b"content-type"), exchange.body),
            target.operation is Operation.EXPLAIN,
            target.url_path,
        )

        def reply_to(job: Job, reply: Reply) -> None:
            try:
                self._answer(exchange, target, request_id, reply)
            except Exception as error:  # noqa: BLE001  batch-mates must get their answers
                self._fail(exchange, target, fault(error), request_id)

        try:
            job = self._inference.infer(target.name, target.version, request, reply_to)
        except MarServeError as error:
            self._fail(exchange, target, fault(error), request_id)
        else:
            exchange.on_gone = job.abandon

    # --- answers ----------------------------------------------------------------------------------

    def _answer(self, exchange: Exchange, target: Target, request_id: str, reply: Reply) -> None:
        if not isinstance(reply, Answer):
            self._fail(exchange, target, fault(reply), request_id)
            return
        if reply.status >= 400:
            exchange.keep_alive = False  # as TorchServe does, and its clients expect
        try:
            head = torchserve.answer_head(reply, request_id, exchange.keep_alive)
        except MarServeError as error:
            self._fail(exchange, target, fault(error), request_id)
            return
        exchange.respond(head, b"" if reply.status in (204, 304) else reply.body)
        self._publish(exchange, target, reply.status)

    def _fail(
        self, exchange: Exchange, target: Target | None, refused: Fault, request_id: str = ""
    ) -> None:
        exchange.keep_alive = False
        headers = [_JSON]
        if refused.retry_after_s is not None:
            headers.append(("Retry-After", str(refused.retry_after_s)))
        body = fault_body(refused)
        head = torchserve.head(
            refused.status, headers, request_id or self._ids.draw(), len(body), False
        )
        exchange.respond(head, body)
        self._publish(exchange, target, refused.status)

    def _respond(
        self,
        exchange: Exchange,
        status: int,
        headers: list[tuple[str, str]],
        request_id: str,
        body: bytes,
    ) -> None:
        exchange.keep_alive = exchange.keep_alive and status < 400
        exchange.respond(
            torchserve.head(status, headers, request_id, len(body), exchange.keep_alive), body
        )
        self._publish(exchange, None, status)

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
            target = resolve(*key)
            if len(self._targets) >= _MAX_CACHED_TARGETS:
                self._targets.clear()
            self._targets[key] = target
        return target
