"""The metrics port: prometheus-client's WSGI application, behind our routes.

One scrape runs at a time, so that a herd of scrapers costs the inference port no more than one:
another waits for its turn a little and is then told to come back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.registry import Collector

from marserve.errors import MethodNotAllowed, RouteNotFound
from marserve.protocols.faults import Fault, fault
from marserve.servers.wsgi import Publish, answering, fault_answer

WAIT_S = 2.0
"""How long a scrape waits for the one that runs."""

_BUSY = Fault(503, "ServiceUnavailableException", "Another scrape is running. Try again later.", 1)


def create_app(registry: CollectorRegistry, publish: Publish) -> WSGIApplication:
    """Serve `registry` under `/metrics`.

    `?name[]=` picks metrics by the name of a sample (`h_count`) or of a family (`h`).
    """
    scrape = make_wsgi_app(_Selectable(registry))
    turn = threading.Lock()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
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
    """Scrape as if for GET; HEAD is answered with the headers of that."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    as_get = {**environ, "REQUEST_METHOD": "GET"}
    body = b"".join(scrape(as_get, lambda status, headers: begun.append((status, headers))))
    status, headers = begun[0]
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


class _Selectable:
    """A registry whose restriction works by name alone.

    The library's own restriction asks a map that is filled at registration, which cannot know
    the metrics that handlers invent later.
    """

    def __init__(self, registry: Collector) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()

    def restricted_registry(self, names: Iterable[str]) -> Collector:
        return _Selection(self._registry, frozenset(names))


class _Selection:
    """The families, or single samples, that bear one of `names`."""

    def __init__(self, registry: Collector, names: frozenset[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            if family.name in self._names:
                yield family
                continue
            samples = [sample for sample in family.samples if sample.name in self._names]
            if samples:
                selected = Metric(family.name, family.documentation, family.type)
                selected.samples = samples
                yield selected
