"""Keys of TorchServe that there is nothing to act on here, and why. Pure data.

A key of TorchServe is in exactly one table: `settings.SETTINGS`, `ALIASES` or `WITHOUT_MEANING`.
"""

from __future__ import annotations

TORCHSERVE_VERSION = "0.12.0"
"""The version of TorchServe that this server stands in for."""

_NETTY = "there is no Netty here; one event loop serves the port"
_JVM = "there is no Java process to tune"
_INTERNAL = "it was internal to TorchServe"

WITHOUT_MEANING: dict[str, str] = {
    "number_of_netty_threads": _NETTY,
    "netty_client_threads": _NETTY,
    "use_native_io": _NETTY,
    "io_ratio": _NETTY,
    "prefer_direct_buffer": _JVM,
    "vmargs": _JVM,
    "plugins_path": "Java plug-ins cannot be loaded; Python packages plug in by entry points",
    "cpp_log_config": "there is no C++ worker",
    "async_logging": "logs never hold a request up",
    "model_server_home": "the server finds its own files",
    "python": "workers run the Python that runs the server",
    "system_metrics_cmd": "the server takes the figures of the machine itself",
    "debug": "workers are always started",
    "version": _INTERNAL,
    "tsConfigFile": _INTERNAL,
}
"""With the reason, which completes "has no meaning here: …"."""

WRITTEN_BY_TORCHSERVE = frozenset({"python", "version", "tsConfigFile", "model_server_home"})
"""Keys that TorchServe adds to every snapshot by itself: nobody asked for them."""

ALIASES: dict[str, str] = {"metrics_format": "metrics_mode"}
"""Other names of settings → the setting."""

ALWAYS_FROM_ENVIRONMENT = ("ts_open_inference_protocol", "model_server_home")
"""Keys that the environment sets whether enable_envvars_config allows it or not."""

LOG_DIR_VARIABLE = "LOG_LOCATION"
LOCATIONS: dict[str, str] = {"log_dir": LOG_DIR_VARIABLE, "metrics_log_dir": "METRICS_LOCATION"}
"""Settings → the environment variables of TorchServe that always set them."""

_ENVIRONMENT_NAMES = {"token_expiration_min": "TS_TOKEN_EXPIRATION_TIME_MIN"}


def environment_name(key: str) -> str:
    """The environment variable that sets `key`."""
    if key.startswith("ts_"):
        return key.upper()
    return _ENVIRONMENT_NAMES.get(key, f"TS_{key.upper()}")
