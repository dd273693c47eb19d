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
    ModelToLoad,
    build,
    load,
)
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
    model_store=None,
    load_models=LoadModels(),
    models={},
    default_service_handler=None,
    enable_model_api=True,
    default_workers_per_model=0,
    batch_size=1,
    max_batch_delay_ms=100,
    job_queue_size=100,
    blacklist_env_vars=None,
    max_request_bytes=6553500,
    max_response_bytes=6553500,
    limit_max_image_pixels=True,
    default_response_timeout_s=120,
    default_startup_timeout_s=120,
    unregister_model_timeout_s=120,
    decode_input_request=True,
    log_dir=CWD / "logs",
    cache_dir=Path("/home/me/.cache/marserve"),
    metrics_mode="prometheus",
    metrics_format="prometheus",
    disable_system_metrics=False,
    disable_token_authorization=False,
    enable_envvars_config=False,
    snapshots=True,
    config_file=None,
)

EVERYTHING = r"""
inference_address=http://10.0.0.1:1
management_address=http://10.0.0.1:2
metrics_address=http://[::1]:3
enable_metrics_api=false
model_store=$$STORE$$/mars
load_models=one=a.mar,b.mar
models={\
  "one": {\
    "1.0": {"batchSize": 4}}}
default_service_handler=image_classifier
enable_model_api=false
default_workers_per_model=2
batch_size=8
max_batch_delay=5
job_queue_size=7
blacklist_env_vars=AWS_.*
max_request_size=10
max_response_size=20
limit_max_image_pixels=false
default_response_timeout=1
default_startup_timeout=2
unregister_model_timeout=3
decode_input_request=false
log_dir=my/logs
cache_dir=/cache
metrics_mode=prometheus
metrics_format=prometheus
disable_system_metrics=true
disable_token_authorization=true
enable_envvars_config=true
"""


def built(text="", overrides=None, environ=HOME):
    return build(text, None, overrides or {}, environ, CWD)


def mistakes(text="", overrides=None, environ=HOME):
    with pytest.raises(ConfigInvalid) as caught:
        built(text, overrides, environ)
    return caught.value.message


def test_without_anything_the_defaults_hold():
    assert built() == dataclasses.replace(built(), config=DEFAULTS, warnings=())


def test_a_file_of_torchserve_arrives_with_three_warnings():
    loaded = built(TORCHSERVE_FILE)
    assert loaded.config == dataclasses.replace(
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
    assert loaded.config == Config(
        inference=Address("10.0.0.1", 1),
        management=Address("10.0.0.1", 2),
        metrics=Address("::1", 3),
        enable_metrics_api=False,
        model_store=Path("/srv/mars"),
        load_models=LoadModels((ModelToLoad("one", "a.mar"), ModelToLoad(None, "b.mar"))),
        models={"one": {"1.0": ModelOverrides(batch_size=4)}},
        default_service_handler="image_classifier",
        enable_model_api=False,
        default_workers_per_model=2,
        batch_size=8,
        max_batch_delay_ms=5,
        job_queue_size=7,
        blacklist_env_vars=re.compile("AWS_.*"),
        max_request_bytes=10,
        max_response_bytes=20,
        limit_max_image_pixels=False,
        default_response_timeout_s=1,
        default_startup_timeout_s=2,
        unregister_model_timeout_s=3,
        decode_input_request=False,
        log_dir=CWD / "my/logs",
        cache_dir=Path("/cache"),
        metrics_mode="prometheus",
        metrics_format="prometheus",
        disable_system_metrics=True,
        disable_token_authorization=True,
        enable_envvars_config=True,
    )
    assert {line.partition("=")[0] for line in EVERYTHING.split() if "=" in line} >= set(SETTINGS)


@pytest.mark.parametrize("text", ["", EVERYTHING])
def test_the_fields_hold_what_their_types_promise(text):
    config = built(text, environ={"STORE": "/srv", **HOME}).config
    for name, hint in get_type_hints(Config).items():
        plain = tuple(get_origin(t) or t for t in (get_args(hint) or (hint,)))
        if get_origin(hint) in (Mapping, re.Pattern):
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
        "TS_KEYSTORE": "k",
        "TS_TOKEN_EXPIRATION_TIME_MIN": "5",
        "TS_UNHEARD_OF": "1",
        **HOME,
    }
    assert mistakes("enable_envvars_config=true", environ=environ) == (
        "The configuration has 2 mistakes:\n"
        "  environment variable TS_BATCH_SIZE: batch_size=x: "
        "expected a whole number, at least 1.\n"
        "  environment variable TS_KEYSTORE: keystore cannot be honoured: this version does not "
        "speak TLS: remove the key and put a TLS proxy in front."
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
        "  config.properties, line 5: log_dir=: expected the path of a directory.\n"
        "  config.properties, line 6: certificate_file cannot be honoured: this version does not "
        "speak TLS: remove the key and put a TLS proxy in front."
    )


def test_a_single_mistake_is_one_sentence():
    assert mistakes("a\\u12=b") == (
        "config.properties, line 1: \\u must be followed by four hexadecimal digits."
    )


def test_a_key_like_no_other_points_to_the_list():
    assert mistakes("zzz=1") == (
        "config.properties, line 1: zzz is not a setting. "
        "`marserve config example` prints them all."
    )


def test_the_password_of_a_keystore_is_not_repeated():
    assert "hunter2" not in mistakes("keystore_pass=hunter2")


def test_ssl_that_is_off_is_only_noted():
    warnings = ("config.properties, line 1: enable_grpc_ssl is not used by this version.",)
    assert built("enable_grpc_ssl=false").warnings == warnings
    assert "cannot be honoured" in mistakes("enable_grpc_ssl=true")


def test_of_two_lines_the_last_counts_and_is_warned_of():
    loaded = built("batch_size=x\nbatch_size=3")
    assert loaded.config.batch_size == 3
    assert loaded.warnings == (
        "config.properties, line 1: batch_size is given again in line 2, which counts.",
    )


@pytest.mark.parametrize("mode", ["log", "legacy"])
def test_other_modes_of_metrics_are_taken_with_a_warning(mode):
    loaded = built(f"metrics_mode={mode}")
    assert loaded.config.metrics_mode == "prometheus"
    assert loaded.warnings == (
        f"config.properties, line 1: metrics_mode={mode}: "
        "the metrics endpoint always speaks Prometheus.",
    )


def test_ports_are_not_shared():
    text = "inference_address=http://0.0.0.0:8085\nmanagement_address=http://127.0.0.1:8085"
    assert mistakes(text) == (
        "inference_address=http://0.0.0.0:8085 and management_address=http://127.0.0.1:8085 are "
        "the same port; give each its own (shared ports are not supported in this version)."
    )


def test_a_closed_metrics_port_collides_with_nothing():
    assert "same port" in mistakes("metrics_address=http://127.0.0.1:8080")
    built("metrics_address=http://127.0.0.1:8080\nenable_metrics_api=false")


def test_an_unusable_address_is_not_compared():
    text = "inference_address=https://x\nmanagement_address=http://127.0.0.1:8080"
    assert "same port" not in mistakes(text)


def test_an_open_management_port_must_be_wanted_explicitly():
    text = "management_address=http://0.0.0.0:8081"
    assert "disable_token_authorization=true" in mistakes(text)
    loaded = built(f"{text}\ndisable_token_authorization=true")
    assert loaded.config.management == Address("0.0.0.0", 8081)
    assert len(loaded.warnings) == 1
    assert "CAN LOAD CODE" in loaded.warnings[0]


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
