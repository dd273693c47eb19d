"""The inference API and the metrics API as data, for their descriptions. Pure.

Inference paths answer to every method but OPTIONS; POST is the one to use, so it is what is shown.
"""

from __future__ import annotations

from marserve.protocols.management_api import API_DESCRIPTION, GET_API_DESCRIPTION
from marserve.protocols.operations import Operation, Parameter, Shape

_PREDICTED = (200, 400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504, 507)


def _calls(id: str, path: str, summary: str, *more_paths: str) -> Operation:
    return Operation(
        id,
        "POST",
        (path, *more_paths),
        summary,
        (),
        Shape.ANYTHING,
        _PREDICTED,
        takes_anything=True,
    )


def _asks(
    id: str, paths: tuple[str, ...], summary: str, shape: Shape = Shape.STATUS, *statuses: int
) -> Operation:
    return Operation(id, "GET", paths, summary, (), shape, (200, *statuses))


OPERATIONS: tuple[Operation, ...] = (
    API_DESCRIPTION,
    GET_API_DESCRIPTION,
    _asks("ping", ("/ping",), "Whether the server is healthy.", Shape.STATUS, 500),
    _asks("live", ("/healthz/live",), "Whether the server runs."),
    _asks("ready", ("/healthz/ready",), "Whether every model can answer.", Shape.OBJECT, 503),
    _asks(
        "modelReady",
        ("/healthz/ready/{model_name}", "/healthz/ready/{model_name}/{model_version}"),
        "Whether a model can answer.",
        Shape.OBJECT,
        404,
        503,
    ),
    _calls(
        "predictions",
        "/predictions/{model_name}",
        "Predict with a model; what is sent and what comes back is its handler's.",
        "/predictions/{model_name}/{model_version}",
    ),
    Operation(
        "modelApiDescription",
        "OPTIONS",
        ("/predictions/{model_name}",),
        "The part of this document that is about one model.",
        (),
        Shape.OBJECT,
        (200, 404),
    ),
    _calls(
        "explanations",
        "/explanations/{model_name}",
        "Explain a prediction.",
        "/explanations/{model_name}/{model_version}",
    ),
    _calls("v1Predict", "/v1/models/{model_name}:predict", "Predict, KServe v1."),
    _calls("v1Explain", "/v1/models/{model_name}:explain", "Explain, KServe v1."),
    _calls("v2Infer", "/v2/models/{model_name}/infer", "Predict, KServe v2."),
    _calls("v2Explain", "/v2/models/{model_name}/explain", "Explain, KServe v2."),
    Operation(
        "invocations",
        "POST",
        ("/invocations",),
        "Predict, SageMaker: with the model that is named, or the only one.",
        (Parameter("model_name", "string"),),
        Shape.ANYTHING,
        _PREDICTED,
        takes_anything=True,
    ),
    _calls("invoke", "/models/{model_name}/invoke", "Predict, SageMaker with several models."),
    _calls(
        "predict",
        "/{model_name}/predict",
        "Predict; an older way.",
        "/{model_name}/{model_version}/predict",
    ),
    _calls("workflowPredict", "/wfpredict/{workflow_name}", "Predict with a workflow."),
)

OPEN_INFERENCE_OPERATIONS: tuple[Operation, ...] = (
    _asks("serverMetadata", ("/v2",), "The server's name, version and extensions.", Shape.OBJECT),
    _asks("serverLive", ("/v2/health/live",), "Whether the server runs.", Shape.OBJECT),
    _asks("serverReady", ("/v2/health/ready",), "Whether the server can answer.", Shape.OBJECT),
)
"""Served only where the Open Inference Protocol is switched on."""

METRICS_OPERATIONS: tuple[Operation, ...] = (
    API_DESCRIPTION,
    GET_API_DESCRIPTION,
    Operation(
        "metrics",
        "GET",
        ("/metrics",),
        "All metrics, or those that are named.",
        (Parameter("name[]", "array", summary="Names of samples or of families."),),
        Shape.METRICS,
        (200, 503),
    ),
)


def model_operations(name: str) -> tuple[Operation, ...]:
    """The ways to predict with one model, their paths filled in."""
    return tuple(
        Operation(
            operation.id,
            operation.method,
            tuple(path.replace("{model_name}", name) for path in operation.paths),
            operation.summary,
            operation.parameters,
            operation.answer,
            operation.statuses,
            takes_anything=True,
        )
        for operation in OPERATIONS
        if operation.takes_anything and "{model_name}" in operation.paths[0]
    )
