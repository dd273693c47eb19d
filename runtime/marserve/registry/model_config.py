"""What an archive's `model-config.yaml` says about serving it. Pure.

Only the keys that this server acts on are read here; the handler gets the whole document. A value
of the wrong type is ignored with a warning, as archives made for TorchServe rely on.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from marserve.registry.yaml_document import YamlInvalid, read_yaml

__all__ = ["ModelConfig", "TorchRun", "parse"]

_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TorchRun:
    """How `torchrun` starts the processes of a parallel worker."""

    nnodes: str = "1"
    nproc_per_node: int = 1
    rdzv_backend: str = "c10d"
    rdzv_endpoint: str = ""
    rdzv_conf: str = ""
    monitor_interval_s: int = 5
    node_rank: int = 0
    master_addr: str = ""
    master_port: int | None = None
    omp_threads: int = 1


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """None: the document does not say."""

    min_workers: int | None = None
    max_workers: int | None = None
    batch_size: int | None = None
    max_batch_delay_ms: int | None = None
    max_batch_bytes: int | None = None
    response_timeout_s: int | None = None
    startup_timeout_s: int | None = None
    queue_size: int | None = None
    max_retry_s: int | None = None
    client_timeout_ms: int | None = None
    device_type: str | None = None
    device_ids: tuple[int, ...] | None = None
    parallel_type: str | None = None
    parallel_level: int | None = None
    use_job_ticket: bool | None = None
    use_venv: bool | None = None
    async_communication: bool | None = None
    continuous_batching: bool | None = None
    sequence_batching: bool | None = None
    sequence_max_idle_ms: int | None = None
    sequence_timeout_ms: int | None = None
    max_sequences: int | None = None
    sequence_queue_size: int | None = None
    scale_up_queue_ms: int | None = None
    scale_down_idle_s: int | None = None
    idempotent: bool | None = None
    recycle_after_requests: int | None = None
    recycle_above_mb: int | None = None
    torchrun: TorchRun | None = None
    sandbox: str | None = None
    """off, default or strict."""
    network: bool | None = None
    """Whether its workers need sockets that lead out of the machine."""


@dataclass(frozen=True, slots=True)
class _Key:
    """How one key is read: the field that gets it, and a check that says what was expected."""

    field: str
    expected: str
    fits: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value


def _whole(field: str, least: int) -> _Key:
    return _Key(
        field,
        f"a whole number from {least} to {_MOST}",
        lambda value: type(value) is int and least <= value <= _MOST,
    )


def _flag(field: str) -> _Key:
    return _Key(field, "true or false", lambda value: type(value) is bool)


def _one_of(field: str, *choices: str) -> _Key:
    return _Key(field, " or ".join(choices), lambda value: value in choices)


def _is_device_list(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


_KEYS: dict[str, _Key] = {
    "minWorkers": _whole("min_workers", 0),
    "maxWorkers": _whole("max_workers", 1),
    "batchSize": _whole("batch_size", 1),
    "maxBatchDelay": _whole("max_batch_delay_ms", 0),
    "maxBatchBytes": _whole("max_batch_bytes", 1),
    "responseTimeout": _whole("response_timeout_s", 1),
    "startupTimeout": _whole("startup_timeout_s", 1),
    "jobQueueSize": _whole("queue_size", 1),
    "maxRetryTimeoutInSec": _whole("max_retry_s", 1),
    "clientTimeoutInMills": _whole("client_timeout_ms", 0),
    "deviceType": _one_of("device_type", "cpu", "gpu"),
    "deviceIds": _Key("device_ids", "a list of device numbers", _is_device_list, tuple),
    "parallelType": _one_of("parallel_type", "pp", "tp", "pptp", "custom"),
    "parallelLevel": _whole("parallel_level", 1),
    "useJobTicket": _flag("use_job_ticket"),
    "useVenv": _flag("use_venv"),
    "asyncCommunication": _flag("async_communication"),
    "continuousBatching": _flag("continuous_batching"),
    "sequenceBatching": _flag("sequence_batching"),
    "sequenceMaxIdleMSec": _whole("sequence_max_idle_ms", 0),
    "sequenceTimeoutMSec": _whole("sequence_timeout_ms", 0),
    "maxNumSequence": _whole("max_sequences", 1),
    "maxSequenceJobQueueSize": _whole("sequence_queue_size", 1),
    "scaleUpQueueMSec": _whole("scale_up_queue_ms", 1),
    "scaleDownIdleSec": _whole("scale_down_idle_s", 1),
    "sandbox": _Key(
        "sandbox",
        "off, default or strict",
        lambda value: value is False or value in ("off", "default", "strict"),
        lambda value: value or "off",  # YAML takes the word off for false
    ),
    "network": _flag("network"),
    "idempotent": _flag("idempotent"),
    "recycleAfterRequests": _whole("recycle_after_requests", 1),
    "recycleAboveMb": _whole("recycle_above_mb", 1),
}

_TORCHRUN_KEYS: dict[str, _Key] = {
    "nnodes": _Key(
        "nnodes", "a number or a range of nodes", lambda value: type(value) in (int, str), str
    ),
    "nproc-per-node": _whole("nproc_per_node", 1),
    "rdzv-backend": _Key("rdzv_backend", "text", lambda value: isinstance(value, str)),
    "rdzv-endpoint": _Key("rdzv_endpoint", "text", lambda value: isinstance(value, str)),
    "rdzv-conf": _Key("rdzv_conf", "text", lambda value: isinstance(value, str)),
    "monitor-interval": _whole("monitor_interval_s", 1),
    "node-rank": _whole("node_rank", 0),
    "master-addr": _Key("master_addr", "text", lambda value: isinstance(value, str)),
    "master-port": _whole("master_port", 1),
    "OMP_NUMBER_THREADS": _whole("omp_threads", 1),
}


def parse(text: bytes) -> tuple[ModelConfig, tuple[str, ...]]:
    """The settings in a YAML document, and a warning for everything that was ignored."""
    try:
        document = read_yaml(text)
    except YamlInvalid as error:
        return ModelConfig(), (f"it is not valid YAML: {error}",)
    if document is None:
        return ModelConfig(), ()
    if not isinstance(document, dict):
        return ModelConfig(), ("it does not hold settings by name",)
    warnings: list[str] = []
    taken = _read(document, _KEYS, warnings)
    torchrun = document.get("torchrun")
    if isinstance(torchrun, dict):
        taken["torchrun"] = TorchRun(**_read(torchrun, _TORCHRUN_KEYS, warnings))
    elif torchrun is not None:
        warnings.append(f"torchrun is {_shown(torchrun)}, not settings by name; ignored")
    least, most = taken.get("min_workers"), taken.get("max_workers")
    if least is not None and most is not None and most < least:
        warnings.append("maxWorkers is less than minWorkers; both are ignored")
        del taken["min_workers"], taken["max_workers"]
    if taken.get("sequence_batching") and not taken.get("sequence_max_idle_ms"):
        warnings.append("sequenceBatching needs a sequenceMaxIdleMSec of at least 1; ignored")
        del taken["sequence_batching"]
    return ModelConfig(**taken), tuple(warnings)


def _read(
    document: Mapping[Any, Any], keys: Mapping[str, _Key], warnings: list[str]
) -> dict[str, Any]:
    """The usable values by field; a warning for each of the others."""
    taken: dict[str, Any] = {}
    for name, key in keys.items():
        value = document.get(name)
        if value is None:
            continue
        if key.fits(value):
            taken[key.field] = key.convert(value)
        else:
            warnings.append(f"{name} is {_shown(value)}, not {key.expected}; ignored")
    return taken


def _shown(value: Any) -> str:
    """The beginning of a value: aliases of aliases make a short document print without end."""
    if isinstance(value, int) and abs(value) > _MOST:
        return "a number of many digits"
    return reprlib.repr(value)[:80]
