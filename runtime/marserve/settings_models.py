"""The settings of models: which are loaded, how workers run them and share requests. Data."""

from __future__ import annotations

from marserve.config_models import LOAD_MODELS, MODELS
from marserve.config_snapshot import MODEL_SNAPSHOT
from marserve.config_values import (
    BOOLEAN,
    HEADER_NAME,
    OPTIONAL_PATH,
    PATHS,
    PATTERN,
    PLAIN,
    TEXT,
    WORDS,
    choice,
    optional_whole_number,
    whole_number,
)
from marserve.setting import Setting

MODEL_SETTINGS = (
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
        "require_signed",
        BOOLEAN,
        "false",
        "true refuses every archive that is not signed with one of trusted_keys, before anything "
        "of it is unpacked. Folders cannot be signed and are refused, too.",
        "require_signed",
    ),
    Setting(
        "trusted_keys",
        PATHS,
        "",
        "The public keys for require_signed: files in PEM and folders of such files, separated by "
        "commas. They are read for each archive anew, so a key that is deleted is revoked.",
        "trusted_keys",
        example="/etc/marserve/keys",
        default_note="none",
    ),
    Setting(
        "require_pins",
        BOOLEAN,
        "false",
        "true refuses every archive that the file SHA256SUMS in the store does not list. What is "
        "listed there has to match in any case.",
        "require_pins",
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
    Setting(
        "model_snapshot",
        MODEL_SNAPSHOT,
        "",
        "The models to start with and their settings, as JSON in the form of TorchServe's "
        "snapshots. load_models does not count where this stands.",
        "model_snapshot",
        example='{"modelCount": 1, "models": {"digits": {"1.0": {"marName": "digits.mar"}}}}',
        file_only=True,
    ),
    Setting(
        "workflow_store",
        OPTIONAL_PATH,
        "",
        "The directory that holds the archives of workflows.",
        "workflow_store",
        example="/srv/workflows",
        default_note="the model store",
    ),
    Setting(
        "service_envelope",
        TEXT,
        "",
        "How the requests of all models are wrapped: body, json, kserve or kservev2.",
        "service_envelope",
        example="kserve",
        default_note="not at all",
    ),
    Setting(
        "install_py_dep_per_model",
        BOOLEAN,
        "false",
        "true installs the requirements file that an archive holds, for this model only.",
        "install_py_dep_per_model",
    ),
)

WORKERS = (
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
        "The longest that a batch is held back for company while a worker is free. A free worker "
        "takes what is there at once, unless others are about to return: this is a bound and "
        "not a pause.",
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
    Setting(
        "worker_env_allow",
        WORDS,
        "",
        "Environment variables that workers see although their names look like those of secrets "
        "(as AWS_SECRET_ACCESS_KEY or HF_TOKEN); a * at the end stands for any rest.",
        "worker_env_allow",
        example="HF_TOKEN,AWS_*",
        default_note="none",
    ),
    Setting(
        "number_of_gpu",
        optional_whole_number(0),
        "",
        "At most so many GPUs are used, of those that are there.",
        "number_of_gpu",
        example="1",
        default_note="all",
    ),
    Setting(
        "initial_worker_port",
        whole_number(1, 65535),
        "9000",
        "The number of the first worker. Workers have no ports; the numbers name them in "
        "descriptions and logs.",
        "initial_worker_port",
    ),
    Setting(
        "initial_distribution_port",
        whole_number(1, 65535),
        "29500",
        "The first port by which the processes of a parallel model find one another.",
        "initial_distribution_port",
    ),
    Setting(
        "ipex_enable",
        BOOLEAN,
        "false",
        "true lets handlers optimise their model with the Intel extension for PyTorch.",
        "ipex_enable",
    ),
    Setting(
        "ipex_gpu_enable",
        BOOLEAN,
        "false",
        "The same for Intel GPUs.",
        "ipex_gpu_enable",
    ),
    Setting(
        "cpu_launcher_enable",
        BOOLEAN,
        "false",
        "true starts each worker through torch.backends.xeon.run_cpu, which pins it to cores.",
        "cpu_launcher_enable",
    ),
    Setting(
        "cpu_launcher_args",
        PLAIN,
        "",
        "Arguments for that launcher.",
        "cpu_launcher_args",
        example="--use_logical_core",
    ),
)

SANDBOX = (
    Setting(
        "sandbox",
        choice("off", "default", "strict"),
        "default",
        "How workers are shut in. default: they write only where handlers commonly do, and reach "
        "no other process; strict: they read only what a model needs, and have no network unless "
        "model-config.yaml says network: true. See docs/sandbox.md and marserve doctor.",
        "sandbox",
    ),
    Setting(
        "sandbox_writable",
        PATHS,
        "",
        "Files and folders that workers may write, besides the usual ones.",
        "sandbox_writable",
        example="/data/results,/mnt/cache",
        default_note="none",
    ),
    Setting(
        "sandbox_readable",
        PATHS,
        "",
        "Files and folders that workers may read in the strict sandbox, besides the usual ones.",
        "sandbox_readable",
        example="/mnt/weights",
        default_note="none",
    ),
    Setting(
        "sandbox_model_may_loosen",
        BOOLEAN,
        "false",
        "true lets the key sandbox of a model-config.yaml loosen what is set here; else it can "
        "only tighten it.",
        "sandbox_model_may_loosen",
    ),
)

SEQUENCES = (
    Setting(
        "ts_header_key_sequence_id",
        HEADER_NAME,
        "ts_request_sequence_id",
        "The header that names the sequence of a request to a stateful model.",
        "header_key_sequence_id",
    ),
    Setting(
        "ts_header_key_sequence_start",
        HEADER_NAME,
        "ts_request_sequence_start",
        "The header that says that a request begins its sequence.",
        "header_key_sequence_start",
    ),
    Setting(
        "ts_header_key_sequence_end",
        HEADER_NAME,
        "ts_request_sequence_end",
        "The header that says that a request ends its sequence.",
        "header_key_sequence_end",
    ),
)
