"""The management port: a Flask application in front of the control plane.

Owns routing and the checks that need HTTP: methods, origins of web pages, tokens. What is done on
each route is `management_views.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from marserve.errors import InvalidInput, MethodNotAllowed, RouteNotFound, ShuttingDown
from marserve.protocols.cors import NO_CORS, Cors
from marserve.protocols.faults import Fault, fault
from marserve.protocols.management_api import OPERATIONS, TOKEN_OPERATION
from marserve.servers.control_plane import ControlPlane, WorkflowPlane
from marserve.servers.management_views import Renew, Views, authorization, refusal
from marserve.servers.origins import Caller, Doors
from marserve.servers.wsgi import Publish, answering

__all__ = ["ControlPlane", "create_app"]

_T = TypeVar("_T")
_Authorize = Callable[[str | None], None]


def create_app(
    plane: ControlPlane,
    workflows: WorkflowPlane,
    run: Callable[[Coroutine[Any, Any, _T]], _T],
    publish: Publish,
    version: str,
    enable_model_api: bool,
    authorize: _Authorize | None = None,
    renew: Renew | None = None,
    cors: Cors = NO_CORS,
    doors: Doors | None = None,
    is_described: bool = True,
) -> Flask:
    """The application of the management port.

    Args:
        plane: carries out what is asked of models.
        workflows: carries out what is asked of workflows.
        run: runs a coroutine on the event loop and waits for its result.
        publish: takes an event from any thread.
        version: the server's release, for the API description.
        enable_model_api: whether models may be registered and unregistered over HTTP.
        authorize: raises unless the Authorization header it is given (None: there is none) opens
            this port. None: the port asks for no token. Called from any thread.
        renew: draws a new key: `renew(type, authorization)`, with any text as the type. None:
            there are no keys, and no route to renew them. Called from any thread.
        cors: the headers that all answers carry for pages of other sites.
        doors: which pages and by which names; None: those of `cors`, and names that are nobody's.
        is_described: the description of the API is for everybody, tokens or not.
    """
    app = Flask("marserve.servers.management", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    public = {"", "/api-description"} if is_described else set()
    if renew is not None:
        public |= {"/token"}  # renewing asks for a key of its own
    checks = _Checks(authorize, frozenset(public), cors, doors or Doors(cors.origin))
    app.before_request(checks.made)
    app.after_request(_with_headers(cors))
    app.register_error_handler(Exception, _failed)
    views = Views(plane, workflows, run, version, renew).by_operation()
    for operation in OPERATIONS if renew is None else (*OPERATIONS, TOKEN_OPERATION):
        is_off = operation.changes_models and not enable_model_api
        view = _switched_off if is_off else views[operation.id]
        for path in operation.paths:
            app.add_url_rule(
                _rule(path),
                operation.id,
                view,
                methods=[operation.method],
                provide_automatic_options=False,
            )
    answered = answering(app.wsgi_app, "management", publish)
    app.wsgi_app = answered  # type: ignore[assignment, method-assign]  # Flask's way to wrap it
    return app


class _Checks:
    """What is checked before any route runs, whether there is such a route or not."""

    def __init__(
        self, authorize: _Authorize | None, public: frozenset[str], cors: Cors, doors: Doors
    ) -> None:
        self._authorize = authorize
        self._public = public
        self._cors = cors
        self._doors = doors

    def made(self) -> Response | None:
        """None: go on."""
        caller = Caller.of(request.environ)
        stranger = self._doors.refusal(caller)
        if stranger is not None:
            return refusal(stranger)
        if self._is_preflight(caller.origin or ""):
            allowed = Response(status=204)
            allowed.headers.remove("Content-Type")
            return allowed
        if self._authorize is not None and request.path.rstrip("/") not in self._public:
            self._authorize(authorization())
        target = request.environ.get("REQUEST_URI", "")
        if "%2f" in target.partition("?")[0].lower():
            raise RouteNotFound  # no name holds a slash, and a path must not mean two things
        if request.method == "HEAD" and request.routing_exception is None:
            raise MethodNotAllowed  # Flask offers HEAD wherever GET is; TorchServe does not
        return None

    def _is_preflight(self, origin: str) -> bool:
        method = request.method.encode("latin-1", "replace")
        asked = request.environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD", "")
        return self._cors.answers_preflight(
            method, origin.encode("latin-1"), asked.encode("latin-1")
        )


def _with_headers(cors: Cors) -> Callable[[Response], Response]:
    """Adds the headers that all answers carry."""

    def added(response: Response) -> Response:
        response.headers.extend(cors.allowed(response.headers.keys()))
        return response

    return added


def _failed(error: Exception) -> Response:
    """The one place where an error of this port becomes an answer."""
    if isinstance(error, HTTPException):
        return refusal(_http_fault(error))
    if isinstance(error, CancelledError):
        error = ShuttingDown("The server is being stopped and takes nothing new.")
    return refusal(fault(error, to_operator=True))


def _http_fault(error: HTTPException) -> Fault:
    """Flask's own refusals in our words."""
    match error.code:
        case 404 | 308:
            return fault(RouteNotFound())
        case 405:
            return fault(MethodNotAllowed())
        case _:
            return fault(InvalidInput("Invalid HTTP message."))


def _switched_off(**_names: str) -> Response:
    raise MethodNotAllowed


def _rule(path: str) -> str:
    """`/models/{model_name}` -> Flask's `/models/<model_name>`."""
    return path.replace("{", "<").replace("}", ">")
