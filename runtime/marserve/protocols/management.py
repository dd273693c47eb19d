"""The management API's words: parameters -> typed wishes, descriptions -> TorchServe's JSON.

Pure. Strings become values here, once, and a parameter that makes no sense is refused by name;
which models exist and what becomes of a wish is for the control plane to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from marserve.errors import InvalidInput
from marserve.model_version import Description, WorkerDescription, WorkerState
from marserve.refs import ModelRef

Parameters = Mapping[str, object]
"""What the client gave: text from a query, any JSON value from a body."""

RUNTIMES = ("python", "python3")
MAX_PAGE = 100
_LARGEST = 2**31 - 1
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Registration:
    """A wish to register an archive. None: not given, so manifest and configuration decide."""

    url: str
    model_name: str | None = None
    handler: str | None = None
    runtime: str | None = None
    batch_size: int | None = None
    max_batch_delay_ms: int | None = None
    initial_workers: int | None = None
    response_timeout_s: int | None = None
    startup_timeout_s: int | None = None
    synchronous: bool = True


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of a registration. Not `done`: its workers are still starting."""

    ref: ModelRef
    workers: int
    done: bool


@dataclass(frozen=True, slots=True)
class Scaling:
    """A wish for another number of workers. `version` None: the default version."""

    version: str | None
    min_workers: int
    max_workers: int | None
    synchronous: bool


@dataclass(frozen=True, slots=True)
class Scaled:
    """What became of a scaling. Not `done`: workers are still starting or stopping."""

    ref: ModelRef
    workers: int
    done: bool
    version_given: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of the list of models is wanted."""

    start: int
    limit: int


# --- wishes ---


def parameters(query: Mapping[str, str], content_type: str, body: bytes) -> Parameters:
    """The parameters of a request: the JSON body's if there is one, else the query's.

    Raises:
        InvalidInput: the body is not one JSON object with each name once.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json" or not body.strip():
        return query
    try:
        document = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The request body is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput("The request body must be a JSON object.")
    return document


def registration(given: Parameters) -> Registration:
    """The registration that `given` asks for.

    Raises:
        InvalidInput: `url` is missing, or a parameter is malformed or out of range.
    """
    url = _text(given, "url")
    if url is None:
        raise InvalidInput("Parameter url is required.")
    runtime = _text(given, "runtime")
    if runtime is not None and runtime not in RUNTIMES:
        raise InvalidInput(f"Invalid RuntimeType value: {runtime}")
    return Registration(
        url=url,
        model_name=_text(given, "model_name"),
        handler=_text(given, "handler"),
        runtime=runtime,
        batch_size=_integer(given, "batch_size", at_least=1),
        max_batch_delay_ms=_integer(given, "max_batch_delay", at_least=0),
        initial_workers=_integer(given, "initial_workers", at_least=0),
        response_timeout_s=_integer(given, "response_timeout", at_least=1),
        startup_timeout_s=_integer(given, "startup_timeout", at_least=1),
        synchronous=_flag(given, "synchronous", default=True),
    )


def scaling(given: Parameters, version: str | None) -> Scaling:
    """The scaling that `given` asks for; `version` is the path's and beats `model_version`.

    Raises:
        InvalidInput: a parameter is malformed or out of range.
    """
    wanted = _integer(given, "min_worker", at_least=0)
    min_workers = 1 if wanted is None else wanted
    max_workers = _integer(given, "max_worker", at_least=None)
    if max_workers is not None and max_workers < min_workers:
        raise InvalidInput("max_worker cannot be less than min_worker.")
    return Scaling(
        version=version if version is not None else _text(given, "model_version"),
        min_workers=min_workers,
        max_workers=max_workers,
        synchronous=_flag(given, "synchronous", default=False),
    )


def page(given: Parameters) -> Page:
    """The page that `given` asks for; never more than `MAX_PAGE` models.

    Raises:
        InvalidInput: a parameter is malformed or negative.
    """
    limit = _integer(given, "limit", at_least=0)
    start = _integer(given, "next_page_token", at_least=0)
    return Page(start=start or 0, limit=MAX_PAGE if limit is None else min(limit, MAX_PAGE))


# --- answers: HTTP status and JSON document ---


def registered_answer(registered: Registered) -> tuple[int, dict[str, Any]]:
    """200 once all workers are ready (or none was wanted), else 202."""
    if not registered.done:
        return 202, _PROCESSING
    ref = registered.ref
    text = (
        f'Model "{ref.name}" Version: {ref.version} '
        f"registered with {registered.workers} initial workers"
    )
    if registered.workers == 0:
        text += ". Use scale workers API to add workers for the model."
    return 200, {"status": text}


