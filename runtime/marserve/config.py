"""Properties file, command line and environment become one frozen Config.

`config_source.py` finds the file, `config_reading.py` takes its entries, `config_rules.py` joins
them. Mistakes are reported together, each with its place, key, value and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marserve.addresses import Address
from marserve.config_models import LoadModels, ModelOverrides, ModelToLoad
from marserve.config_reading import Reading
from marserve.config_rules import check_together
from marserve.config_snapshot import ModelSnapshot
from marserve.config_source import DEFAULT_FILE, Source, choose
from marserve.errors import ConfigInvalid
from marserve.settings import SETTINGS

__all__ = ["Address", "Config", "LoadModels", "Loaded", "ModelOverrides", "ModelToLoad", "load"]


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, typed. Paths are absolute; what each setting means stands in `settings.py`."""

    inference: Address
    management: Address
    metrics: Address
    enable_metrics_api: bool
    enable_grpc_api: bool
    grpc_inference_host: str
    grpc_inference_port: int
    grpc_management_host: str
    grpc_management_port: int
    grpc_inference_max_connection_age_ms: int | None
    grpc_inference_max_connection_age_grace_ms: int | None
    grpc_management_max_connection_age_ms: int | None
    grpc_management_max_connection_age_grace_ms: int | None
    enable_grpc_ssl: bool
    certificate_file: Path | None
    private_key_file: Path | None
    keystore: Path | None
    keystore_pass: str = field(repr=False)
    inference_token: str | None = field(repr=False)
    management_token: str | None = field(repr=False)
    max_archive_bytes: int
    download_timeout_s: int
    keystore_type: str
    token_authorization: bool | None
    """Asked for on every port, on none, or (None) on those that other machines can reach."""
    token_expiration_min: float
    token_errors_as_400: bool
    token_for_metrics: bool
    allowed_hosts: tuple[str, ...]
    """In lower case; `*` is any."""
    allowed_urls: tuple[str, ...]
    """Regular expressions; one must match the whole URL."""
    use_env_allowed_urls: bool
    cors_allowed_origin: str | None
    cors_allowed_methods: str | None
    cors_allowed_headers: str | None
    model_store: Path | None
    load_models: LoadModels
    models: Mapping[str, Mapping[str, ModelOverrides]]
    """By model name, then by version."""
    model_snapshot: ModelSnapshot | None
    """Where it is given, it says what is loaded at start-up, and `load_models` does not."""
    workflow_store: Path | None
    """None: the model store."""
    require_signed: bool
    trusted_keys: tuple[Path, ...]
    """Public keys: files, and folders of them."""
    require_pins: bool
    default_service_handler: str | None
    service_envelope: str | None
    install_py_dep_per_model: bool
    enable_model_api: bool
    default_workers_per_model: int
    batch_size: int
    max_batch_delay_ms: int
    job_queue_size: int
    blacklist_env_vars: re.Pattern[str] | None
    """Hides a variable from workers when it matches the whole name."""
    worker_env_allow: tuple[str, ...]
    """Names, or beginnings of names with a * behind them, that workers see although they look
    like secrets."""
    sandbox: str
    """off, default or strict."""
    sandbox_writable: tuple[Path, ...]
    sandbox_readable: tuple[Path, ...]
    sandbox_model_may_loosen: bool
    number_of_gpu: int | None
    """At most so many are used; None: all that are there."""
    initial_worker_port: int
    """The number of the first worker."""
    initial_distribution_port: int
    ipex_enable: bool
    ipex_gpu_enable: bool
    cpu_launcher_enable: bool
    cpu_launcher_args: str
    min_available_bytes: int | None
    """With less memory left requests are refused; None: a hundredth of all there is."""
    client_requests_per_second: int
    """0: any number."""
    trust_client_headers: bool | None
    """None: of clients that have a token, or are on this machine."""
    queue_discipline: str
    """fifo, codel or adaptive_lifo."""
    header_key_sequence_id: str
    header_key_sequence_start: str
    header_key_sequence_end: str
    max_connections: int | None
    max_connections_per_client: int | None
    max_request_bytes: int
    max_response_bytes: int
    limit_max_image_pixels: bool
    default_response_timeout_s: int
    default_startup_timeout_s: int
    unregister_model_timeout_s: int
    pre_drain_s: int
    drain_timeout_s: int
    decode_input_request: bool
    log_dir: Path
    metrics_log_dir: Path
    access_log: bool
    cache_dir: Path
    metrics_mode: str
    """prometheus, log or legacy."""
    metrics_config: Path | None
    model_metrics_auto_detect: bool | None
    disable_system_metrics: bool
    metric_time_interval_s: int
    open_inference_protocol: bool
    enable_envvars_config: bool
    snapshots: bool = True
    """Changes are saved and restored at the next start."""
    config_file: Path | None = None
    snapshot_is_last_run: bool = False
    """`model_snapshot` is what TorchServe left when it was the last to run here."""
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What file and command line said, by key, as it stood there: $$NAME$$ is not replaced."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A Config and what its author should know about it, one sentence each."""

    config: Config
    warnings: tuple[str, ...]


