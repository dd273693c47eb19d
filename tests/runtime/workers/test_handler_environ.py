"""The variables that handlers find."""

import re
from types import SimpleNamespace

import pytest

from marserve.workers.handler_environ import handler_environ, looks_secret, worker_environ
from marserve.workers.messages import Load


def load(handler="h.py", **fields):
    return Load("m", "1", "/models/m", handler, 1, None, True, True, 1, None, **fields)


@pytest.mark.parametrize(
    ("loading", "inherited", "expected"),
    [
        (load(), {}, "/models/m"),
        (load(), {"PYTHONPATH": "/a::/b"}, "/a:/b:/models/m"),
        (load("h.py:run"), {"PYTHONPATH": "/a"}, "/models/m:/a"),
        (load("code/h.py:run"), {"PYTHONPATH": "/a"}, "/models/m/code:/a:/models/m"),
        (load(python_path=("/packages",)), {"PYTHONPATH": "/a"}, "/packages:/a:/models/m"),
        (load(python_path=("/p",)), {"PYTHONPATH": "/p:/a"}, "/p:/a:/models/m"),
    ],
)
def test_what_a_handler_starts_finds_the_folder_of_the_model(loading, inherited, expected):
    assert handler_environ(loading, inherited) == {"PYTHONPATH": expected}


def test_a_model_may_have_variables_of_its_own():
    made = handler_environ(load(environ={"CUDA_VISIBLE_DEVICES": "1"}), {})

    assert made == {"CUDA_VISIBLE_DEVICES": "1", "PYTHONPATH": "/models/m"}


def test_handlers_are_told_what_the_server_is_set_to_and_not_what_is_hidden_from_them():
    config = SimpleNamespace(
        blacklist_env_vars=re.compile("MY_AWS.*|TS_IPEX_ENABLE"),
        worker_env_allow=("HF_TOKEN", "AZURE_*"),
        decode_input_request=True,
        ipex_enable=False,
        ipex_gpu_enable=True,
        header_key_sequence_id="seq",
        header_key_sequence_start="begin",
        header_key_sequence_end="end",
    )
    inherited = {
        "HOME": "/h",
        "MY_AWS_HOME": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "HF_TOKEN": "y",
        "AZURE_CLIENT_ID": "z",
        "TS_IPEX_GPU_ENABLE": "stale",
    }

    assert worker_environ(config, inherited) == {
        "MARSERVE_HIDDEN_VARIABLES": "AWS_SECRET_ACCESS_KEY,MY_AWS_HOME",
        "HOME": "/h",
        "HF_TOKEN": "y",
        "AZURE_CLIENT_ID": "z",
        "TS_DECODE_INPUT_REQUEST": "true",
        "TS_IPEX_ENABLE": "false",
        "TS_IPEX_GPU_ENABLE": "true",
        "TS_REQUEST_SEQUENCE_ID": "seq",
        "TS_REQUEST_SEQUENCE_START": "begin",
        "TS_REQUEST_SEQUENCE_END": "end",
    }


@pytest.mark.parametrize(
    "name",
    [
        *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AZURE_CLIENT_ID"),
        *("GOOGLE_APPLICATION_CREDENTIALS", "HF_TOKEN", "GITHUB_TOKEN", "github_token"),
        *("OPENAI_API_KEY", "STRIPE_KEY", "SSH_AUTH_SOCK", "PGPASSWORD", "MYSQL_PWD"),
        *("TS_KEYSTORE_PASS", "SENTRY_DSN", "KUBECONFIG", "DATABASE_URL", "CLIENTSECRET"),
    ],
)
def test_what_commonly_holds_a_secret_is_taken_for_one(name):
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("HOME", "PATH", "PWD", "OLDPWD", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH"),
        *("TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HOME"),
        *("AWS_REGION", "AWS_NEURON_VISIBLE_DEVICES", "TS_HEADER_KEY_SEQUENCE_ID", "KEYBOARD"),
        *("MAX_NEW_TOKENS", "MAX_TOTAL_TOKENS", "MAX_NUM_BATCHED_TOKENS", "AWS_ENDPOINT_URL_S3"),
        *("AWS_ENDPOINT_URL", "AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        *("MONKEY", "TRANSFORMERS_CACHE", "NVIDIA_DRIVER_CAPABILITIES", "TORCH_HOME"),
    ],
)
def test_what_handlers_and_frameworks_need_is_not_taken_for_a_secret(name):
    assert not looks_secret(name)
