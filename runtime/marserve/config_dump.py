"""The configuration as the lines that TorchServe's log has at the start of a server. Pure.

The labels and their order are TorchServe's, because people and scripts look for them there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marserve.config import Config, LoadModels

_NOTHING = "N/A"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the server runs."""

    version: str
    """Of TorchServe's interface and of the server itself."""
    home: Path
    """Of the server's own files."""
    cwd: Path
    temp_dir: Path
    gpus: int
    cpus: int
    python: str


def config_dump(config: Config, surroundings: Surroundings) -> list[str]:
    """One line for each label; what is not set, or has nothing behind it here, is N/A."""
    rows: list[tuple[str, object]] = [
        ("Torchserve version", surroundings.version),
        ("TS Home", surroundings.home),
        ("Current directory", surroundings.cwd),
        ("Temp directory", surroundings.temp_dir),
        ("Metrics config path", config.metrics_config),
        ("Number of GPUs", surroundings.gpus),
        ("Number of CPUs", surroundings.cpus),
        ("Max heap size", None),
        ("Python executable", surroundings.python),
        ("Config file", config.config_file),
        ("Inference address", config.inference),
        ("Management address", config.management),
        ("Metrics address", config.metrics if config.enable_metrics_api else None),
        ("Model Store", config.model_store),
        ("Initial Models", _initial_models(config.load_models)),
        ("Log dir", config.log_dir),
        ("Metrics dir", config.metrics_log_dir),
        ("Netty threads", 0),
        ("Netty client threads", 0),
        ("Default workers per model", config.default_workers_per_model),
        ("Blacklist Regex", config.blacklist_env_vars and config.blacklist_env_vars.pattern),
        ("Maximum Response Size", config.max_response_bytes),
        ("Maximum Request Size", config.max_request_bytes),
        ("Limit Maximum Image Pixels", config.limit_max_image_pixels),
        ("Prefer direct buffer", False),
        ("Allowed Urls", list(config.allowed_urls)),
        ("Custom python dependency for model allowed", config.install_py_dep_per_model),
        ("Enable metrics API", config.enable_metrics_api),
        ("Metrics mode", config.metrics_mode.upper()),
        ("Disable system metrics", config.disable_system_metrics),
        ("Workflow Store", config.workflow_store or config.model_store),
        ("CPP log config", None),
        ("Model config", _one_line(config.properties.get("models"))),
        ("System metrics command", None),
        ("Model API enabled", config.enable_model_api),
    ]
    return [f"{label}: {_text(value)}" for label, value in rows]


def _initial_models(models: LoadModels) -> str | None:
    if models.all:
        return "all"
    entries = (f"{entry.name}={entry.url}" if entry.name else entry.url for entry in models.entries)
    return ",".join(entries) or None


def _one_line(text: str | None) -> str | None:
    return " ".join(text.split()) if text else None


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(str(item) for item in value)}]"
    return _NOTHING if value is None else str(value)
