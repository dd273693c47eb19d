import contextlib
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.config import (
    Address,
    Config,
    LoadModels,
    ModelOverrides,
    build,
    load,
)
from marserve.config_snapshot import ModelSnapshot, SnapshotVersion
from marserve.config_source import Source
from marserve.errors import ConfigInvalid
from marserve.settings import SETTINGS

CWD = Path("/srv/dir")
HOME = {"HOME": "/home/me"}

TORCHSERVE_FILE = """\
inference_address=http://0.0.0.0:8080
management_address=http://127.0.0.1:8081
metrics_address=http://0.0.0.0:8082
number_of_netty_threads=32
job_queue_size=1000
max_request_size=104857600 # 100MB
max_response_size=104857600
default_workers_per_model=4
batch_size=8
max_batch_delay=100 # milliseconds
log_dir=/var/log/marserve
metrics_format=prometheus
"""

DEFAULTS = Config(
    inference=Address("127.0.0.1", 8080),
    management=Address("127.0.0.1", 8081),
    metrics=Address("127.0.0.1", 8082),
    enable_metrics_api=True,
    enable_grpc_api=True,
    grpc_inference_host="127.0.0.1",
    grpc_inference_port=7070,
    grpc_management_host="127.0.0.1",
    grpc_management_port=7071,
    grpc_inference_max_connection_age_ms=None,
    grpc_inference_max_connection_age_grace_ms=None,
    grpc_management_max_connection_age_ms=None,
    grpc_management_max_connection_age_grace_ms=None,
    enable_grpc_ssl=False,
    certificate_file=None,
    private_key_file=None,
    keystore=None,
    keystore_pass="changeit",
    inference_token=None,
    management_token=None,
    max_archive_bytes=50 << 30,
    download_timeout_s=3600,
    keystore_type="PKCS12",
    token_authorization=None,
    token_expiration_min=60,
    token_errors_as_400=False,
    token_for_metrics=False,
    allowed_hosts=(),
    allowed_urls=(),
    use_env_allowed_urls=False,
    cors_allowed_origin=None,
    cors_allowed_methods=None,
    cors_allowed_headers=None,
    model_store=None,
    load_models=LoadModels(),
    models={},
    model_snapshot=None,
    workflow_store=None,
    require_signed=False,
    trusted_keys=(),
    require_pins=False,
    default_service_handler=None,
    service_envelope=None,
    install_py_dep_per_model=False,
    enable_model_api=True,
    default_workers_per_model=0,
    batch_size=1,
    max_batch_delay_ms=100,
    job_queue_size=100,
    min_available_bytes=None,
    client_requests_per_second=0,
    trust_client_headers=None,
    queue_discipline="fifo",
    blacklist_env_vars=None,
    worker_env_allow=(),
    sandbox="default",
    sandbox_writable=(),
    sandbox_readable=(),
    sandbox_model_may_loosen=False,
    number_of_gpu=None,
    initial_worker_port=9000,
    initial_distribution_port=29500,
    ipex_enable=False,
    ipex_gpu_enable=False,
    cpu_launcher_enable=False,
    cpu_launcher_args="",
    header_key_sequence_id="ts_request_sequence_id",
    header_key_sequence_start="ts_request_sequence_start",
    header_key_sequence_end="ts_request_sequence_end",
    max_connections=None,
    max_connections_per_client=None,
    max_request_bytes=6553500,
    max_response_bytes=6553500,
    limit_max_image_pixels=True,
    default_response_timeout_s=120,
    default_startup_timeout_s=120,
    unregister_model_timeout_s=120,
    pre_drain_s=0,
    drain_timeout_s=30,
    decode_input_request=True,
    log_dir=CWD / "logs",
    access_log=True,
    metrics_log_dir=CWD / "logs",
    cache_dir=Path("/home/me/.cache/marserve"),
    metrics_mode="prometheus",
    metrics_config=None,
    model_metrics_auto_detect=None,
    disable_system_metrics=False,
    metric_time_interval_s=60,
    open_inference_protocol=False,
    enable_envvars_config=False,
    snapshots=True,
    config_file=None,
)

