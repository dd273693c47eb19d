"""The management API as data. Pure."""

from __future__ import annotations

from marserve.protocols.operations import Operation, Parameter, Shape

_MODEL = "/models/{model_name}"
_VERSION = "/models/{model_name}/{model_version}"
_WORKFLOW = "/workflows/{workflow_name}"

_PAGE = (
    Parameter("limit", "integer", 100, summary="How many to list, at most 100."),
    Parameter("next_page_token", "integer", 0, summary="Where the page before this one ended."),
)
_URL = Parameter(
    "url",
    "string",
    required=True,
    summary="An archive of the store, by name, or an address that the operator allows.",
)
_TIMEOUTS = (
    Parameter("response_timeout", "integer", 120, summary="Seconds a batch may take."),
    Parameter("startup_timeout", "integer", 120, summary="Seconds a worker may take to load."),
)
_SIGNED = Parameter("s3_sse_kms", "boolean", False, summary="Sign the request to S3.")
_DIGEST = Parameter("sha256", "string", summary="The digest that the archive must have, in hex.")

API_DESCRIPTION = Operation("apiDescription", "OPTIONS", ("/",), "This document.")
GET_API_DESCRIPTION = Operation(
    "api-description", "GET", ("/api-description",), "This document; an older way to ask."
)

MODEL_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "describeModel",
        "GET",
        (_MODEL, _VERSION),
        "Settings, workers and queue of one version, or of `all`.",
        (
            Parameter(
                "customized",
                "boolean",
                False,
                summary="Ask the handler to describe itself, too; ignored with `all`.",
            ),
        ),
        Shape.VERSIONS,
        (200, 400, 404, 500, 503),
    ),
    Operation(
        "setAutoScale",
        "PUT",
        (_MODEL, _VERSION),
        "Change the number of workers.",
        (
            Parameter("min_worker", "integer", 1),
            Parameter("max_worker", "integer", summary="As many as min_worker, if not given."),
            Parameter("model_version", "string", summary="If the path names no version."),
            Parameter("synchronous", "boolean", False, summary="Wait for the workers."),
        ),
        Shape.STATUS,
        (200, 202, 206, 400, 404, 500, 507),
        takes_json=True,
    ),
    Operation(
        "unregisterModel",
        "DELETE",
        (_MODEL, _VERSION),
        "Unregister a version; the last one takes the model's name with it.",
        (),
        Shape.STATUS,
        (200, 403, 404, 405, 408),
        changes_models=True,
    ),
    Operation(
        "setDefault",
        "PUT",
        (f"{_VERSION}/set-default",),
        "Make a version the one that answers when no version is named.",
        (),
        Shape.STATUS,
        (200, 404),
    ),
    Operation(
        "modelApiDescription",
        "OPTIONS",
        (_MODEL, _VERSION),
        "The part of this document that is about one model.",
        (),
        Shape.OBJECT,
        (200, 404),
    ),
)
"""What can be done with one model."""

OPERATIONS: tuple[Operation, ...] = (
    API_DESCRIPTION,
    GET_API_DESCRIPTION,
    Operation(
        "listModels",
        "GET",
        ("/models",),
        "The default version of each model, by name.",
        _PAGE,
        Shape.MODELS,
        (200, 400),
    ),
    Operation(
        "registerModel",
        "POST",
        ("/models",),
        "Register an archive as a version of a model.",
        (
            _URL,
            Parameter("model_name", "string", summary="Instead of the archive's own name."),
            Parameter("handler", "string", summary="Instead of the archive's own handler."),
            Parameter("runtime", "string", choices=("python", "python3")),
            Parameter("batch_size", "integer", 1),
            Parameter("max_batch_delay", "integer", 100, summary="Milliseconds."),
            Parameter("initial_workers", "integer", summary="default_workers_per_model."),
            *_TIMEOUTS,
            Parameter("synchronous", "boolean", True, summary="Wait for the workers."),
            _SIGNED,
            _DIGEST,
        ),
        Shape.STATUS,
        (200, 202, 206, 400, 404, 405, 409, 500, 503, 507),
        changes_models=True,
        takes_json=True,
    ),
    *MODEL_OPERATIONS,
    Operation(
        "modelReady",
        "GET",
        ("/v1/models/{model_name}",),
        "Whether the default version can answer.",
        (),
        Shape.READY,
        (200, 404),
    ),
    Operation(
        "listWorkflows",
        "GET",
        ("/workflows",),
        "The workflows, by name.",
        _PAGE,
        Shape.WORKFLOWS,
        (200, 400),
    ),
    Operation(
        "registerWorkflow",
        "POST",
        ("/workflows",),
        "Register a workflow archive and start the models of its nodes.",
        (
            _URL,
            Parameter("workflow_name", "string", summary="Instead of the archive's own name."),
            *_TIMEOUTS,
            _SIGNED,
            _DIGEST,
        ),
        Shape.STATUS,
        (200, 400, 404, 405, 409, 500, 501, 503, 507),
        changes_models=True,
        takes_json=True,
    ),
    Operation(
        "describeWorkflow",
        "GET",
        (_WORKFLOW,),
        "The settings and the graph of one workflow.",
        (),
        Shape.WORKFLOW,
        (200, 404),
    ),
    Operation(
        "unregisterWorkflow",
        "DELETE",
        (_WORKFLOW,),
        "Unregister a workflow and the models of its nodes.",
        (),
        Shape.STATUS,
        (200, 404, 405),
        changes_models=True,
    ),
)

TOKEN_OPERATION = Operation(
    "renewToken",
    "GET",
    ("/token",),
    "Replace a key in the key file; asks for the API key. Served only where tokens are.",
    (Parameter("type", "string", required=True, choices=("management", "inference")),),
    Shape.NOTHING,
    (200, 401, 403),
)
