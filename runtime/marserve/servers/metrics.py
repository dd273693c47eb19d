"""The metrics port: prometheus-client's WSGI application, behind our routes.

One scrape runs at a time, so that a herd of scrapers costs the inference port no more than one:
another waits for its turn a little and is then told to come back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import Metric, make_wsgi_app
from prometheus_client.registry import Collector

from marserve.errors import MethodNotAllowed, RouteNotFound
from marserve.observe.selection import Selection
from marserve.protocols.faults import Fault, fault, torchserve_json
from marserve.protocols.openapi import metrics_api
from marserve.servers.origins import Caller, Doors
from marserve.servers.wsgi import Publish, answering, fault_answer

WAIT_S = 2.0
"""How long a scrape waits for the one that runs."""

_OPEN = Doors(hosts=None)
_BUSY = Fault(503, "ServiceUnavailableException", "Another scrape is running. Try again later.", 1)


def create_app(
    registry: Collector,
    publish: Publish,
    version: str,
    authorize: Callable[[str | None], None] | None = None,
    doors: Doors = _OPEN,
) -> WSGIApplication:
    """Serve `registry` under `/metrics`, in the text format 0.0.4 whatever the scraper accepts.

    `?name[]=` picks metrics by the name of a sample (`h_count`) or of a family (`h`).

    Args:
        registry: what is shown.
        publish: takes an event from any thread.
        version: the server's release, for the API description.
        authorize: raises unless the Authorization header it is given (None: there is none) opens
            this port. None: the port asks for no token. Called from any thread.
        doors: which pages, and by which names, may call.
    """
    scrape = make_wsgi_app(_Selectable(registry))
    description = torchserve_json(metrics_api(version))
    turn = threading.Lock()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        stranger = doors.refusal(Caller.of(environ))
        if stranger is not None:
            return fault_answer(stranger, start_response)
        if authorize is not None:
            authorize(environ.get("HTTP_AUTHORIZATION"))
        path = environ.get("PATH_INFO", "")
        if path == "/api-description" or (path == "/" and environ["REQUEST_METHOD"] == "OPTIONS"):
            headers = [("Content-Type", "application/json")]
            start_response("200 OK", [*headers, ("Content-Length", str(len(description)))])
            return [description]
        if path == "/":
            return fault_answer(fault(MethodNotAllowed()), start_response)
        if path != "/metrics" and not path.startswith("/metrics/"):
            return fault_answer(fault(RouteNotFound()), start_response)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return fault_answer(fault(MethodNotAllowed()), start_response)
        if not turn.acquire(timeout=WAIT_S):
            return fault_answer(_BUSY, start_response)
        try:
            return _answer(scrape, environ, start_response)
        finally:
            turn.release()

    return answering(app, "metrics", publish)


def _answer(
    scrape: Any, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Scrape as if for GET; HEAD is answered with the headers of that.

    TorchServe looks at no Accept header. OpenMetrics, which Prometheus prefers, could not show its
    counters as such: there they must end in `_total`.
    """
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    as_get = {**environ, "REQUEST_METHOD": "GET", "HTTP_ACCEPT": ""}
    body = b"".join(scrape(as_get, lambda status, headers: begun.append((status, headers))))
    status, headers = begun[0]
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


class _Selectable(Collector):
    """A registry of which the library's application can show a part."""

    def __init__(self, registry: Collector) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()

    def restricted_registry(self, names: Iterable[str]) -> Collector:
        return Selection(self._registry, frozenset(names))