EVERYTHING = r"""
inference_address=https://10.0.0.1:1
management_address=http://10.0.0.1:2
metrics_address=http://[::1]:3
enable_metrics_api=false
enable_grpc_api=false
grpc_inference_address=10.0.0.2
grpc_inference_port=4
grpc_management_address=10.0.0.3
grpc_management_port=5
grpc_inference_max_connection_age_ms=6
grpc_inference_max_connection_age_grace_ms=7
grpc_management_max_connection_age_ms=8
grpc_management_max_connection_age_grace_ms=9
enable_grpc_ssl=true
certificate_file=server.pem
private_key_file=/etc/server.key
keystore=k.p12
keystore_pass=secret
inference_token=a-token-of-the-operator
management_token=another-token-of-theirs
max_archive_size=7000
download_timeout=70
keystore_type=pkcs12
disable_token_authorization=true
token_expiration_min=0.5
token_errors_as_400=true
token_for_metrics=false
allowed_hosts=Models.example.com, *
allowed_urls=https://a/.*
use_env_allowed_urls=true
cors_allowed_origin=*
cors_allowed_methods=GET
cors_allowed_headers=X-A
model_store=$$STORE$$/mars
load_models=
models={\
  "one": {\
    "1.0": {"batchSize": 4}}}
model_snapshot={"models": {"m": {"1": {"marName": "m.mar"}}}}
workflow_store=war
require_signed=true
trusted_keys=/etc/keys, more.pem
require_pins=true
default_service_handler=image_classifier
service_envelope=kserve
install_py_dep_per_model=true
enable_model_api=false
default_workers_per_model=2
batch_size=8
max_batch_delay=5
job_queue_size=7
min_available_memory=8
client_requests_per_second=9
trust_client_headers=false
queue_discipline=codel
blacklist_env_vars=AWS_.*
worker_env_allow=HF_TOKEN, AWS_*
sandbox=strict
sandbox_writable=/out,/out2
sandbox_readable=/in
sandbox_model_may_loosen=true
number_of_gpu=1
initial_worker_port=9500
initial_distribution_port=30000
ipex_enable=true
ipex_gpu_enable=true
cpu_launcher_enable=true
cpu_launcher_args=--ninstances 2
ts_header_key_sequence_id=i
ts_header_key_sequence_start=s
ts_header_key_sequence_end=e
max_request_size=10
max_connections=30
max_connections_per_client=40
max_response_size=20
limit_max_image_pixels=false
default_response_timeout=1
default_startup_timeout=2
unregister_model_timeout=3
pre_drain=7
drain_timeout=8
decode_input_request=false
log_dir=my/logs
access_log=false
metrics_log_dir=my/metrics
cache_dir=/cache
metrics_mode=log
metrics_config=m.yaml
model_metrics_auto_detect=true
disable_system_metrics=true
metric_time_interval=5
ts_open_inference_protocol=true
enable_envvars_config=true
"""


def without_texts(config):
    return dataclasses.replace(config, properties={})


def built(text="", overrides=None, environ=HOME):
    return build(Source(text=text), overrides or {}, environ, CWD)


def mistakes(text="", overrides=None, environ=HOME):
    with pytest.raises(ConfigInvalid) as caught:
        built(text, overrides, environ)
    return caught.value.message


def test_without_anything_the_defaults_hold():
    assert built() == dataclasses.replace(built(), config=DEFAULTS, warnings=())


