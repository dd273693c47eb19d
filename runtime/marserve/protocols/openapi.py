"""OpenAPI 3.0.1 documents of the server's APIs, written from the rows that describe them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from marserve.protocols import inference_api as inference
from marserve.protocols import management_api as management
from marserve.protocols.operations import Operation, Parameter, Shape

Document = dict[str, Any]


def inference_api(version: str, *, open_inference: bool = False) -> Document:
    """The inference port of release `version`, with or without the Open Inference Protocol."""
    more = inference.OPEN_INFERENCE_OPERATIONS if open_inference else ()
    return _document(
        "MarServe inference API",
        "Predictions and explanations of the registered models.",
        version,
        (*inference.OPERATIONS, *more),
    )


def management_api(version: str, *, tokens: bool = False) -> Document:
    """The management port of release `version`, with or without the renewal of tokens."""
    more = (management.TOKEN_OPERATION,) if tokens else ()
    return _document(
        "MarServe management API",
        "Registers, scales, describes and unregisters models and workflows.",
        version,
        (*management.OPERATIONS, *more),
        (401, 403) if tokens else (403,),
    )


def metrics_api(version: str) -> Document:
    """The metrics port of release `version`."""
    return _document(
        "MarServe metrics API",
        "Metrics of the server and its models, for Prometheus.",
        version,
        inference.METRICS_OPERATIONS,
        (401, 403),
    )


def model_inference_api(name: str) -> Document:
    """How to predict with the model `name`; the form of its data is its handler's own."""
    return _document(
        f"Inference API of the model {name}",
        "What is sent and what comes back is decided by the model's handler.",
        "1.0.0",
        inference.model_operations(name),
    )


def model_management_api(name: str, version: str) -> Document:
    """How to manage the model `name` on a server of release `version`."""
    return _document(
        f"Management API of the model {name}",
        f"Put {name} in the place of model_name.",
        version,
        management.MODEL_OPERATIONS,
    )


def _document(
    title: str,
    summary: str,
    version: str,
    operations: Iterable[Operation],
    refusals: tuple[int, ...] = (),
) -> Document:
    """`refusals`: statuses that every operation may have, before anybody looks what it is."""
    paths: dict[str, Document] = {}
    for operation in operations:
        for path in operation.paths:
            paths.setdefault(path, {})[operation.method.lower()] = _operation(
                operation, path, refusals
            )
    return {
        "openapi": "3.0.1",
        "info": {"title": title, "description": summary, "version": version},
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }


