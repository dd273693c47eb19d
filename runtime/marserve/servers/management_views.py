"""The operations of the management port: parameters in, a wish to the plane, an answer out.

What parameters mean and how answers look is `protocols/`; what becomes of a wish is the plane's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flask import Response, request

from marserve.errors import DeadlineExceeded, NoWorkers, VersionNotFound
from marserve.model_version import Description
from marserve.protocols import management as wire
from marserve.protocols import openapi, parameters
from marserve.protocols import workflows as workflow_wire
from marserve.protocols.faults import Fault, fault, fault_body, torchserve_json
from marserve.servers.control_plane import ControlPlane, WorkflowPlane
from marserve.servers.wsgi_headers import fault_headers

Renew = Callable[[str, str | None], None]
"""Draws a new key of a type, for the bearer of an Authorization header; raises if that is wrong."""

_NOT_DESCRIBED = Fault(500, "InternalServerException", wire.NOT_DESCRIBED)


class Views:
    """One method per operation."""

    def __init__(
        self,
        plane: ControlPlane,
        workflows: WorkflowPlane,
        run: Callable[..., Any],
        version: str,
        renew: Renew | None,
    ) -> None:
        self._plane = plane
        self._workflows = workflows
        self._run = run
        self._version = version
        self._draw_key = renew

    def by_operation(self) -> dict[str, Callable[..., Response]]:
        """The views, by the id of their operation."""
        return {
            "apiDescription": self._api_description,
            "api-description": self._api_description,
            "listModels": self._list_models,
            "registerModel": self._register,
            "describeModel": self._describe,
            "setAutoScale": self._scale,
            "unregisterModel": self._unregister,
            "setDefault": self._set_default,
            "modelApiDescription": self._model_api_description,
            "modelReady": self._ready,
            "listWorkflows": self._list_workflows,
            "registerWorkflow": self._register_workflow,
            "describeWorkflow": self._describe_workflow,
            "unregisterWorkflow": self._unregister_workflow,
            "renewToken": self._renew_token,
        }

    # --- models ---

    def _list_models(self) -> Response:
        page = wire.page(request.args)
        return _json(wire.list_answer(self._run(self._plane.models()), page))

    def _register(self) -> Response:
        wish = wire.registration(_body_or_query())
        return _json(wire.registered_answer(self._run(self._plane.register(wish))))

    def _describe(self, model_name: str, model_version: str | None = None) -> Response:
        if not wire.wants_customized(request.args, model_version):
            versions = self._run(self._plane.describe(model_name, model_version))
            return _json(wire.describe_answer(versions))
        try:
            asked: tuple[Description, ...] = self._run(
                self._plane.describe(model_name, model_version, customized=True)
            )
        except NoWorkers as error:
            return refusal(replace(fault(error), message=wire.nobody_describes(model_name)))
        except DeadlineExceeded:
            return refusal(_NOT_DESCRIBED)
        return _json(wire.describe_answer(asked))

    def _scale(self, model_name: str, model_version: str | None = None) -> Response:
        # TorchServe reads the query alone, so what stands there counts
        wish = wire.scaling({**_body_or_query(), **request.args.to_dict()}, model_version)
        scaled = self._run(
            self._plane.scale(
                model_name, wish.version, wish.min_workers, wish.max_workers, wish.synchronous
            )
        )
        return _json(wire.scaled_answer(scaled))

    def _unregister(self, model_name: str, model_version: str | None = None) -> Response:
        try:
            self._run(self._plane.unregister(model_name, model_version))
        except DeadlineExceeded as error:
            message = wire.not_unregistered(model_name)
            return refusal(replace(fault(error), status=408, message=message))
        return _json(wire.unregistered_answer(model_name))

    def _set_default(self, model_name: str, model_version: str) -> Response:
        try:
            self._run(self._plane.set_default(model_name, model_version))
        except VersionNotFound as error:
            message = wire.no_such_default(model_name, model_version)
            return refusal(replace(fault(error), message=message))
        return _json(wire.default_set_answer(model_name, model_version))

    def _ready(self, model_name: str) -> Response:
        return _json(wire.ready_answer(model_name, self._run(self._plane.ready(model_name))))

    # --- workflows ---

    def _list_workflows(self) -> Response:
        page = wire.page(request.args)
        return _json(workflow_wire.list_answer(self._run(self._workflows.workflows()), page))

    def _register_workflow(self) -> Response:
        wish = workflow_wire.registration(_body_or_query())
        name = self._run(self._workflows.register_workflow(wish))
        return _json(workflow_wire.registered_answer(name))

    def _describe_workflow(self, workflow_name: str) -> Response:
        workflow = self._run(self._workflows.describe_workflow(workflow_name))
        return _json(workflow_wire.describe_answer(workflow))

    def _unregister_workflow(self, workflow_name: str) -> Response:
        self._run(self._workflows.unregister_workflow(workflow_name))
        return _json(workflow_wire.unregistered_answer(workflow_name))

    # --- the port itself ---

    def _api_description(self) -> Response:
        tokens = self._draw_key is not None
        return _json((200, openapi.management_api(self._version, tokens=tokens)))

    def _model_api_description(self, model_name: str, model_version: str | None = None) -> Response:
        self._run(self._plane.describe(model_name, model_version))  # is it there?
        return _json((200, openapi.model_management_api(model_name, self._version)))

    def _renew_token(self) -> Response:
        assert self._draw_key is not None, "there is no such route without tokens"
        self._draw_key(request.args.get("type", ""), authorization())
        return Response("\n", content_type="application/json")


def authorization() -> str | None:
    """The Authorization header of the request."""
    value: str | None = request.environ.get("HTTP_AUTHORIZATION")
    return value


def refusal(fault: Fault) -> Response:
    """The answer that tells of `fault`."""
    body = fault_body(fault)
    return Response(body, fault.status, headers=fault_headers(fault, body))


def _body_or_query() -> parameters.Parameters:
    content_type = request.environ.get("CONTENT_TYPE", "")
    query = request.args.to_dict()
    return parameters.parameters(query, content_type, request.get_data(cache=False))


def _json(answer: tuple[int, Any]) -> Response:
    status, document = answer
    return Response(torchserve_json(document), status, content_type="application/json")