def test_a_file_of_torchserve_arrives_with_three_warnings():
    loaded = built(TORCHSERVE_FILE)
    assert without_texts(loaded.config) == dataclasses.replace(
        DEFAULTS,
        inference=Address("0.0.0.0", 8080),
        metrics=Address("0.0.0.0", 8082),
        job_queue_size=1000,
        max_request_bytes=104857600,
        max_response_bytes=104857600,
        default_workers_per_model=4,
        batch_size=8,
        max_batch_delay_ms=100,
        log_dir=Path("/var/log/marserve"),
        metrics_log_dir=Path("/var/log/marserve"),
    )
    assert loaded.warnings == (
        "config.properties, line 4: number_of_netty_threads has no meaning here: "
        "there is no Netty here; one event loop serves the port.",
        "config.properties, line 6: max_request_size=104857600 # 100MB: "
        "taken as 104857600; a comment needs a line of its own.",
        "config.properties, line 10: max_batch_delay=100 # milliseconds: "
        "taken as 100; a comment needs a line of its own.",
    )


def test_every_setting_arrives_in_its_field():
    loaded = built(EVERYTHING, environ={"STORE": "/srv", **HOME})
    expected = Config(
        inference=Address("10.0.0.1", 1, "https"),
        management=Address("10.0.0.1", 2),
        metrics=Address("::1", 3),
        enable_metrics_api=False,
        enable_grpc_api=False,
        grpc_inference_host="10.0.0.2",
        grpc_inference_port=4,
        grpc_management_host="10.0.0.3",
        grpc_management_port=5,
        grpc_inference_max_connection_age_ms=6,
        grpc_inference_max_connection_age_grace_ms=7,
        grpc_management_max_connection_age_ms=8,
        grpc_management_max_connection_age_grace_ms=9,
        enable_grpc_ssl=True,
        certificate_file=CWD / "server.pem",
        private_key_file=Path("/etc/server.key"),
        keystore=CWD / "k.p12",
        keystore_pass="secret",
        inference_token="a-token-of-the-operator",
        management_token="another-token-of-theirs",
        max_archive_bytes=7000,
        download_timeout_s=70,
        keystore_type="PKCS12",
        token_authorization=False,
        token_expiration_min=0.5,
        token_errors_as_400=True,
        token_for_metrics=False,
        allowed_hosts=("models.example.com", "*"),
        allowed_urls=("https://a/.*",),
        use_env_allowed_urls=True,
        cors_allowed_origin="*",
        cors_allowed_methods="GET",
        cors_allowed_headers="X-A",
        model_store=Path("/srv/mars"),
        load_models=LoadModels(),
        models={"one": {"1.0": ModelOverrides(batch_size=4)}},
        model_snapshot=ModelSnapshot((SnapshotVersion("m", "1", "m.mar"),)),
        workflow_store=CWD / "war",
        require_signed=True,
        trusted_keys=(Path("/etc/keys"), CWD / "more.pem"),
        require_pins=True,
        default_service_handler="image_classifier",
        service_envelope="kserve",
        install_py_dep_per_model=True,
        enable_model_api=False,
        default_workers_per_model=2,
        batch_size=8,
        max_batch_delay_ms=5,
        job_queue_size=7,
        min_available_bytes=8,
        client_requests_per_second=9,
        trust_client_headers=False,
        queue_discipline="codel",
        blacklist_env_vars=re.compile("AWS_.*"),
        worker_env_allow=("HF_TOKEN", "AWS_*"),
        sandbox="strict",
        sandbox_writable=(Path("/out"), Path("/out2")),
        sandbox_readable=(Path("/in"),),
        sandbox_model_may_loosen=True,
        number_of_gpu=1,
        initial_worker_port=9500,
        initial_distribution_port=30000,
        ipex_enable=True,
        ipex_gpu_enable=True,
        cpu_launcher_enable=True,
        cpu_launcher_args="--ninstances 2",
        header_key_sequence_id="i",
        header_key_sequence_start="s",
        header_key_sequence_end="e",
        max_connections=30,
        max_connections_per_client=40,
        max_request_bytes=10,
        max_response_bytes=20,
        limit_max_image_pixels=False,
        default_response_timeout_s=1,
        default_startup_timeout_s=2,
        unregister_model_timeout_s=3,
        pre_drain_s=7,
        drain_timeout_s=8,
        decode_input_request=False,
        log_dir=CWD / "my/logs",
        access_log=False,
        metrics_log_dir=CWD / "my/metrics",
        cache_dir=Path("/cache"),
        metrics_mode="log",
        metrics_config=CWD / "m.yaml",
        model_metrics_auto_detect=True,
        disable_system_metrics=True,
        metric_time_interval_s=5,
        open_inference_protocol=True,
        enable_envvars_config=True,
    )
    assert without_texts(loaded.config) == expected
    assert {line.partition("=")[0] for line in EVERYTHING.split() if "=" in line} >= set(SETTINGS)