def _operation(operation: Operation, path: str, refusals: tuple[int, ...]) -> Document:
    in_path = [
        {"in": "path", "name": name, "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]
    in_query = [_parameter(p) for p in operation.parameters if f"{{{p.name}}}" not in path]
    document = {
        "operationId": operation.id_of(path),
        "description": operation.summary,
        "parameters": in_path + in_query,
        "responses": {
            str(status): _response(operation, status)
            for status in sorted({*operation.statuses, *refusals})
        },
    }
    if operation.takes_anything:
        document["requestBody"] = {"content": {"*/*": {"schema": {}}}}
    if operation.takes_json:
        properties = {p.name: _schema(p) for p in operation.parameters}
        body = {"type": "object", "properties": properties}
        document["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return document


def _parameter(parameter: Parameter) -> Document:
    document: Document = {"in": "query", "name": parameter.name, "required": parameter.required}
    if parameter.summary:
        document["description"] = parameter.summary
    return document | {"schema": _schema(parameter)}


def _schema(parameter: Parameter) -> Document:
    schema: Document = {"type": parameter.type}
    if parameter.type == "array":
        schema["items"] = {"type": "string"}
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    return schema


def _response(operation: Operation, status: int) -> Document:
    words = {"description": _WORDS[status]}
    if status >= 400:
        return words | {"content": {"application/json": {"schema": _named("Error")}}}
    content = _CONTENTS.get(operation.answer, {"application/json": {}})
    if operation.answer.value in _SCHEMAS:
        content = {"application/json": {"schema": _named(operation.answer.value)}}
    return words | ({"content": content} if content else {})


def _named(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Mapping[str, str | Document], *optional: str) -> Document:
    """The schema of an object; a property is the name of a simple type, or a schema."""
    schemas = {k: {"type": v} if isinstance(v, str) else v for k, v in properties.items()}
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": schemas}


def _array(items: Document) -> Document:
    return {"type": "array", "items": items}


_CONTENTS: Mapping[Shape, Document] = {
    Shape.ANYTHING: {"*/*": {"schema": {}}},
    Shape.NOTHING: {},
    Shape.OBJECT: {"application/json": {"schema": {"type": "object"}}},
    Shape.METRICS: {"text/plain; version=0.0.4; charset=utf-8": {"schema": {"type": "string"}}},
}

_WORKER = _object(
    {
        "id": "string",
        "startTime": "string",
        "status": {"type": "string", "enum": ["READY", "UNLOADING"]},
        "memoryUsage": "integer",
        "pid": "integer",
        "gpu": "boolean",
        "gpuUsage": "string",
        "state": "string",
        "restarts": "integer",
        "lastError": "string",
    },
    "lastError",
)

_VERSION = _object(
    {
        **dict.fromkeys(("modelName", "modelVersion", "modelUrl", "runtime"), "string"),
        **dict.fromkeys(
            (
                *("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay"),
                *("responseTimeout", "startupTimeout"),
                *("maxRetryTimeoutInSec", "clientTimeoutInMills"),
            ),
            "integer",
        ),
        "parallelType": "string",
        "parallelLevel": "integer",
        "deviceType": "string",
        "deviceIds": _array({"type": "integer"}),
        **dict.fromkeys(("continuousBatching", "useJobTicket", "useVenv", "stateful"), "boolean"),
        **dict.fromkeys(
            (
                *("sequenceMaxIdleMSec", "sequenceTimeoutMSec"),
                *("maxNumSequence", "maxSequenceJobQueueSize"),
            ),
            "integer",
        ),
        "loadedAtStartup": "boolean",
        "workers": _array(_WORKER),
        "jobQueueStatus": _object({"remainingCapacity": "integer", "pendingRequests": "integer"}),
        "customizedMetadata": {"type": "object"},
        "state": "string",
        "lastError": "string",
    },
    *("deviceIds", "customizedMetadata", "lastError"),
)

_SCHEMAS: Mapping[str, Document] = {
    "Error": _object({"code": "integer", "type": "string", "message": "string"}),
    "Status": _object({"status": "string"}),
    "Models": _object(
        {
            "nextPageToken": "string",
            "models": _array(_object({"modelName": "string", "modelUrl": "string"})),
        },
        "nextPageToken",
    ),
    "Versions": _array(_VERSION),
    "Ready": _object({"name": "string", "ready": "boolean"}),
    "Workflows": _object(
        {
            "nextPageToken": "string",
            "workflows": _array(_object({"workflowName": "string", "workflowUrl": "string"})),
        },
        "nextPageToken",
    ),
    "Workflow": _array(
        _object(
            {
                **dict.fromkeys(("workflowName", "workflowUrl"), "string"),
                **dict.fromkeys(("minWorkers", "maxWorkers"), "integer"),
                **dict.fromkeys(("batchSize", "maxBatchDelay"), "integer"),
                "workflowDag": "string",
            }
        )
    ),
}

_WORDS = {
    200: "Done.",
    202: "Accepted; workers are still starting or stopping.",
    206: "Not all workers run that were asked for.",
    400: "A parameter is missing or malformed, or the archive cannot be used.",
    401: "A token is missing.",
    403: "Not allowed: a wrong token, a foreign page or host, or a default version that is still "
    "needed.",
    404: "No such model, version, workflow or archive.",
    405: "The method is not allowed here, or the model API is switched off.",
    408: "What the model was doing did not end in time.",
    409: "This is registered already.",
    413: "The body is too large.",
    422: "Requests like this one have ended workers before.",
    429: "This client asks for more than its share.",
    500: "A worker failed.",
    501: "Not offered by this server.",
    503: "No worker can answer now.",
    504: "No answer came in time.",
    507: "Out of memory, or the change could not be saved.",
}
