"""One line per answer of any port, in TorchServe's form.

This is done for every request, so it goes around `logging`: lines are made here and handed over
without a lock; the writer looks for such lines now and then. Queries stay out of it: they can
hold signed URLs and tokens.
"""

from __future__ import annotations

from marserve.events import Bus, GrpcCallsAnswered, HttpAnswered, RequestsAnswered
from marserve.observe.log_lines import Stamps, quotable
from marserve.observe.logs import ACCESS_LINES, Logs


class AccessLog:
    """Listens to `bus` and writes `access_log.log`."""

    def __init__(self, bus: Bus, logs: Logs) -> None:
        self._add = logs.add_lines
        self._now = Stamps().now
        bus.subscribe(HttpAnswered, self._http_answered)
        bus.subscribe(RequestsAnswered, self._requests_answered)
        bus.subscribe(GrpcCallsAnswered, self._grpc_answered)

    def _http_answered(self, event: HttpAnswered) -> None:
        self._line(event.client, event.method, event.path, event.status, event.duration_s)

    def _requests_answered(self, event: RequestsAnswered) -> None:
        stamp = self._now()[1]
        lines = []
        for answered in event.requests:
            origin = answered.origin
            if origin.method == "gRPC":  # its line comes with the end of the call
                continue
            if not origin.line:
                origin.line = _asked(origin.client, origin.method, origin.path, "HTTP/1.1")
            lines.append(f"{stamp}{origin.line}{answered.status} {answered.latency_s * 1000:.0f}")
        if lines:
            self._add(ACCESS_LINES, lines)

    def _grpc_answered(self, event: GrpcCallsAnswered) -> None:
        stamp = self._now()[1]
        lines = []
        for answered in event.calls:
            origin = answered.origin
            if not origin.line:
                origin.line = _asked(origin.client, origin.method, origin.path, "HTTP/2.0")
            lines.append(f"{stamp}{origin.line}{answered.code} {answered.duration_s * 1000:.0f}")
        self._add(ACCESS_LINES, lines)

    def _line(
        self,
        client: str,
        method: str,
        path: str,
        status: int,
        duration_s: float,
    ) -> None:
        asked = _asked(client, method, path, "HTTP/1.1")
        line = f"{self._now()[1]}{asked}{status} {duration_s * 1000:.0f}"
        self._add(ACCESS_LINES, [line])


def _asked(client: str, method: str, path: str, protocol: str) -> str:
    """What a line says of a request between the moment and the outcome."""
    resource = quotable(path.partition("?")[0])
    return f' - /{client} "{quotable(method)} {resource} {protocol}" '
