"""What an archive's YAML may decide, and that no YAML harms whoever reads it."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from marserve.registry.model_config import ModelConfig, TorchRun, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", ModelConfig()),
        (b"# nothing but a comment\n", ModelConfig()),
        (b"---\n...\n", ModelConfig()),
        (b"minWorkers: 2", ModelConfig(min_workers=2)),
        (b"minWorkers: 2\nmaxWorkers: 2", ModelConfig(min_workers=2, max_workers=2)),
        (b"maxWorkers: 3", ModelConfig(max_workers=3)),
        (b"batchSize: 8\nmaxBatchDelay: 0", ModelConfig(batch_size=8, max_batch_delay_ms=0)),
        (
            b"responseTimeout: 60\nstartupTimeout: 90\njobQueueSize: 5\n",
            ModelConfig(response_timeout_s=60, startup_timeout_s=90, queue_size=5),
        ),
        (b"{batchSize: 4, handler: {profile: true}, pt2: x}", ModelConfig(batch_size=4)),
        (
            b"deviceType: gpu\ndeviceIds: [0, 2]\nparallelType: tp\nparallelLevel: 2\n",
            ModelConfig(device_type="gpu", device_ids=(0, 2), parallel_type="tp", parallel_level=2),
        ),
        (
            b"torchrun: {nproc-per-node: 4, nnodes: 2, rdzv-backend: static, master-port: 29501}",
            ModelConfig(
                torchrun=TorchRun(
                    nnodes="2", nproc_per_node=4, rdzv_backend="static", master_port=29501
                )
            ),
        ),
        (
            b"maxRetryTimeoutInSec: 5\nclientTimeoutInMills: 700\nuseJobTicket: true\n"
            b"useVenv: true\nasyncCommunication: true\ncontinuousBatching: false\n",
            ModelConfig(
                max_retry_s=5,
                client_timeout_ms=700,
                use_job_ticket=True,
                use_venv=True,
                async_communication=True,
                continuous_batching=False,
            ),
        ),
        (
            b"sequenceBatching: true\nsequenceMaxIdleMSec: 60\nsequenceTimeoutMSec: 900\n"
            b"maxNumSequence: 4\nmaxSequenceJobQueueSize: 10\n",
            ModelConfig(
                sequence_batching=True,
                sequence_max_idle_ms=60,
                sequence_timeout_ms=900,
                max_sequences=4,
                sequence_queue_size=10,
            ),
        ),
        (
            b"minWorkers: 0\nmaxWorkers: 4\nscaleUpQueueMSec: 50\nscaleDownIdleSec: 2\n",
            ModelConfig(min_workers=0, max_workers=4, scale_up_queue_ms=50, scale_down_idle_s=2),
        ),
        (b"x: &x 7\nbatchSize: *x", ModelConfig(batch_size=7)),
        (b"batchSize: null\nminWorkers: ~", ModelConfig()),
        (b"batchSize: 2147483647", ModelConfig(batch_size=2147483647)),
        (b"1: 2\nnull: 3\ntrue: 4", ModelConfig()),
    ],
)
def test_settings_are_read_and_everything_else_is_the_handler_s(text, expected):
    assert parse(text) == (expected, ())


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (b"batchSize: 0", "batchSize is 0, not a whole number from 1 to 2147483647; ignored"),
        (b"batchSize: -1", "batchSize is -1, not a whole number from 1 to 2147483647; ignored"),
        (b"batchSize: 1.5", "batchSize is 1.5, not a whole number from 1 to 2147483647; ignored"),
        (b"batchSize: '4'", "batchSize is '4', not a whole number from 1 to 2147483647; ignored"),
        (b"batchSize: true", "batchSize is True, not a whole number from 1 to 2147483647; ignored"),
        (b"batchSize: [4]", "batchSize is [4], not a whole number from 1 to 2147483647; ignored"),
        (
            b"maxBatchDelay: -1",
            "maxBatchDelay is -1, not a whole number from 0 to 2147483647; ignored",
        ),
        (b"jobQueueSize: 0", "jobQueueSize is 0, not a whole number from 1 to 2147483647; ignored"),
        (b"minWorkers: 3\nmaxWorkers: 2", "maxWorkers is less than minWorkers; both are ignored"),
        (b"useVenv: 'yes'", "useVenv is 'yes', not true or false; ignored"),
        (b"deviceType: tpu", "deviceType is 'tpu', not cpu or gpu; ignored"),
        (b"deviceIds: [0, x]", "deviceIds is [0, 'x'], not a list of device numbers; ignored"),
        (b"parallelType: all", "parallelType is 'all', not pp or tp or pptp or custom; ignored"),
        (b"torchrun: 4", "torchrun is 4, not settings by name; ignored"),
        (
            b"sequenceBatching: true",
            "sequenceBatching needs a sequenceMaxIdleMSec of at least 1; ignored",
        ),
        (b"- minWorkers: 1", "it does not hold settings by name"),
        (b"just text", "it does not hold settings by name"),
    ],
)
def test_what_cannot_be_used_is_ignored_with_a_warning(text, warning):
    assert parse(text) == (ModelConfig(), (warning,))


def test_one_bad_setting_leaves_the_others_alone():
    config, warnings = parse(b"minWorkers: 3\nmaxWorkers: 2\nbatchSize: 4\nresponseTimeout: soon")

    assert config == ModelConfig(batch_size=4)
    assert len(warnings) == 2


@pytest.mark.parametrize("number", [b"2147483648", b"0x" + b"f" * 5000, b"9" * 5000])
def test_a_number_too_large_for_anything_is_ignored(number):
    config, warnings = parse(b"batchSize: " + number)

    assert config == ModelConfig()
    [warning] = warnings
    assert len(warning) < 300


@pytest.mark.parametrize(
    "text",
    [
        b"a: [",
        b"a: b: c",
        b"\tbatchSize: 1",
        b"a: *nobody",
        b"!!python/object/apply:os.system ['true']",
        b"!!python/name:os.system",
        b"a: !unknown x",
        b"? [a]\n: b",
        b"\xff\xfe\xff",
        b"a: \x00",
        b"\x80abc",
        b"--- 1\n--- 2\n",
        b"a: 2001-99-99",
        b"a: !!bool perhaps",
        b"a: !!int ''",
        b"a: !!float ''",
        b"a: !!timestamp soon",
        b"a: !!binary \xc3\xa9",
        b"<<: 7",
        b"=: 1",
        b"a: 1:99999999999999999999999.5e999",
        b"[" * 20_000,
        b"- " * 20_000,
    ],
)
def test_a_strange_document_gives_at_most_one_warning_of_one_line(text):
    config, warnings = parse(text)

    assert config == ModelConfig()
    for warning in warnings:
        assert "\n" not in warning
    assert len(warnings) <= 1


def test_a_document_that_grows_when_it_is_printed_is_not_printed():
    lines = [b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        lines.append(b"a%d: &a%d [%s]" % (level, level, b", ".join([b"*a%d" % (level - 1)] * 5)))
    as_value = b"\n".join([*lines, b"batchSize: *a11", b"minWorkers: 2"])
    as_key = b"\n".join([*lines, b"? *a11", b": 1"])

    config, [warning] = parse(as_value)
    assert config == ModelConfig(min_workers=2)
    assert warning.startswith("batchSize is [[[")
    assert len(warning) < 300

    config, [warning] = parse(as_key)
    assert config == ModelConfig()
    assert "found unhashable key" in warning


def test_a_document_whose_merges_multiply_is_read_in_no_time():
    lines = [b"a0: &a0 {batchSize: 7, k1: 1, k2: 2, k3: 3}"]
    for level in range(1, 15):
        aliases = b", ".join([b"*a%d" % (level - 1)] * 4)
        lines.append(b"a%d: &a%d {<<: [%s], k%d: %d}" % (level, level, aliases, level, level))

    assert parse(b"\n".join([*lines, b"<<: *a14"])) == (ModelConfig(batch_size=7), ())


@pytest.mark.parametrize(
    ("text", "batch_size"),
    [
        (b"x: &x {batchSize: 7}\n<<: *x", 7),
        (b"x: &x {batchSize: 7}\n<<: *x\nbatchSize: 8", 8),
        (b"x: &x {batchSize: 7}\nbatchSize: 8\n<<: *x", 8),
        (b"x: &x {batchSize: 7}\ny: &y {batchSize: 9}\n<<: [*x, *y]", 7),
        (b"batchSize: 7\nbatchSize: 8", 8),
        (b"<<: {batchSize: 7}\n? [a, b]\n: 1", None),
    ],
)
def test_merges_mean_what_they_mean_in_yaml(text, batch_size):
    assert parse(text)[0] == ModelConfig(batch_size=batch_size)


def test_a_document_that_holds_itself_is_read():
    config, [warning] = parse(b"batchSize: &me [*me]\nminWorkers: 1")

    assert config == ModelConfig(min_workers=1)
    assert warning.startswith("batchSize is [")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_random_bytes_never_raise(text):
    config, warnings = parse(text)

    assert config == ModelConfig() or not warnings


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
keys = st.sampled_from(["minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "jobQueueSize"])


@settings(deadline=None)
@given(st.dictionaries(keys | st.text(max_size=4), documents | st.integers(-2, 9), max_size=6))
def test_what_is_taken_is_a_whole_number_within_bounds(document):
    config, _ = parse(yaml.safe_dump(document, allow_unicode=True).encode())

    for name in ("max_workers", "batch_size", "queue_size"):
        value = getattr(config, name)
        assert value is None or 1 <= value <= 2**31 - 1
    assert config.min_workers is None or 0 <= config.min_workers <= 2**31 - 1
    assert config.max_batch_delay_ms is None or 0 <= config.max_batch_delay_ms <= 2**31 - 1
    if config.min_workers is not None and config.max_workers is not None:
        assert config.min_workers <= config.max_workers
