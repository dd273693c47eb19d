"""The management API as data: its operations, and the OpenAPI document made from them.

Pure. The front binds each operation to a view by its id, so the document cannot drift from what
is served.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter (or member of a JSON body); `default` None: no default."""

    name: str
    type: str
    default: str | int | bool | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `paths` are alternatives: without and with a version."""

    id: str
    method: str
    paths: tuple[str, ...]
    summary: str
    parameters: tuple[Parameter, ...] = ()
    statuses: tuple[int, ...] = (200,)
    changes_models: bool = False
    """Refused when the model API is switched off."""


_MODEL = "/models/{model_name}"
_VERSION = "/models/{model_name}/{model_version}"

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "apiDescription",
        "OPTIONS",
        ("/",),
        "This document.",
    ),
    Operation(
        "getApiDescription",
        "GET",
        ("/api-description",),
        "This document.",
    ),
    Operation(
        "listModels",
        "GET",
        ("/models",),
        "The default version of each model, by name.",
        (Parameter("limit", "integer", 100), Parameter("next_page_token", "integer", 0)),
        (200, 400),
    ),
    Operation(
        "registerModel",
        "POST",
        ("/models",),
        "Register an archive of the model store as a version of a model.",
        (
            Parameter("url", "string", required=True),
            Parameter("model_name", "string"),
            Parameter("handler", "string"),
            Parameter("runtime", "string"),
            Parameter("batch_size", "integer", 1),
            Parameter("max_batch_delay", "integer", 100),
            Parameter("initial_workers", "integer"),
            Parameter("response_timeout", "integer", 120),
            Parameter("startup_timeout", "integer", 120),
            Parameter("synchronous", "boolean", True),
        ),
        (200, 202, 400, 404, 405, 409, 500, 507),
        changes_models=True,
    ),
    Operation(
        "describeModel",
        "GET",
        (_MODEL, _VERSION),
        "Settings, workers and queue of one version, or of `all`.",
        (),
        (200, 404),
    ),
    Operation(
        "setAutoScale",
        "PUT",
        (_MODEL, _VERSION),
        "Change the number of workers.",
        (
            Parameter("min_worker", "integer", 1),
            Parameter("max_worker", "integer"),
            Parameter("model_version", "string"),
            Parameter("synchronous", "boolean", False),
        ),
        (200, 202, 400, 404, 500, 507),
    ),
    Operation(
        "unregisterModel",
        "DELETE",
        (_MODEL, _VERSION),
        "Unregister a version; the last one takes the model's name with it.",
        (),
        (200, 403, 404, 405),
        changes_models=True,
    ),
    Operation(
        "setDefault",
        "PUT",
        (f"{_VERSION}/set-default",),
        "Make a version the one that answers when no version is named.",
        (),
        (200, 404),
    ),
    Operation(
        "modelReady",
        "GET",
        ("/v1/models/{model_name}",),
        "Whether the default version can answer.",
        (),
        (200, 404),
    ),
)


def api_description(version: str) -> dict[str, Any]:
    """The OpenAPI document of this API, served by release `version`."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        for path in operation.paths:
            paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, path)
    return {
        "openapi": "3.0.1",
        "info": {
            "title": "MarServe management API",
            "description": "Registers, scales, describes and unregisters models.",
            "version": version,
        },
        "paths": paths,
    }


def _operation(operation: Operation, path: str) -> dict[str, Any]:
    in_path = [
        {"in": "path", "name": name, "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]
    in_query = [_parameter(p) for p in operation.parameters if f"{{{p.name}}}" not in path]
    versioned = path == _VERSION
    return {
        "operationId": f"version_{operation.id}" if versioned else operation.id,
        "description": operation.summary,
        "parameters": in_path + in_query,
        "responses": {
            str(status): {"description": _WORDS[status]} for status in operation.statuses
        },
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.type}
    if parameter.default is not None:
        schema["default"] = parameter.default
    return {
        "in": "query",
        "name": parameter.name,
        "required": parameter.required,
        "schema": schema,
    }


_WORDS = {
    200: "Done.",
    202: "Accepted; workers are still starting or stopping.",
    400: "A parameter is missing or malformed.",
    403: "The default version cannot go while there are others.",
    404: "No such model, version or archive.",
    405: "The method is not allowed here, or the model API is switched off.",
    409: "This version is registered already.",
    500: "A worker failed to start.",
    507: "Out of memory, or the change could not be saved.",
}