@pytest.mark.parametrize("text", ["", EVERYTHING])
def test_the_fields_hold_what_their_types_promise(text):
    config = built(text, environ={"STORE": "/srv", **HOME}).config
    for name, hint in get_type_hints(Config).items():
        plain = tuple(get_origin(t) or t for t in (get_args(hint) or (hint,)))
        if get_origin(hint) in (Mapping, re.Pattern, tuple):
            plain = (get_origin(hint),)
        assert isinstance(getattr(config, name), plain), name


def test_the_command_line_wins_over_the_file():
    config = built("model_store=a\nload_models=a.mar", {"load_models": "all"}).config
    assert config.model_store == CWD / "a"
    assert config.load_models == LoadModels(all=True)


@pytest.mark.parametrize(("switch", "expected"), [("true", 3), ("false", 2)])
def test_the_environment_wins_where_the_file_allows_it(switch, expected):
    text = f"enable_envvars_config={switch}\nbatch_size=1"
    environ = {"TS_BATCH_SIZE": "3", **HOME}
    assert built(text, {"batch_size": "2"}, environ).config.batch_size == expected


def test_settings_for_files_only_are_not_taken_from_the_environment():
    environ = {"TS_MODELS": "{", **HOME}
    loaded = built("enable_envvars_config=true", environ=environ)
    assert loaded.config.models == {}
    assert loaded.warnings == ()


def test_the_environment_is_checked_like_the_file():
    environ = {
        "TS_BATCH_SIZE": "x",
        "TS_KEYSTORE_TYPE": "JKS",
        "TS_TOKEN_EXPIRATION_TIME_MIN": "5",
        "TS_UNHEARD_OF": "1",
        **HOME,
    }
    assert mistakes("enable_envvars_config=true", environ=environ) == (
        "The configuration has 2 mistakes:\n"
        "  environment variable TS_KEYSTORE_TYPE: keystore_type=JKS: expected PKCS12.\n"
        "  environment variable TS_BATCH_SIZE: batch_size=x: "
        "expected a whole number, at least 1."
    )


def test_all_mistakes_are_reported_together():
    text = "batch_size=x\n\njob_queue_sise=3\nmodel_store=$$STORE$$\nlog_dir=\ncertificate_file=c"
    assert mistakes(text) == (
        "The configuration has 5 mistakes:\n"
        "  config.properties, line 1: batch_size=x: expected a whole number, at least 1.\n"
        "  config.properties, line 3: job_queue_sise is not a setting. "
        "Did you mean job_queue_size?\n"
        "  config.properties, line 4: model_store=$$STORE$$: "
        "the environment variable STORE is not set.\n"
        "  config.properties, line 5: log_dir=: expected a path.\n"
        "  config.properties, line 6: certificate_file is set without private_key_file: set both, "
        "or a keystore in their place."
    )


def test_a_single_mistake_is_one_sentence():
    assert mistakes("a\\u12=b") == (
        "config.properties, line 1: \\u must be followed by four hexadecimal digits."
    )


