"""The settings of the server as a whole: limits, files, metrics, protocols, environment. Data."""

from __future__ import annotations

from marserve.config_values import (
    BOOLEAN,
    OPTIONAL_BOOLEAN,
    OPTIONAL_FILE,
    OPTIONAL_PATH,
    PATH,
    choice,
    optional_whole_number,
    whole_number,
)
from marserve.setting import Setting

_BYTES = whole_number(1, 2**53)
_SECONDS = whole_number(1)
METRICS_MODE = choice("prometheus", "log", "legacy")

LIMITS = (
    Setting(
        "max_connections",
        optional_whole_number(1, 2**31 - 1),
        "",
        "Connections of clients to the inference and gRPC ports at one time. When all are taken, "
        "those that have been idle longest are closed; if none is idle, a new one gets 503.",
        "max_connections",
        example="10000",
        default_note="as many as the limit of open files allows, less a reserve",
    ),
    Setting(
        "max_connections_per_client",
        optional_whole_number(1, 2**31 - 1),
        "",
        "The same from one address. Leave it out behind a proxy: all clients share its address.",
        "max_connections_per_client",
        example="1000",
        default_note="any number",
    ),
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
        "pre_drain",
        whole_number(0),
        "0",
        "How long a server that is told to stop goes on accepting while its readiness is false "
        "already. 5 to 30 let a load balancer, Kubernetes or KServe turn elsewhere first; without "
        "one a wait would only be a slower stop, and TorchServe has none.",
        "pre_drain_s",
        unit="s",
    ),
    Setting(
        "drain_timeout",
        whole_number(0),
        "30",
        "How long accepted requests may take to finish once the server accepts no more. What is "
        "left then is answered with 503 and Retry-After.",
        "drain_timeout_s",
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
)

FILES = (
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
        "Where archives are unpacked, once per content. It may be deleted while no server runs.",
        "cache_dir",
        example="/var/cache/marserve",
        default_note="$XDG_CACHE_HOME/marserve, else ~/.cache/marserve",
    ),
    Setting(
        "access_log",
        BOOLEAN,
        "true",
        "false writes no line per answer: neither access_log.log nor, in the foreground, stdout "
        "gets one. The metrics count the answers all the same.",
        "access_log",
    ),
    Setting(
        "metrics_log_dir",
        OPTIONAL_PATH,
        "",
        "Where the metrics logs go. The environment variable METRICS_LOCATION wins over it.",
        "metrics_log_dir",
        example="/var/log/marserve/metrics",
        default_note="log_dir",
    ),
)

METRICS = (
    Setting(
        "metrics_mode",
        METRICS_MODE,
        "prometheus",
        "prometheus shows the metrics of handlers at the metrics address; log writes them to the "
        "metrics log alone; legacy does both with TorchServe's old names.",
        "metrics_mode",
    ),
    Setting(
        "metrics_config",
        OPTIONAL_FILE,
        "",
        "A YAML file in TorchServe's form that declares metrics.",
        "metrics_config",
        example="/etc/marserve/metrics.yaml",
        default_note="the declarations that come with the server",
    ),
    Setting(
        "model_metrics_auto_detect",
        OPTIONAL_BOOLEAN,
        "",
        "true takes metrics of handlers that metrics_config does not declare; false drops them.",
        "model_metrics_auto_detect",
        example="true",
        default_note="false where metrics_config is set, else true",
    ),
    Setting(
        "disable_system_metrics",
        BOOLEAN,
        "false",
        "true leaves out the figures of the machine.",
        "disable_system_metrics",
    ),
    Setting(
        "metric_time_interval",
        whole_number(1),
        "60",
        "How often the figures of the machine are taken for the metrics log.",
        "metric_time_interval_s",
        unit="s",
        file_only=True,
    ),
)

PROTOCOLS = (
    Setting(
        "ts_open_inference_protocol",
        BOOLEAN,
        "false",
        "true serves the Open Inference Protocol (KServe v2) beside the other protocols. The "
        "environment variable TS_OPEN_INFERENCE_PROTOCOL always counts.",
        "open_inference_protocol",
    ),
)

ENVIRONMENT = (
    Setting(
        "enable_envvars_config",
        BOOLEAN,
        "false",
        "true lets environment variables set keys: TS_ and the key in capitals, as "
        "TS_JOB_QUEUE_SIZE. They win over the command line, which wins over this file.",
        "enable_envvars_config",
        file_only=True,
    ),
)
