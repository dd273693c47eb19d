"""One line per answer of any port, in TorchServe's form.

This runs once per request, so it goes around `logging`: the line is made here and handed over
without a lock; the writer looks for such lines now and then. Queries stay out of it: they can
hold signed URLs and tokens.
"""

from __future__ import annotations

from marserve.events import Bus, GrpcAnswered, HttpAnswered, RequestAnswered
from marserve.observe.log_lines import Stamps, quotable
from marserve.observe.logs import ACCESS_LINES, Logs


class AccessLog:
    """Listens to `bus` and writes `access_log.log`."""

    def __init__(self, bus: Bus, logs: Logs) -> None:
        self._add = logs.add_line
        self._now = Stamps().now
        bus.subscribe(HttpAnswered, self._http_answered)
        bus.subscribe(RequestAnswered, self._request_answered)
        bus.subscribe(GrpcAnswered, self._grpc_answered)

    def _http_answered(self, event: HttpAnswered) -> None:
        self._line(event.client, event.method, event.path, event.status, event.duration_s)

    def _request_answered(self, event: RequestAnswered) -> None:
        if event.method != "gRPC":  # its line comes with the end of the call
            self._line(event.client, event.method, event.path, event.status, event.latency_s)

    def _grpc_answered(self, event: GrpcAnswered) -> None:
        self._line(event.client, "gRPC", event.path, event.code, event.duration_s, "HTTP/2.0")

    def _line(
        self,
        client: str,
        method: str,
        path: str,
        status: int,
        duration_s: float,
        protocol: str = "HTTP/1.1",
    ) -> None:
        _, stamp = self._now()
        resource = quotable(path.partition("?")[0])
        self._add(
            ACCESS_LINES,
            f'{stamp} - /{client} "{quotable(method)} {resource} {protocol}" '
            f"{status} {duration_s * 1000:.0f}",
        )
