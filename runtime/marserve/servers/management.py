"""The management port: a Flask application in front of the control plane.

Owns routing and the checks that need HTTP (methods, origin). What parameters mean and
how answers look is `protocols/management.py`; what becomes of a wish is the control plane's.

Browsers: a web page must not reach this API through its visitor's browser. A request with an
`Origin` header, which browsers put on every cross-site or changing request, is answered only if
that origin is this very host, named by address or as `localhost`: a DNS name could have been
pointed here by the page's owner. Programs send no `Origin` and are not concerned.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Protocol, TypeVar

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from marserve.errors import (
    InvalidInput,
    MethodNotAllowed,
    RouteNotFound,
    ShuttingDown,
    VersionNotFound,
)
from marserve.model_version import Description
from marserve.protocols import management as wire
from marserve.protocols.faults import Fault, fault, fault_body, torchserve_json
from marserve.protocols.management import Registered, Registration, Scaled
from marserve.protocols.management_api import OPERATIONS, api_description
from marserve.servers.wsgi import Publish, answering, fault_headers

T = TypeVar("T")
Answer = tuple[int, Any]

_FOREIGN_PAGE = Fault(
    403,
    "ForbiddenException",
    "Requests from pages of other sites are refused: the Origin header must name this host, by "
    "its address or as localhost.",
)


class ControlPlane(Protocol):
    """What the management port needs done. All methods run on the event loop."""

    async def register(self, wish: Registration) -> Registered:
        """Register an archive; with `wish.synchronous`, return when its workers are up."""
        ...

    async def scale(
        self,
        name: str,
        version: str | None,
        min_workers: int,
        max_workers: int | None,
        synchronous: bool,
    ) -> Scaled:
        """Want another number of workers; `version` None is the default version."""
        ...

    async def set_default(self, name: str, version: str) -> None:
        """Make `version` the default one."""
        ...

    async def unregister(self, name: str, version: str | None) -> None:
        """Drain and forget a version; None is the default version."""
        ...

    async def describe(self, name: str, version: str | None) -> tuple[Description, ...]:
        """One version; None is the default one, "all" is all of them."""
        ...

    async def models(self) -> tuple[Description, ...]:
        """The default version of each model, sorted by name."""
        ...

    async def ready(self, name: str) -> bool:
        """Whether the default version can answer."""
        ...


def create_app(
    plane: ControlPlane,
    run: Callable[[Coroutine[Any, Any, T]], T],
    publish: Publish,
    version: str,
    enable_model_api: bool,
) -> Flask:
    """The application of the management port.

    Args:
        plane: carries out what is asked.
        run: runs a coroutine on the event loop and waits for its result.
        publish: takes an event from any thread.
        version: the server's release, for the API description.
        enable_model_api: whether models may be registered and unregistered over HTTP.
    """
    app = Flask("marserve.servers.management", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.before_request(_checked)
    app.register_error_handler(Exception, _failed)
    views = _Views(plane, run, version).by_operation()
    for operation in OPERATIONS:
        is_off = operation.changes_models and not enable_model_api
        app.add_url_rule(
            _rule(operation.paths[0]),
            operation.id,
            _switched_off if is_off else views[operation.id],
            methods=[operation.method],
            provide_automatic_options=False,
        )
        for path in operation.paths[1:]:
            app.add_url_rule(
                _rule(path),
                operation.id,
                methods=[operation.method],
                provide_automatic_options=False,
            )
    answered = answering(app.wsgi_app, "management", publish)
    app.wsgi_app = answered  # type: ignore[assignment, method-assign]  # Flask's way to wrap it
    return app


class _Views:
    """One method per operation: parameters in, a wish to the plane, an answer out."""

    def __init__(self, plane: ControlPlane, run: Callable[..., Any], version: str) -> None:
        self._plane = plane
        self._run = run
        self._version = version

    def by_operation(self) -> dict[str, Callable[..., Response]]:
        """The views, by the id of their operation."""
        return {
            "apiDescription": self.api_description,
            "getApiDescription": self.api_description,
            "listModels": self.list_models,
            "registerModel": self.register,
            "describeModel": self.describe,
            "setAutoScale": self.scale,
            "unregisterModel": self.unregister,
            "setDefault": self.set_default,
            "modelReady": self.ready,
        }

    def api_description(self) -> Response:
        return _json((200, api_description(self._version)))

    def list_models(self) -> Response:
        page = wire.page(request.args)
        return _json(wire.list_answer(self._run(self._plane.models()), page))

    def register(self) -> Response:
        wish = wire.registration(_parameters())
        return _json(wire.registered_answer(self._run(self._plane.register(wish))))

    def describe(self, model_name: str, model_version: str | None = None) -> Response:
        versions = self._run(self._plane.describe(model_name, model_version))
        return _json(wire.describe_answer(versions))

    def scale(self, model_name: str, model_version: str | None = None) -> Response:
        wish = wire.scaling(_parameters(), model_version)
        scaled = self._run(
            self._plane.scale(
                model_name, wish.version, wish.min_workers, wish.max_workers, wish.synchronous
            )
        )
        return _json(wire.scaled_answer(scaled))

    def unregister(self, model_name: str, model_version: str | None = None) -> Response:
        self._run(self._plane.unregister(model_name, model_version))
        return _json(wire.unregistered_answer(model_name))

    def set_default(self, model_name: str, model_version: str) -> Response:
        try:
            self._run(self._plane.set_default(model_name, model_version))
        except VersionNotFound as error:
            message = wire.no_such_default(model_name, model_version)
            return _refusal(replace(fault(error), message=message))
        return _json(wire.default_set_answer(model_name, model_version))

    def ready(self, model_name: str) -> Response:
        return _json(wire.ready_answer(model_name, self._run(self._plane.ready(model_name))))


def _checked() -> Response | None:
    """What is checked before any route runs."""
    origin = request.environ.get("HTTP_ORIGIN")
    if origin is not None and not _is_own(origin, request.environ.get("HTTP_HOST", "")):
        return _refusal(_FOREIGN_PAGE)
    if request.method == "HEAD" and request.routing_exception is None:
        raise MethodNotAllowed  # Flask offers HEAD wherever GET is; TorchServe does not
    return None


def _is_own(origin: str, host: str) -> bool:
    """Whether a page of `origin` is served by `host` itself, and `host` cannot be re-pointed."""
    if origin.lower().partition("://")[2] != host.lower():
        return False
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return name.lower() == "localhost"
    return True


def _failed(error: Exception) -> Response:
    """The one place where an error of this port becomes an answer."""
    if isinstance(error, HTTPException):
        return _refusal(_http_fault(error))
    if isinstance(error, CancelledError):
        error = ShuttingDown("The server is being stopped and takes nothing new.")
    return _refusal(fault(error))


def _http_fault(error: HTTPException) -> Fault:
    """Flask's own refusals in our words."""
    match error.code:
        case 404 | 308:
            return fault(RouteNotFound())
        case 405:
            return fault(MethodNotAllowed())
        case _:
            return fault(InvalidInput("Invalid HTTP message."))


def _parameters() -> wire.Parameters:
    content_type = request.environ.get("CONTENT_TYPE", "")
    return wire.parameters(request.args, content_type, request.get_data(cache=False))


def _switched_off(**_names: str) -> Response:
    raise MethodNotAllowed


def _json(answer: Answer) -> Response:
    status, document = answer
    return Response(torchserve_json(document), status, content_type="application/json")


def _refusal(fault: Fault) -> Response:
    body = fault_body(fault)
    return Response(body, fault.status, headers=fault_headers(fault, body))


def _rule(path: str) -> str:
    """`/models/{model_name}` -> Flask's `/models/<model_name>`."""
    return path.replace("{", "<").replace("}", ">")
