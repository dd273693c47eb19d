"""The management API's words: parameters -> typed wishes, outcomes -> TorchServe's JSON. Pure.

Which models exist and what becomes of a wish is for the control plane to say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from marserve.errors import ArchiveNotFound, InvalidInput
from marserve.model_version import Description, WorkerDescription, WorkerState
from marserve.protocols.faults import torchserve_json
from marserve.protocols.parameters import Parameters, digest, flag, integer, text
from marserve.refs import ModelRef

RUNTIMES = ("python", "python3")
MAX_PAGE = 100
ALL_VERSIONS = "all"
"""In the place of a version: every version of the model."""


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
    s3_sse_kms: bool = False
    """`url` is fetched from S3 with a signed request."""
    sha256: str | None = None
    """The digest that the archive must have, in lower-case hex."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of a registration. Not `done`: its workers are still starting."""

    ref: ModelRef
    workers: int
    done: bool
    is_partial: bool = False
    """It was waited for, and yet fewer workers run than were asked for."""


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
    is_partial: bool = False
    """It was waited for, and yet not all workers run."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of the list of models is wanted."""

    start: int
    limit: int


# --- wishes ---


def registration(given: Parameters) -> Registration:
    """The registration that `given` asks for.

    Raises:
        InvalidInput: `url` is missing, or a parameter is malformed or out of range.
        ArchiveNotFound: `url` is empty.
    """
    url = text(given, "url")
    if url is None:
        if given.get("url") == "":
            raise ArchiveNotFound("empty url")
        raise InvalidInput("Parameter url is required.")
    runtime = text(given, "runtime")
    if runtime is not None and runtime not in RUNTIMES:
        because = ". C++ handlers are not served." if runtime == "LSP" else ""
        raise InvalidInput(f"Invalid RuntimeType value: {runtime}{because}")
    return Registration(
        url=url,
        model_name=text(given, "model_name"),
        handler=text(given, "handler"),
        runtime=runtime,
        batch_size=integer(given, "batch_size", at_least=1),
        max_batch_delay_ms=integer(given, "max_batch_delay", at_least=0),
        initial_workers=integer(given, "initial_workers", at_least=0),
        response_timeout_s=integer(given, "response_timeout", at_least=1),
        startup_timeout_s=integer(given, "startup_timeout", at_least=1),
        synchronous=flag(given, "synchronous", default=True),
        s3_sse_kms=flag(given, "s3_sse_kms", default=False),
        sha256=digest(given, "sha256"),
    )


def scaling(given: Parameters, version: str | None) -> Scaling:
    """The scaling that `given` asks for; `version` is the path's and beats `model_version`.

    Raises:
        InvalidInput: a parameter is malformed or out of range.
    """
    wanted = integer(given, "min_worker", at_least=0)
    min_workers = 1 if wanted is None else wanted
    max_workers = integer(given, "max_worker", at_least=None)
    if max_workers is not None and max_workers < min_workers:
        raise InvalidInput("max_worker cannot be less than min_worker.")
    return Scaling(
        version=version if version is not None else text(given, "model_version"),
        min_workers=min_workers,
        max_workers=max_workers,
        synchronous=flag(given, "synchronous", default=False),
    )


def wants_customized(given: Parameters, version: str | None) -> bool:
    """Whether the handler shall be asked to describe itself; not with all versions at once.

    Raises:
        InvalidInput: the parameter is malformed.
    """
    return flag(given, "customized", default=False) and version != ALL_VERSIONS


def page(given: Parameters) -> Page:
    """The page that `given` asks for; never more than `MAX_PAGE` models.

    Raises:
        InvalidInput: a parameter is malformed or negative.
    """
    limit = integer(given, "limit", at_least=0)
    start = integer(given, "next_page_token", at_least=0)
    return Page(start=start or 0, limit=MAX_PAGE if limit is None else min(limit, MAX_PAGE))


# --- answers: HTTP status and JSON document ---


def registered_answer(registered: Registered) -> tuple[int, dict[str, Any]]:
    """200 once all workers are ready (or none was wanted), 206 when some are not, else 202."""
    if registered.is_partial:
        return 206, _IN_PROGRESS
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
    """200 once the workers are as wanted, 206 when some are not, else 202."""
    if scaled.is_partial:
        return 206, _IN_PROGRESS
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


NOT_DESCRIBED = "Failed to get customized model matadata."
"""The handler did not describe itself in time; the word is TorchServe's."""


def nobody_describes(name: str) -> str:
    """The message when no worker could be asked to describe the model."""
    return (
        f'Model "{name}" has no worker to serve describe request. '
        "Please use scale workers API to add workers."
    )


def not_unregistered(name: str) -> str:
    """The message when what a model was still doing did not end in time."""
    return f"Timed out while cleaning resources: {name}"


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
_IN_PROGRESS: dict[str, Any] = {"status": "Workers scaling in progress..."}


def _version(description: Description) -> dict[str, Any]:
    """TorchServe's fields in its order, then `state`, and `lastError` and `lastOutput` if any."""
    settings = description.settings
    is_on_gpu = any(worker.gpu_id is not None for worker in description.workers)
    document: dict[str, Any] = {
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
        "maxRetryTimeoutInSec": settings.max_retry_s,
        "clientTimeoutInMills": settings.client_timeout_ms,
        "parallelType": settings.parallel_type,
        "parallelLevel": settings.parallel_level,
        "deviceType": settings.device_type or ("gpu" if is_on_gpu else "cpu"),
        **({"deviceIds": list(settings.device_ids)} if settings.device_ids else {}),
        "continuousBatching": settings.continuous_batching,
        "useJobTicket": settings.use_job_ticket,
        "useVenv": settings.use_venv,
        "stateful": settings.sequence_batching,
        "sequenceMaxIdleMSec": settings.sequence_max_idle_ms,
        "sequenceTimeoutMSec": settings.sequence_timeout_ms,
        "maxNumSequence": settings.max_sequences,
        "maxSequenceJobQueueSize": settings.sequence_queue_size,
        "loadedAtStartup": description.loaded_at_startup,
        "workers": [_worker(worker) for worker in description.workers],
        "jobQueueStatus": {
            "remainingCapacity": max(0, settings.queue_size - description.pending_requests),
            "pendingRequests": description.pending_requests,
        },
    }
    if description.customized:
        document["customizedMetadata"] = _object(description.customized)
    document["state"] = description.state.value
    if description.last_error is not None:
        document["lastError"] = description.last_error
    if description.last_output is not None:
        document["lastOutput"] = description.last_output
    return document


def _worker(worker: WorkerDescription) -> dict[str, Any]:
    """TorchServe's fields in its order, then what it does not tell."""
    document: dict[str, Any] = {
        "id": worker.id,
        "startTime": _utc(worker.started_at),
        "status": "READY" if worker.state is WorkerState.READY else "UNLOADING",
        "memoryUsage": worker.memory_bytes,
        "pid": worker.pid,
        "gpu": worker.gpu_id is not None,
        "gpuUsage": worker.gpu_usage,
        "state": worker.state.value,
        "restarts": worker.restarts,
    }
    if worker.last_error is not None:
        document["lastError"] = worker.last_error
    return document


def _object(text: bytes) -> dict[str, Any]:
    """The JSON object that a handler says of itself; empty when it says anything else."""
    try:
        document = json.loads(text)
        torchserve_json(document)  # NaN and the like are read, but cannot be written
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _utc(seconds: float) -> str:
    """Seconds since the epoch -> `2026-05-01T10:00:00.123Z`."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds") + "Z"
