import dataclasses
from collections import Counter

import pytest

from marserve.config import Config
from marserve.foreign_settings import (
    ALIASES,
    ALWAYS_FROM_ENVIRONMENT,
    LOCATIONS,
    WITHOUT_MEANING,
    WRITTEN_BY_TORCHSERVE,
    environment_name,
)
from marserve.settings import SETTINGS

TORCHSERVE_KEYS = [
    "inference_address",
    "management_address",
    "metrics_address",
    "grpc_inference_address",
    "grpc_management_address",
    "grpc_inference_port",
    "grpc_management_port",
    "grpc_inference_max_connection_age_ms",
    "grpc_inference_max_connection_age_grace_ms",
    "grpc_management_max_connection_age_ms",
    "grpc_management_max_connection_age_grace_ms",
    "enable_grpc_ssl",
    "load_models",
    "model_store",
    "workflow_store",
    "default_workers_per_model",
    "default_response_timeout",
    "default_startup_timeout",
    "unregister_model_timeout",
    "job_queue_size",
    "number_of_gpu",
    "number_of_netty_threads",
    "netty_client_threads",
    "max_request_size",
    "max_response_size",
    "limit_max_image_pixels",
    "decode_input_request",
    "default_service_handler",
    "service_envelope",
    "model_server_home",
    "allowed_urls",
    "install_py_dep_per_model",
    "enable_metrics_api",
    "metrics_config",
    "metrics_mode",
    "model_metrics_auto_detect",
    "disable_system_metrics",
    "disable_token_authorization",
    "token_expiration_min",
    "enable_model_api",
    "initial_worker_port",
    "initial_distribution_port",
    "blacklist_env_vars",
    "cors_allowed_origin",
    "cors_allowed_methods",
    "cors_allowed_headers",
    "keystore",
    "keystore_pass",
    "keystore_type",
    "certificate_file",
    "private_key_file",
    "prefer_direct_buffer",
    "async_logging",
    "ipex_enable",
    "cpu_launcher_enable",
    "cpu_launcher_args",
    "ipex_gpu_enable",
    "cpp_log_config",
    "ts_open_inference_protocol",
    "ts_header_key_sequence_id",
    "ts_header_key_sequence_start",
    "ts_header_key_sequence_end",
    "debug",
    "enable_envvars_config",
    "use_env_allowed_urls",
    "metric_time_interval",
    "system_metrics_cmd",
    "use_native_io",
    "io_ratio",
    "models",
    "model_snapshot",
    "vmargs",
    "plugins_path",
    "python",
    "version",
    "tsConfigFile",
]

OUR_OWN_KEYS = {
    "batch_size",
    "max_batch_delay",
    "min_available_memory",
    "client_requests_per_second",
    "trust_client_headers",
    "queue_discipline",
    "log_dir",
    "metrics_log_dir",
    "cache_dir",
    "worker_env_allow",
    "sandbox",
    "sandbox_writable",
    "sandbox_readable",
    "sandbox_model_may_loosen",
    "metrics_format",
    "enable_grpc_api",
    "token_errors_as_400",
    "inference_token",
    "management_token",
    "max_archive_size",
    "download_timeout",
    "require_signed",
    "trusted_keys",
    "require_pins",
    "access_log",
    "allowed_hosts",
    "token_for_metrics",
    "pre_drain",
    "drain_timeout",
    "max_connections",
    "max_connections_per_client",
}


def test_every_key_of_torchserve_is_in_exactly_one_table():
    tables = Counter([*SETTINGS, *ALIASES, *WITHOUT_MEANING])
    assert tables == Counter([*TORCHSERVE_KEYS, *OUR_OWN_KEYS])


def test_every_setting_has_its_own_field():
    fields = [setting.field for setting in SETTINGS.values()]
    assert len(set(fields)) == len(fields)
    of_config = {field.name for field in dataclasses.fields(Config)}
    assert of_config - set(fields) == {
        "snapshots",
        "config_file",
        "snapshot_is_last_run",
        "properties",
    }


def test_what_is_said_of_keys_is_said_of_keys_that_there_are():
    assert set(ALIASES.values()) <= set(SETTINGS)
    assert set(LOCATIONS) <= set(SETTINGS)
    assert set(WITHOUT_MEANING) >= WRITTEN_BY_TORCHSERVE
    assert {*SETTINGS, *WITHOUT_MEANING} >= set(ALWAYS_FROM_ENVIRONMENT)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.key)
def test_defaults_and_examples_can_be_read_without_a_note(setting):
    for text in (setting.default, setting.example):
        if text or not setting.default:
            notes: list[str] = []
            setting.type.read(text, notes)
            assert notes == []
    assert setting.default or setting.example


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("job_queue_size", "TS_JOB_QUEUE_SIZE"),
        ("ts_open_inference_protocol", "TS_OPEN_INFERENCE_PROTOCOL"),
        ("ts_header_key_sequence_id", "TS_HEADER_KEY_SEQUENCE_ID"),
        ("token_expiration_min", "TS_TOKEN_EXPIRATION_TIME_MIN"),
    ],
)
def test_the_environment_names_are_those_of_torchserve(key, name):
    assert environment_name(key) == name