def test_a_key_like_no_other_is_meant_for_another_program():
    loaded = built("NUM_WORKERS=1")
    assert without_texts(loaded.config) == DEFAULTS
    assert loaded.warnings == (
        "config.properties, line 1: NUM_WORKERS is not a setting and has no effect; "
        "`marserve config example` prints them all.",
    )


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("job_queue_sise", "job_queue_size"),
        ("Batch_Size", "batch_size"),
        ("number_of_gpus", "number_of_gpu"),
        ("inference_adress", "inference_address"),
        ("metric_format", "metrics_format"),
        ("number_of_nety_threads", "number_of_netty_threads"),
    ],
)
def test_a_slip_is_a_mistake(slip, meant):
    assert mistakes(f"{slip}=1").endswith(f"{slip} is not a setting. Did you mean {meant}?")


def test_the_password_of_a_keystore_is_not_repeated():
    config = built("keystore=k\nkeystore_pass=hunter2").config
    assert config.keystore_pass == "hunter2"
    assert "hunter2" not in repr(config)


def test_of_two_lines_the_last_counts_and_is_warned_of():
    loaded = built("batch_size=x\nbatch_size=3")
    assert loaded.config.batch_size == 3
    assert loaded.warnings == (
        "config.properties, line 1: batch_size is given again in line 2, which counts.",
    )


@pytest.mark.parametrize("mode", ["prometheus", "log", "legacy"])
@pytest.mark.parametrize("key", ["metrics_mode", "metrics_format"])
def test_the_mode_of_metrics_has_two_names(key, mode):
    assert built(f"{key}={mode}").config.metrics_mode == mode


# --- ports ---


def test_ports_that_are_equal_are_shared():
    text = "inference_address=http://0.0.0.0:8085\nmanagement_address=http://0.0.0.0:8085"
    config = built(text).config
    assert config.inference == config.management == Address("0.0.0.0", 8085)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "inference_address=http://0.0.0.0:8085\nmanagement_address=http://127.0.0.1:8085",
            "line 2: inference_address=http://0.0.0.0:8085 and "
            "management_address=http://127.0.0.1:8085 cannot both be opened: "
            "give each its own port, or both the same address to share one port.",
        ),
        (
            "grpc_inference_port=8080",
            "line 1: inference_address=http://127.0.0.1:8080 and grpc_inference_port=8080 are the "
            "same port: give each its own, or leave the gRPC ports closed with "
            "enable_grpc_api=false.",
        ),
        (
            "grpc_management_port=7070",
            "line 1: grpc_inference_port=7070 and grpc_management_port=7070 are the same port: "
            "give each its own, or leave the gRPC ports closed with enable_grpc_api=false.",
        ),
    ],
)
def test_ports_that_cannot_both_be_opened_are_a_mistake(text, message):
    assert mistakes(text) == f"config.properties, {message}"


def test_closed_ports_collide_with_nothing():
    built("metrics_address=http://0.0.0.0:8080\nenable_metrics_api=false")
    built("grpc_inference_port=8080\nenable_grpc_api=false")


def test_an_unusable_address_is_not_compared():
    text = "inference_address=ftp://x\nmanagement_address=http://0.0.0.0:8080"
    assert "opened" not in mistakes(text)


def test_an_open_management_port_is_guarded_by_tokens():
    loaded = built("management_address=http://0.0.0.0:8081")
    assert loaded.config.management == Address("0.0.0.0", 8081)
    assert (loaded.config.token_authorization, loaded.warnings) == (None, ())


def test_an_open_management_port_without_tokens_is_loudly_warned_of():
    text = "management_address=http://0.0.0.0:8081\ndisable_token_authorization=true"
    loaded = built(text)
    assert loaded.config.token_authorization is False
    assert len(loaded.warnings) == 1
    assert "CAN LOAD CODE" in loaded.warnings[0]


