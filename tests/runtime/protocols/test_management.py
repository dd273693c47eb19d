"""Parameters become wishes or are refused by name; descriptions become TorchServe's JSON."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import ArchiveNotFound, InvalidInput
from marserve.model_version import (
    Description,
    Settings,
    VersionState,
    WorkerDescription,
    WorkerState,
)
from marserve.protocols import management as wire
from marserve.protocols import parameters
from marserve.protocols.management import Page, Registered, Registration, Scaled, Scaling
from marserve.refs import ModelRef

REF = ModelRef("noop", "1.11")
WORKER = WorkerDescription(
    id="9000",
    state=WorkerState.READY,
    pid=7293,
    started_at=1714557600.123,
    memory_bytes=554663936,
    restarts=0,
    last_error=None,
)
NOOP = Description(
    ref=REF,
    url="noop.mar",
    is_default=True,
    state=VersionState.READY,
    settings=Settings(min_workers=1, max_workers=1),
    loaded_at_startup=False,
    workers=(WORKER,),
    pending_requests=0,
    last_error=None,
)


def test_a_registration_needs_only_a_url():
    assert wire.registration({"url": "a.mar"}) == Registration("a.mar", synchronous=True)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_registration_takes_every_parameter_as_text_or_as_json(as_json):
    given = {
        "url": "a.mar",
        "model_name": "a",
        "handler": "handler.py:go",
        "runtime": "python3",
        "batch_size": 8,
        "max_batch_delay": 0,
        "initial_workers": 2,
        "response_timeout": 60,
        "startup_timeout": 90,
        "synchronous": False,
        "s3_sse_kms": True,
    }
    if not as_json:
        given = {name: str(value) for name, value in given.items()}
    assert wire.registration(given) == Registration(
        "a.mar", "a", "handler.py:go", "python3", 8, 0, 2, 60, 90, False, True
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Parameter url is required."),
        ({"url": 7}, "Parameter url must be text."),
        ({"url": "a", "runtime": "PYTHON"}, "Invalid RuntimeType value: PYTHON"),
        (
            {"url": "a", "runtime": "LSP"},
            "Invalid RuntimeType value: LSP. C++ handlers are not served.",
        ),
        ({"url": "a", "batch_size": "x"}, "Parameter batch_size must be a whole number."),
        ({"url": "a", "batch_size": ""}, "Parameter batch_size must be a whole number."),
        ({"url": "a", "batch_size": 1.5}, "Parameter batch_size must be a whole number."),
        ({"url": "a", "batch_size": True}, "Parameter batch_size must be a whole number."),
        ({"url": "a", "batch_size": "1_0"}, "Parameter batch_size must be a whole number."),
        ({"url": "a", "batch_size": "٣"}, "Parameter batch_size must be a whole number."),
        ({"url": "a", "batch_size": 2**31}, "Parameter batch_size must be a whole number."),
        ({"url": "a", "batch_size": "9" * 5000}, "Parameter batch_size must be a whole number."),
        ({"url": "a", "batch_size": "0"}, "Parameter batch_size must be at least 1, not 0."),
        ({"url": "a", "batch_size": "-3"}, "Parameter batch_size must be at least 1, not -3."),
        (
            {"url": "a", "max_batch_delay": -1},
            "Parameter max_batch_delay must be at least 0, not -1.",
        ),
        (
            {"url": "a", "initial_workers": "-1"},
            "Parameter initial_workers must be at least 0, not -1.",
        ),
        (
            {"url": "a", "response_timeout": "0"},
            "Parameter response_timeout must be at least 1, not 0.",
        ),
        (
            {"url": "a", "startup_timeout": "0"},
            "Parameter startup_timeout must be at least 1, not 0.",
        ),
        ({"url": "a", "synchronous": "yes"}, "Parameter synchronous must be true or false."),
        ({"url": "a", "s3_sse_kms": "yes"}, "Parameter s3_sse_kms must be true or false."),
        ({"url": "a", "synchronous": 1}, "Parameter synchronous must be true or false."),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused_by_name(given, message):
    with pytest.raises(InvalidInput) as refusal:
        wire.registration(given)
    assert str(refusal.value) == message


def test_an_empty_url_names_no_archive():
    with pytest.raises(ArchiveNotFound, match=r"^empty url$"):
        wire.registration({"url": ""})


@pytest.mark.parametrize(
    ("given", "version", "expected"),
    [
        ({}, None, Scaling(None, 1, None, False)),
        ({"min_worker": "3"}, None, Scaling(None, 3, None, False)),
        ({"min_worker": "0"}, None, Scaling(None, 0, None, False)),
        ({"max_worker": "4"}, None, Scaling(None, 1, 4, False)),
        ({"min_worker": 2, "max_worker": 2}, "1.0", Scaling("1.0", 2, 2, False)),
        ({"model_version": "2.0"}, None, Scaling("2.0", 1, None, False)),
        ({"model_version": "2.0"}, "1.0", Scaling("1.0", 1, None, False)),
        ({"synchronous": "TRUE"}, None, Scaling(None, 1, None, True)),
        ({"number_gpu": "x", "timeout": "-1"}, None, Scaling(None, 1, None, False)),
    ],
)
def test_a_scaling_has_torchserves_defaults(given, version, expected):
    assert wire.scaling(given, version) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_worker": "0"}, "max_worker cannot be less than min_worker."),
        ({"max_worker": "-1"}, "max_worker cannot be less than min_worker."),
        ({"min_worker": "3", "max_worker": "2"}, "max_worker cannot be less than min_worker."),
        ({"min_worker": "-1"}, "Parameter min_worker must be at least 0, not -1."),
        ({"min_worker": "many"}, "Parameter min_worker must be a whole number."),
        ({"max_worker": "many"}, "Parameter max_worker must be a whole number."),
    ],
)
def test_a_scaling_that_makes_no_sense_is_refused_by_name(given, message):
    with pytest.raises(InvalidInput) as refusal:
        wire.scaling(given, None)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Page(0, 100)),
        ({"limit": "7", "next_page_token": "3"}, Page(3, 7)),
        ({"limit": "0"}, Page(0, 0)),
        ({"limit": "101"}, Page(0, 100)),
    ],
)
def test_a_page_is_never_longer_than_a_hundred(given, expected):
    assert wire.page(given) == expected


@pytest.mark.parametrize("given", [{"limit": "-1"}, {"limit": "x"}, {"next_page_token": "-1"}])
def test_a_page_before_the_beginning_is_refused(given):
    with pytest.raises(InvalidInput, match=next(iter(given))):
        wire.page(given)


# --- any parameters ---

TEXT = st.text("a0-+.é ", max_size=4) | st.sampled_from(["true", "FALSE", "1", "-1", "python"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [
        *("url", "model_name", "handler", "runtime", "batch_size", "max_batch_delay"),
        *("initial_workers", "response_timeout", "startup_timeout", "synchronous"),
        *("min_worker", "max_worker", "limit", "next_page_token"),
    ]
)


@given(st.dictionaries(NAMES, JSON), st.sampled_from([wire.registration, wire.page]))
def test_any_parameters_make_a_wish_or_a_refusal(given, read):
    body = json.dumps(given).encode()
    try:
        wish = read(parameters.parameters({}, "application/json", body))
    except (InvalidInput, ArchiveNotFound):
        return
    if isinstance(wish, Registration):
        assert wish.url
        assert wish.batch_size is None or wish.batch_size >= 1
        assert isinstance(wish.synchronous, bool)
    else:
        assert 0 <= wish.limit <= 100


@given(st.dictionaries(NAMES, JSON))
def test_any_scaling_keeps_its_bounds_in_order(given):
    try:
        wish = wire.scaling(given, None)
    except InvalidInput:
        return
    assert wish.min_workers >= 0
    assert wish.max_workers is None or wish.max_workers >= wish.min_workers


# --- answers ---


def test_a_description_has_torchserves_fields_in_its_order_and_ours_at_the_end():
    status, document = wire.describe_answer((NOOP,))
    assert status == 200
    assert json.dumps(document, indent=2) == DESCRIBED


def test_errors_are_shown_where_there_are_some():
    worker = replace(
        WORKER, state=WorkerState.BACKING_OFF, restarts=3, last_error="no module torch", pid=-1
    )
    version = replace(
        NOOP, state=VersionState.FAILED, workers=(worker,), last_error="gave up", pending_requests=7
    )
    [document] = wire.describe_answer((version,))[1]
    assert document["state"] == "FAILED"
    assert document["lastError"] == "gave up"
    assert list(document)[-2:] == ["state", "lastError"]
    assert document["jobQueueStatus"] == {"remainingCapacity": 93, "pendingRequests": 7}
    shown = document["workers"][0]
    assert (shown["status"], shown["pid"]) == ("UNLOADING", -1)
    assert list(shown.items())[-3:] == [
        ("state", "BACKING_OFF"),
        ("restarts", 3),
        ("lastError", "no module torch"),
    ]


def test_what_is_in_use_is_described_in_place_of_the_defaults():
    settings = Settings(
        min_workers=2,
        max_workers=2,
        max_retry_s=5,
        client_timeout_ms=700,
        parallel_type="pp",
        parallel_level=2,
        device_type="gpu",
        device_ids=(0, 1),
        continuous_batching=True,
        use_job_ticket=True,
        use_venv=True,
        sequence_batching=True,
        sequence_max_idle_ms=500,
        sequence_timeout_ms=800,
        max_sequences=4,
        sequence_queue_size=2,
    )
    [document] = wire.describe_answer((replace(NOOP, settings=settings),))[1]
    names = list(json.loads(DESCRIBED)[0])
    names.insert(names.index("deviceType") + 1, "deviceIds")
    assert list(document) == names
    assert {name: document[name] for name in names[10:24]} == {
        "maxRetryTimeoutInSec": 5,
        "clientTimeoutInMills": 700,
        "parallelType": "pp",
        "parallelLevel": 2,
        "deviceType": "gpu",
        "deviceIds": [0, 1],
        "continuousBatching": True,
        "useJobTicket": True,
        "useVenv": True,
        "stateful": True,
        "sequenceMaxIdleMSec": 500,
        "sequenceTimeoutMSec": 800,
        "maxNumSequence": 4,
        "maxSequenceJobQueueSize": 2,
    }


def test_a_worker_on_a_gpu_makes_the_device_of_its_version():
    usage = "gpuId::1 utilization.gpu::7 % utilization.memory::3 % memory.used::1234 MiB"
    worker = replace(WORKER, gpu_id=1, gpu_usage=usage)
    [document] = wire.describe_answer((replace(NOOP, workers=(worker,)),))[1]
    assert document["deviceType"] == "gpu"
    assert document["workers"][0]["gpu"] is True
    assert document["workers"][0]["gpuUsage"] == usage


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b'{"inputs": ["image"]}', {"inputs": ["image"]}),
        (b"{}", {}),
        (b"[1]", {}),
        (b"cat", {}),
        (b"\xff", {}),
        (b'{"x": NaN}', {}),
        (b'{"x": 1e999}', {}),
        (b"[" * 100_000, {}),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_a_handler_says_of_itself_is_shown_if_it_is_an_object(said, shown):
    [document] = wire.describe_answer((replace(NOOP, customized=said),))[1]
    names = list(document)
    assert document["customizedMetadata"] == shown
    assert names[names.index("jobQueueStatus") + 1] == "customizedMetadata"


@pytest.mark.parametrize("said", [None, b""])
def test_a_handler_that_says_nothing_of_itself_is_shown_with_nothing(said):
    [document] = wire.describe_answer((replace(NOOP, customized=said),))[1]
    assert "customizedMetadata" not in document


@pytest.mark.parametrize(
    ("given", "version", "wanted"),
    [
        ({}, None, False),
        ({"customized": "true"}, None, True),
        ({"customized": "TRUE"}, "1.0", True),
        ({"customized": "false"}, "1.0", False),
        ({"customized": "true"}, "all", False),
    ],
)
def test_a_handler_is_asked_about_one_version_only(given, version, wanted):
    assert wire.wants_customized(given, version) is wanted


def test_a_queue_that_is_more_than_full_has_no_negative_room():
    version = replace(NOOP, pending_requests=101)
    assert wire.describe_answer((version,))[1][0]["jobQueueStatus"]["remainingCapacity"] == 0


@pytest.mark.parametrize(
    ("start", "limit", "names", "token"),
    [
        (0, 2, "ab", "2"),
        (2, 2, "cd", "4"),
        (4, 2, "e", None),
        (0, 5, "abcde", "5"),
        (0, 6, "abcde", None),
        (0, 0, "", "0"),
        (9, 1, "", None),
    ],
)
def test_a_list_is_paged_as_torchserve_pages_it(start, limit, names, token):
    models = [replace(NOOP, ref=ModelRef(n, "1"), url=f"{n}.mar") for n in "abcde"]
    status, document = wire.list_answer(models, Page(start, limit))
    rows = [{"modelName": name, "modelUrl": f"{name}.mar"} for name in names]
    expected = {"models": rows} if token is None else {"nextPageToken": token, "models": rows}
    assert (status, document) == (200, expected)
    assert list(document) == list(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            wire.registered_answer(Registered(REF, 0, True)),
            (
                200,
                'Model "noop" Version: 1.11 registered with 0 initial workers. '
                "Use scale workers API to add workers for the model.",
            ),
        ),
        (
            wire.registered_answer(Registered(REF, 2, True)),
            (200, 'Model "noop" Version: 1.11 registered with 2 initial workers'),
        ),
        (
            wire.registered_answer(Registered(REF, 2, False)),
            (202, "Processing worker updates..."),
        ),
        (
            wire.scaled_answer(Scaled(REF, 3, True, version_given=False)),
            (200, "Workers scaled to 3 for model: noop"),
        ),
        (
            wire.scaled_answer(Scaled(REF, 3, True, version_given=True)),
            (200, "Workers scaled to 3 for model: noop, version: 1.11"),
        ),
        (
            wire.registered_answer(Registered(REF, 2, True, is_partial=True)),
            (206, "Workers scaling in progress..."),
        ),
        (
            wire.scaled_answer(Scaled(REF, 2, True, version_given=False, is_partial=True)),
            (206, "Workers scaling in progress..."),
        ),
        (
            wire.scaled_answer(Scaled(REF, 3, False, version_given=True)),
            (202, "Processing worker updates..."),
        ),
        (
            wire.default_set_answer("m", "v"),
            (200, 'Default version successfully updated for model "m" to "v"'),
        ),
        (wire.unregistered_answer("m"), (200, 'Model "m" unregistered')),
    ],
)
def test_an_outcome_is_told_in_torchserves_words(answer, expected):
    status, text = expected
    assert answer == (status, {"status": text})


DESCRIBED = """\
[
  {
    "modelName": "noop",
    "modelVersion": "1.11",
    "modelUrl": "noop.mar",
    "runtime": "python",
    "minWorkers": 1,
    "maxWorkers": 1,
    "batchSize": 1,
    "maxBatchDelay": 100,
    "responseTimeout": 120,
    "startupTimeout": 120,
    "maxRetryTimeoutInSec": 300,
    "clientTimeoutInMills": 0,
    "parallelType": "",
    "parallelLevel": 0,
    "deviceType": "cpu",
    "continuousBatching": false,
    "useJobTicket": false,
    "useVenv": false,
    "stateful": false,
    "sequenceMaxIdleMSec": 0,
    "sequenceTimeoutMSec": 0,
    "maxNumSequence": 0,
    "maxSequenceJobQueueSize": 0,
    "loadedAtStartup": false,
    "workers": [
      {
        "id": "9000",
        "startTime": "2024-05-01T10:00:00.123Z",
        "status": "READY",
        "memoryUsage": 554663936,
        "pid": 7293,
        "gpu": false,
        "gpuUsage": "N/A",
        "state": "READY",
        "restarts": 0
      }
    ],
    "jobQueueStatus": {
      "remainingCapacity": 100,
      "pendingRequests": 0
    },
    "state": "READY"
  }
]"""