def load(
    config_file: Path | None,
    overrides: Mapping[str, str],
    environ: Mapping[str, str],
    cwd: Path,
    *,
    like_torchserve: bool = False,
) -> Loaded:
    """The configuration of this start.

    `overrides` are settings from the command line, by key. The file is the one that
    TS_CONFIG_FILE names, else `config_file`, else ./config.properties where that exists.
    `like_torchserve`: the newest snapshot of the last run comes before that last one.

    Raises:
        ConfigInvalid: the file cannot be read, or values cannot be used; all are in the message.
    """
    source = choose(config_file, environ, cwd, like_torchserve=like_torchserve)
    return build(source, overrides, environ, cwd)


def build(
    source: Source, overrides: Mapping[str, str], environ: Mapping[str, str], cwd: Path
) -> Loaded:
    """`load` for a file that is read already. Pure."""
    reading = Reading(is_snapshot=source.is_snapshot)
    reading.take_file(source.text, _shown(source.path, cwd), environ)
    for key, value in overrides.items():
        reading.take_override(key, value)
    reading.take_environment(environ)
    values = {key: setting.type.read(setting.default, []) for key, setting in SETTINGS.items()}
    values |= reading.values
    if values["cache_dir"] is None:
        values["cache_dir"] = _default_cache_dir(environ)
    if values["metrics_log_dir"] is None:
        values["metrics_log_dir"] = values["log_dir"]
    check_together(values, reading)
    if reading.mistakes:
        raise ConfigInvalid(_in_one_message(reading.mistakes))
    fields = {SETTINGS[key].field: _absolute(value, cwd) for key, value in values.items()}
    config: Config = Config(
        **fields,
        config_file=source.path,
        snapshot_is_last_run=source.is_by_torchserve,
        properties=_portable(reading, cwd),
    )
    return Loaded(config, (*source.warnings, *reading.warnings))


def _default_cache_dir(environ: Mapping[str, str]) -> Path:
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the rule of XDG: a relative path counts as unset
        base = Path(environ.get("HOME", ""), ".cache")
    return base / "marserve"


def _portable(reading: Reading, cwd: Path) -> dict[str, str]:
    """The texts of file and command line, so that they mean the same from any directory."""
    return {
        key: text if "$$" in text else _absolute_text(reading.values.get(key), text, cwd)
        for key, text in reading.texts.items()
    }


def _absolute_text(value: Any, text: str, cwd: Path) -> str:
    if _is_paths(value):
        return ",".join(str(cwd / path) for path in value)
    return str(cwd / value) if isinstance(value, Path) else text


def _shown(config_file: Path | None, cwd: Path) -> str:
    if config_file is None:
        return DEFAULT_FILE
    return config_file.name if config_file.parent == cwd else str(config_file)


def _absolute(value: Any, cwd: Path) -> Any:
    if _is_paths(value):
        return tuple(cwd / path for path in value)
    return cwd / value if isinstance(value, Path) else value


def _is_paths(value: Any) -> bool:
    return type(value) is tuple and bool(value) and all(isinstance(one, Path) for one in value)


def _in_one_message(mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        return mistakes[0]
    lines = "".join(f"\n  {mistake}" for mistake in mistakes)
    return f"The configuration has {len(mistakes)} mistakes:{lines}"