def scaled_answer(scaled: Scaled) -> tuple[int, dict[str, Any]]:
    """200 once the workers are as wanted, else 202."""
    if not scaled.done:
        return 202, _PROCESSING
    text = f"Workers scaled to {scaled.workers} for model: {scaled.ref.name}"
    if scaled.version_given:
        text += f", version: {scaled.ref.version}"
    return 200, {"status": text}


def default_set_answer(name: str, version: str) -> tuple[int, dict[str, Any]]:
    """The default version is now `version`."""
    return 200, {
        "status": f'Default version successfully updated for model "{name}" to "{version}"'
    }


def no_such_default(name: str, version: str) -> str:
    """The message for a version that cannot become the default: it is not there."""
    return f"Model version {version} does not exist for model {name}"


def unregistered_answer(name: str) -> tuple[int, dict[str, Any]]:
    """The model, or one version of it, is gone."""
    return 200, {"status": f'Model "{name}" unregistered'}


def ready_answer(name: str, is_ready: bool) -> tuple[int, dict[str, Any]]:
    """The KServe v1 form of readiness."""
    return 200, {"name": name, "ready": is_ready}


def list_answer(models: Sequence[Description], page: Page) -> tuple[int, dict[str, Any]]:
    """One page of the models; `nextPageToken` is left out when the page passes the end."""
    end = page.start + page.limit
    rows = [{"modelName": m.ref.name, "modelUrl": m.url} for m in models[page.start : end]]
    if end <= len(models):
        return 200, {"nextPageToken": str(end), "models": rows}
    return 200, {"models": rows}


def describe_answer(versions: Sequence[Description]) -> tuple[int, list[dict[str, Any]]]:
    """All that is known of some versions of one model."""
    return 200, [_version(description) for description in versions]


_PROCESSING: dict[str, Any] = {"status": "Processing worker updates..."}

_NOT_OFFERED: dict[str, Any] = {
    "maxRetryTimeoutInSec": 300,
    "clientTimeoutInMills": 0,
    "parallelType": "",
    "parallelLevel": 0,
    "deviceType": "cpu",
    "continuousBatching": False,
    "useJobTicket": False,
    "useVenv": False,
    "stateful": False,
    "sequenceMaxIdleMSec": 0,
    "sequenceTimeoutMSec": 0,
    "maxNumSequence": 0,
    "maxSequenceJobQueueSize": 0,
}
"""Fields that TorchServe's clients expect between ours, with the value that means "not in use"."""


def _version(description: Description) -> dict[str, Any]:
    """TorchServe's fields in its order, then `state` and, if there is one, `lastError`."""
    settings = description.settings
    document = {
        "modelName": description.ref.name,
        "modelVersion": description.ref.version,
        "modelUrl": description.url,
        "runtime": settings.runtime,
        "minWorkers": settings.min_workers,
        "maxWorkers": settings.max_workers,
        "batchSize": settings.batch_size,
        "maxBatchDelay": settings.max_batch_delay_ms,
        "responseTimeout": settings.response_timeout_s,
        "startupTimeout": settings.startup_timeout_s,
        **_NOT_OFFERED,
        "loadedAtStartup": description.loaded_at_startup,
        "workers": [_worker(worker) for worker in description.workers],
        "jobQueueStatus": {
            "remainingCapacity": max(0, settings.queue_size - description.pending_requests),
            "pendingRequests": description.pending_requests,
        },
        "state": description.state.value,
    }
    if description.last_error is not None:
        document["lastError"] = description.last_error
    return document


def _worker(worker: WorkerDescription) -> dict[str, Any]:
    """TorchServe's fields in its order, then what it does not tell."""
    document = {
        "id": worker.id,
        "startTime": _utc(worker.started_at),
        "status": "READY" if worker.state is WorkerState.READY else "UNLOADING",
        "memoryUsage": worker.memory_bytes,
        "pid": worker.pid,
        "gpu": False,
        "gpuUsage": "N/A",
        "state": worker.state.value,
        "restarts": worker.restarts,
    }
    if worker.last_error is not None:
        document["lastError"] = worker.last_error
    return document


def _utc(seconds: float) -> str:
    """Seconds since the epoch -> `2026-05-01T10:00:00.123Z`."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds") + "Z"


# --- one parameter ---


def _text(given: Parameters, name: str) -> str | None:
    """A text parameter; an empty one counts as not given."""
    value = given.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"Parameter {name} must be text.")
    return value


def _integer(given: Parameters, name: str, *, at_least: int | None) -> int | None:
    """A whole number, as itself or as text."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST:
        raise InvalidInput(f"Parameter {name} must be a whole number.")
    if at_least is not None and value < at_least:
        raise InvalidInput(f"Parameter {name} must be at least {at_least}, not {value}.")
    return value


def _flag(given: Parameters, name: str, *, default: bool) -> bool:
    """`true` or `false` in any case, or a JSON boolean."""
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if not isinstance(value, bool):
        raise InvalidInput(f"Parameter {name} must be true or false.")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return document


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON value")
