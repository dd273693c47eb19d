"""Keys of TorchServe that this version does not use, and what it does about each. Pure data.

A key of TorchServe is in exactly one table: `settings.SETTINGS` or one of the three here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """A key whose silent loss would be wrong; `harmless` values of it may stand."""

    reason: str
    harmless: tuple[str, ...] = ()


_NETTY = "there is no Netty here; one event loop serves the port"
_JVM = "there is no Java process to tune"
_WORKER_PORTS = "workers have no ports; each is connected by an inherited socket"
_INTERNAL = "it was internal to TorchServe"

WITHOUT_MEANING: dict[str, str] = {
    "number_of_netty_threads": _NETTY,
    "netty_client_threads": _NETTY,
    "use_native_io": _NETTY,
    "io_ratio": _NETTY,
    "prefer_direct_buffer": _JVM,
    "vmargs": _JVM,
    "cpp_log_config": "there is no C++ worker",
    "initial_worker_port": _WORKER_PORTS,
    "async_logging": "the server sets up its logs itself",
    "model_server_home": "the server finds its own files",
    "python": "workers run the Python that runs the server",
    "system_metrics_cmd": "the server takes the figures of the machine itself",
    "metric_time_interval": "figures of the machine are taken whenever they are scraped",
    "version": _INTERNAL,
    "tsConfigFile": _INTERNAL,
}
"""Keys of TorchServe that have nothing to act on here, with the reason."""

_GRPC = "there is no gRPC port in this version"
_TOKENS = "there are no tokens in this version"
_STORE_ONLY = "this version loads archives from the model store only"
_CORS = "this version sends no CORS headers"
_LAUNCHER = "workers are started without a launcher"
_SEQUENCES = "there are no stateful models in this version"

NOT_USED_YET: dict[str, str] = {
    "grpc_inference_address": _GRPC,
    "grpc_inference_port": _GRPC,
    "grpc_inference_max_connection_age_ms": _GRPC,
    "grpc_inference_max_connection_age_grace_ms": _GRPC,
    "grpc_management_address": _GRPC,
    "grpc_management_port": _GRPC,
    "grpc_management_max_connection_age_ms": _GRPC,
    "grpc_management_max_connection_age_grace_ms": _GRPC,
    "workflow_store": "there are no workflows in this version",
    "number_of_gpu": "this version does not assign GPUs to workers",
    "initial_distribution_port": "there are no parallel models in this version",
    "service_envelope": "there are no envelopes in this version",
    "allowed_urls": _STORE_ONLY,
    "use_env_allowed_urls": _STORE_ONLY,
    "install_py_dep_per_model": "install what handlers need beside the server",
    "metrics_config": "metrics need no file of their own in this version",
    "model_metrics_auto_detect": "metrics that handlers report need no declaration",
    "token_expiration_min": _TOKENS,
    "cors_allowed_origin": _CORS,
    "cors_allowed_methods": _CORS,
    "cors_allowed_headers": _CORS,
    "ipex_enable": _LAUNCHER,
    "ipex_gpu_enable": _LAUNCHER,
    "cpu_launcher_enable": _LAUNCHER,
    "cpu_launcher_args": _LAUNCHER,
    "ts_open_inference_protocol": "there is no Open Inference Protocol in this version",
    "ts_header_key_sequence_id": _SEQUENCES,
    "ts_header_key_sequence_start": _SEQUENCES,
    "ts_header_key_sequence_end": _SEQUENCES,
    "debug": "workers are always started",
    "plugins_path": "Java plug-ins cannot be loaded",
    "model_snapshot": "name the models in load_models and their settings in models",
}
"""Keys of TorchServe that this version accepts and does not use, with the reason."""

_TLS = "this version does not speak TLS: remove the key and put a TLS proxy in front"

REFUSED: dict[str, Refusal] = {
    "keystore": Refusal(_TLS),
    "keystore_pass": Refusal(_TLS),
    "keystore_type": Refusal(_TLS),
    "certificate_file": Refusal(_TLS),
    "private_key_file": Refusal(_TLS),
    "enable_grpc_ssl": Refusal(_TLS, harmless=("false",)),
}
"""Keys of TorchServe that must not be lost silently: the server does not start with them."""

_ENVIRONMENT_NAMES = {"token_expiration_min": "TS_TOKEN_EXPIRATION_TIME_MIN"}


def environment_name(key: str) -> str:
    """The environment variable that sets `key` where enable_envvars_config is true."""
    if key.startswith("ts_"):
        return key.upper()
    return _ENVIRONMENT_NAMES.get(key, f"TS_{key.upper()}")