@pytest.mark.parametrize(
    ("switch", "asks"), [("", None), ("=true", False), ("=false", True), ("=", None)]
)
def test_tokens_are_asked_for_always_never_or_where_it_matters(switch, asks):
    text = f"disable_token_authorization{switch}" if switch else ""
    assert built(text).config.token_authorization is asks


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("inference_address=https://127.0.0.1:1", "inference_address=https://127.0.0.1:1"),
        ("metrics_address=https://127.0.0.1", "metrics_address=https://127.0.0.1:8445"),
        ("enable_grpc_ssl=true", "enable_grpc_ssl=true"),
    ],
)
def test_tls_needs_a_certificate_of_either_kind(text, user):
    assert mistakes(text) == (
        f"config.properties, line 1: {user} asks for TLS, and there is no certificate: "
        "set certificate_file and private_key_file (PEM), or keystore and keystore_pass (PKCS#12)."
    )
    built(f"{text}\nkeystore=k.p12")
    built(f"{text}\ncertificate_file=c\nprivate_key_file=k")


def test_a_key_without_its_certificate_is_a_mistake():
    assert mistakes("private_key_file=k") == (
        "config.properties, line 1: private_key_file is set without certificate_file: set both, "
        "or a keystore in their place."
    )


# --- the environment ---


def test_two_variables_count_whether_the_file_allows_it_or_not():
    environ = {
        "TS_OPEN_INFERENCE_PROTOCOL": "true",
        "TS_MODEL_SERVER_HOME": "/opt/ts",
        "TS_BATCH_SIZE": "9",
        **HOME,
    }
    loaded = built(environ=environ)
    assert without_texts(loaded.config) == dataclasses.replace(
        DEFAULTS, open_inference_protocol=True
    )
    assert loaded.warnings == (
        "environment variable TS_MODEL_SERVER_HOME: model_server_home has no meaning here: "
        "the server finds its own files.",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("https://file/.*",)),
        ("enable_envvars_config=true", ("https://file/.*",)),
        ("use_env_allowed_urls=true", ("https://environment/.*",)),
        (
            "enable_envvars_config=true\nuse_env_allowed_urls=true",
            ("https://environment/.*",),
        ),
    ],
)
def test_allowed_urls_have_a_switch_of_their_own(text, expected):
    environ = {"TS_ALLOWED_URLS": "https://environment/.*", **HOME}
    config = built(f"allowed_urls=https://file/.*\n{text}", environ=environ).config
    assert config.allowed_urls == expected


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("TS_TOKEN_EXPIRATION_TIME_MIN", "5", "token_expiration_min", 5.0),
        ("TS_HEADER_KEY_SEQUENCE_ID", "x-id", "header_key_sequence_id", "x-id"),
        ("TS_HEADER_KEY_SEQUENCE_START", "x-start", "header_key_sequence_start", "x-start"),
        ("TS_HEADER_KEY_SEQUENCE_END", "x-end", "header_key_sequence_end", "x-end"),
        ("TS_DISABLE_TOKEN_AUTHORIZATION", "true", "token_authorization", False),
        ("TS_GRPC_INFERENCE_PORT", "0", "grpc_inference_port", 0),
    ],
)
def test_variables_have_the_names_of_torchserve(variable, value, field, expected):
    config = built("enable_envvars_config=true", environ={variable: value, **HOME}).config
    assert getattr(config, field) == expected


def test_the_places_of_logs_come_from_the_environment_of_torchserve():
    environ = {"LOG_LOCATION": "/var/l", **HOME}
    config = built("log_dir=elsewhere", environ=environ).config
    assert (config.log_dir, config.metrics_log_dir) == (Path("/var/l"), Path("/var/l"))
    config = built(environ={"METRICS_LOCATION": "m", "LOG_LOCATION": "", **HOME}).config
    assert (config.log_dir, config.metrics_log_dir) == (CWD / "logs", CWD / "m")


def test_a_secret_of_the_environment_is_not_among_the_texts():
    environ = {"PASS": "hunter2", **HOME}
    config = built("keystore=k\nkeystore_pass=$$PASS$$\nNUM_WORKERS=1", environ=environ).config
    assert config.keystore_pass == "hunter2"
    assert config.properties == {
        "keystore": str(CWD / "k"),
        "keystore_pass": "$$PASS$$",
        "NUM_WORKERS": "1",
    }


