"""The table of the settings that this version uses. Pure data.

`config.py` reads files by it; `settings_documents.py` prints the example file and the reference
page from it. What becomes of other keys of TorchServe stands in `foreign_settings.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from marserve.config_models import LOAD_MODELS, MODELS
from marserve.config_values import (
    BOOLEAN,
    OPTIONAL_PATH,
    PATH,
    PATTERN,
    PROMETHEUS,
    TEXT,
    ValueType,
    address,
    whole_number,
)

_BYTES = whole_number(1, 2**53)
_SECONDS = whole_number(1)


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of config.properties."""

    key: str
    type: ValueType
    default: str
    """As it would stand in the file; empty means not set."""
    why: str
    field: str
    """The field of `Config` that gets the value."""
    unit: str = ""
    example: str = ""
    """Shown when there is no default to show."""
    default_note: str = ""
    """Says what holds when the default is empty."""
    file_only: bool = False
    """TS_<KEY> does not set it."""


GROUPS: dict[str, tuple[Setting, ...]] = {
    "Addresses": (
        Setting(
            "inference_address",
            address(8080),
            "http://127.0.0.1:8080",
            "Where predictions are asked for. The default is reached from this machine only; "
            "http://0.0.0.0:8080 opens it to others. Port 0 takes a free one.",
            "inference",
        ),
        Setting(
            "management_address",
            address(8081),
            "http://127.0.0.1:8081",
            "Where models are registered, scaled and removed. Whoever reaches this port can load "
            "code, so an address beyond this machine is refused unless "
            "disable_token_authorization=true takes the responsibility.",
            "management",
        ),
        Setting(
            "metrics_address",
            address(8082),
            "http://127.0.0.1:8082",
            "Where Prometheus scrapes /metrics.",
            "metrics",
        ),
        Setting(
            "enable_metrics_api",
            BOOLEAN,
            "true",
            "false leaves the metrics port closed.",
            "enable_metrics_api",
        ),
    ),
    "Models": (
        Setting(
            "model_store",
            OPTIONAL_PATH,
            "",
            "The directory that holds the archives. serve and start need it, from here or from "
            "--model-store.",
            "model_store",
            example="/srv/models",
        ),
        Setting(
            "load_models",
            LOAD_MODELS,
            "",
            "What is loaded at start-up: all (everything in the model store), or a comma-separated "
            "list of ARCHIVE or NAME=ARCHIVE.",
            "load_models",
            example="digits=digits.mar,noop.mar",
            default_note="nothing",
        ),
        Setting(
            "models",
            MODELS,
            "",
            "Settings for single versions, as JSON by model name and version: defaultVersion, "
            "marName, minWorkers, maxWorkers, batchSize, maxBatchDelay (ms), responseTimeout (s), "
            "startupTimeout (s), runtimeType. It loads nothing by itself.",
            "models",
            example='{"digits": {"1.0": {"minWorkers": 2, "batchSize": 8}}}',
            file_only=True,
        ),
        Setting(
            "default_service_handler",
            TEXT,
            "",
            "The handler of archives that name none, as FILE:FUNCTION or the name of a built-in.",
            "default_service_handler",
            example="image_classifier",
        ),
        Setting(
            "enable_model_api",
            BOOLEAN,
            "true",
            "false forbids to register and to remove models over the management port. True is "
            "safe here because that port is reached from this machine only.",
            "enable_model_api",
        ),
    ),
    "Workers and batches": (
        Setting(
            "default_workers_per_model",
            whole_number(0),
            "0",
            "Workers that a model starts with when neither the request nor the archive says so. "
            "0 means: one per CPU for models loaded at start-up, none for models registered later.",
            "default_workers_per_model",
        ),
        Setting(
            "batch_size",
            whole_number(1),
            "1",
            "How many requests may go to the handler together, unless the model says otherwise.",
            "batch_size",
        ),
        Setting(
            "max_batch_delay",
            whole_number(0),
            "100",
            "The longest that the oldest request of a batch waits for company. A free worker "
            "takes what is there at once, so this is a bound and not a pause.",
            "max_batch_delay_ms",
            unit="ms",
        ),
        Setting(
            "job_queue_size",
            whole_number(1),
            "100",
            "How many requests of one model may wait; the next one is refused with 503.",
            "job_queue_size",
        ),
        Setting(
            "blacklist_env_vars",
            PATTERN,
            "",
            "A regular expression; environment variables whose whole name matches are hidden from "
            "workers, because handlers should not see the secrets of the server.",
            "blacklist_env_vars",
            example=".*(PASSWORD|SECRET|TOKEN).*",
        ),
    ),
    "Limits": (
        Setting(
            "max_request_size",
            _BYTES,
            "6553500",
            "Larger request bodies are refused with 413 before they are read.",
            "max_request_bytes",
            unit="bytes",
        ),
        Setting(
            "max_response_size",
            _BYTES,
            "6553500",
            "Larger answers of a handler become an error, so that one answer cannot fill memory.",
            "max_response_bytes",
            unit="bytes",
        ),
        Setting(
            "limit_max_image_pixels",
            BOOLEAN,
            "true",
            "false lets image handlers open pictures of any size; a small file can unfold to "
            "gigabytes of pixels.",
            "limit_max_image_pixels",
        ),
        Setting(
            "default_response_timeout",
            _SECONDS,
            "120",
            "A worker that has not answered a batch by then is ended and replaced.",
            "default_response_timeout_s",
            unit="s",
        ),
        Setting(
            "default_startup_timeout",
            _SECONDS,
            "120",
            "How long a worker may take to load its model.",
            "default_startup_timeout_s",
            unit="s",
        ),
        Setting(
            "unregister_model_timeout",
            _SECONDS,
            "120",
            "How long the workers of a removed model may take to finish what they have.",
            "unregister_model_timeout_s",
            unit="s",
        ),
        Setting(
            "decode_input_request",
            BOOLEAN,
            "true",
            "true gives handlers JSON bodies as objects and text bodies as text; false gives them "
            "the bytes as they came.",
            "decode_input_request",
        ),
    ),
    "Files": (
        Setting(
            "log_dir",
            PATH,
            "logs",
            "Where the logs go, and the file by which stop and status find the server.",
            "log_dir",
        ),
        Setting(
            "cache_dir",
            OPTIONAL_PATH,
            "",
            "Where archives are unpacked, once per content. It may be deleted while no server "
            "runs.",
            "cache_dir",
            example="/var/cache/marserve",
            default_note="$XDG_CACHE_HOME/marserve, else ~/.cache/marserve",
        ),
    ),
    "Metrics": (
        Setting(
            "metrics_mode",
            PROMETHEUS,
            "prometheus",
            "The endpoint always speaks Prometheus; log and legacy are taken with a warning.",
            "metrics_mode",
        ),
        Setting(
            "metrics_format",
            PROMETHEUS,
            "prometheus",
            "The same under another name.",
            "metrics_format",
        ),
        Setting(
            "disable_system_metrics",
            BOOLEAN,
            "false",
            "true leaves out the figures of the machine.",
            "disable_system_metrics",
        ),
    ),
    "Security and environment": (
        Setting(
            "disable_token_authorization",
            BOOLEAN,
            "false",
            "true allows a management_address beyond this machine: say it only where something "
            "else keeps strangers from the port. This version has no tokens yet.",
            "disable_token_authorization",
        ),
        Setting(
            "enable_envvars_config",
            BOOLEAN,
            "false",
            "true lets environment variables set keys: TS_ and the key in capitals, as "
            "TS_JOB_QUEUE_SIZE. They win over the command line, which wins over this file.",
            "enable_envvars_config",
            file_only=True,
        ),
    ),
}

SETTINGS: dict[str, Setting] = {
    setting.key: setting for group in GROUPS.values() for setting in group
}
