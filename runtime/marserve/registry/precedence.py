"""Which of several sources decides each setting of a version. Pure.

A request's own parameter beats the archive's YAML, which beats the `models` property, which beats
the server-wide default. Workers and timeouts follow TorchServe: there the YAML beats the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from marserve.config import Config, ModelOverrides
from marserve.model_version import Settings
from marserve.protocols.management import Registration
from marserve.registry.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that may have a say."""

    wish: Registration
    yaml: ModelConfig
    overrides: ModelOverrides
    config: Config
    at_startup: bool
    """Loaded when the server starts, not by a request: `models` may then set the workers too."""
    startup_workers: int
    """Workers of a model that is loaded at start-up when nothing else says how many."""


def decide(sources: Sources) -> Settings:
    """What is wanted of the version."""
    wish, yaml, overrides, config = sources.wish, sources.yaml, sources.overrides, sources.config
    least, most = _workers(sources)
    return Settings(
        min_workers=least,
        max_workers=most,
        batch_size=_first(
            wish.batch_size, yaml.batch_size, overrides.batch_size, config.batch_size
        ),
        max_batch_delay_ms=_first(
            wish.max_batch_delay_ms,
            yaml.max_batch_delay_ms,
            overrides.max_batch_delay_ms,
            config.max_batch_delay_ms,
        ),
        response_timeout_s=_first(
            yaml.response_timeout_s,
            overrides.response_timeout_s,
            wish.response_timeout_s,
            config.default_response_timeout_s,
        ),
        startup_timeout_s=_first(
            yaml.startup_timeout_s,
            overrides.startup_timeout_s,
            wish.startup_timeout_s,
            config.default_startup_timeout_s,
        ),
        queue_size=_first(yaml.queue_size, config.job_queue_size),
        handler=wish.handler,
        runtime=wish.runtime or overrides.runtime or "python",
        **_archive_only(yaml, most),
    )


def _archive_only(yaml: ModelConfig, max_workers: int) -> dict[str, Any]:
    """What only an archive's YAML can say."""
    said: dict[str, Any] = {
        name: value for name in _ARCHIVE_ONLY if (value := getattr(yaml, name)) is not None
    }
    if yaml.parallel_type is None:
        said.pop("parallel_level", None)
    elif yaml.torchrun is not None and yaml.parallel_type != "custom":
        said["parallel_level"] = yaml.torchrun.nproc_per_node
    if yaml.sequence_batching:
        at_once = (yaml.batch_size or 1) * max(1, max_workers)
        said["max_sequences"] = max(yaml.max_sequences or 1, at_once)
        said["sequence_queue_size"] = yaml.sequence_queue_size or 1
    else:
        for name in [name for name in said if "sequence" in name]:
            del said[name]
    return said


_ARCHIVE_ONLY = (
    "max_batch_bytes",
    "max_retry_s",
    "client_timeout_ms",
    "device_type",
    "device_ids",
    "parallel_type",
    "parallel_level",
    "use_job_ticket",
    "use_venv",
    "async_communication",
    "continuous_batching",
    "sequence_batching",
    "sequence_max_idle_ms",
    "sequence_timeout_ms",
    "max_sequences",
    "sequence_queue_size",
    "scale_up_queue_ms",
    "scale_down_idle_s",
    "idempotent",
    "recycle_after_requests",
    "recycle_above_mb",
)


def _workers(sources: Sources) -> tuple[int, int]:
    yaml, overrides = sources.yaml, sources.overrides
    if yaml.min_workers is not None:
        return yaml.min_workers, max(yaml.min_workers, yaml.max_workers or 0)
    if sources.at_startup and overrides.min_workers is not None:
        return overrides.min_workers, max(overrides.min_workers, overrides.max_workers or 0)
    if sources.wish.initial_workers is not None:
        count = sources.wish.initial_workers
    elif sources.at_startup and sources.config.default_workers_per_model == 0:
        count = sources.startup_workers
    else:
        count = sources.config.default_workers_per_model
    return count, count


def _first(*values: int | None) -> int:
    for value in values:
        if value is not None:
            return value
    raise ValueError("the last source must always have a value")