# --- models ---


def test_a_snapshot_says_which_models_are_loaded():
    snapshot = '{"models": {"m": {"1": {"marName": "m.mar"}}}}'
    loaded = built(f"model_snapshot={snapshot}", {"load_models": "all"})
    assert loaded.config.model_snapshot == ModelSnapshot((SnapshotVersion("m", "1", "m.mar"),))
    assert loaded.config.load_models == LoadModels()
    assert loaded.warnings == (
        "load_models does not count, because model_snapshot says which models are loaded.",
    )


# --- files of the machine ---


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CACHE_HOME": "/xdg", "HOME": "/h"}, "/xdg/marserve"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/marserve"),
        ({}, "/srv/dir/.cache/marserve"),
    ],
)
def test_the_cache_is_the_users_own(environ, expected):
    assert built(environ=environ).config.cache_dir == Path(expected)


@given(st.text(), st.dictionaries(st.sampled_from(sorted(SETTINGS)), st.text()))
def test_any_file_is_taken_or_refused_as_invalid(text, overrides):
    with contextlib.suppress(ConfigInvalid):
        built(text, overrides)


# --- load: which file ---


def test_the_file_in_the_directory_is_taken(tmp_path):
    (tmp_path / "config.properties").write_text("batch_size=5\nlog_dir=l")
    config = load(None, {}, HOME, tmp_path).config
    assert (config.batch_size, config.log_dir) == (5, tmp_path / "l")
    assert config.config_file == tmp_path / "config.properties"


def test_no_file_is_no_mistake(tmp_path):
    assert load(None, {}, HOME, tmp_path).config.config_file is None


def test_a_named_file_wins_over_the_one_in_the_directory(tmp_path):
    (tmp_path / "config.properties").write_text("batch_size=5")
    (tmp_path / "mine").write_text("batch_size=6")
    config = load(Path("mine"), {}, HOME, tmp_path).config
    assert (config.batch_size, config.config_file) == (6, tmp_path / "mine")


def test_the_file_of_the_environment_wins_over_all(tmp_path):
    (tmp_path / "mine").write_text("batch_size=6")
    (tmp_path / "theirs").write_text("batch_size=7")
    environ = {"TS_CONFIG_FILE": "theirs", **HOME}
    assert load(None, {}, environ, tmp_path).config.batch_size == 7
    loaded = load(Path("mine"), {}, environ, tmp_path)
    assert loaded.config.batch_size == 7
    assert loaded.warnings == (
        "the environment variable TS_CONFIG_FILE=theirs is followed, not mine.",
    )


def test_a_file_elsewhere_is_named_by_its_path(tmp_path):
    elsewhere = tmp_path / "etc" / "prod.properties"
    elsewhere.parent.mkdir()
    elsewhere.write_text("batch_size=x")
    with pytest.raises(ConfigInvalid, match=f"^{elsewhere}, line 1: batch_size=x"):
        load(elsewhere, {}, HOME, tmp_path)


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(ConfigInvalid, match=r"The configuration file .*/nope does not exist\."):
        load(Path("nope"), {}, HOME, tmp_path)


def test_a_directory_in_place_of_a_file_is_a_sentence(tmp_path):
    with pytest.raises(ConfigInvalid, match=r"cannot be read: Is a directory\."):
        load(tmp_path, {}, HOME, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "default_service_handler=é".encode(),
        "\ufeffdefault_service_handler=é".encode(),
        "default_service_handler=é".encode("latin-1"),
    ],
)
def test_utf8_and_latin1_files_are_read(tmp_path, content):
    (tmp_path / "config.properties").write_bytes(content)
    assert load(None, {}, HOME, tmp_path).config.default_service_handler == "é"
