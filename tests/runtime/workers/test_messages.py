"""Every message comes out of msgpack as it went in; anything else is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.workers import messages as m

LOAD = m.Load("resnet", "1.0", "/models/x", "h.py:f", 8, None, True, True, 6553500, "config.yaml")
BATCH = m.Batch(
    7,
    [
        m.BatchItem(
            "id-1", [("Host", "h"), ("x", "\xe9")], [m.BatchPart("body", "", 3)], False, ""
        ),
        m.BatchItem("id-2", [], [], True, "a/b c"),
    ],
)
RESULT = m.Result(
    7,
    0.25,
    [3, 0],
    {
        0: m.Extra(201, "Made", [("content-type", "text/plain")], None),
        1: m.Extra(503, None, [], m.Failure(m.FailureKind.RAISED, "Prediction failed", 418)),
    },
    [m.Metric("HandlerTime", 1.5, "ms", "gauge", {"ModelName": "resnet", "Level": "Model"})],
)


@pytest.mark.parametrize(
    "message",
    [
        LOAD,
        BATCH,
        RESULT,
        m.Result(1, 0.0, [], {}, []),
        m.Loaded(0.5),
        m.LoadFailed("no module named x"),
    ],
)
def test_a_channel_message_survives_the_way(message):
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type(message)) == message


@pytest.mark.parametrize("message", [m.Spawn("W-1"), m.Kill(4711)])
def test_a_message_to_a_zygote_survives_the_way(message):
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=m.ToZygote)

    assert decoded == message
    assert type(decoded) is type(message)


@pytest.mark.parametrize(
    "message",
    [
        m.ZygoteReady(1.25, ["torch: No module named 'torch'"]),
        m.Spawned("W-1", 4711),
        m.Exited(4711, 9),
    ],
)
def test_a_message_from_a_zygote_survives_the_way(message):
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=m.FromZygote)

    assert decoded == message
    assert type(decoded) is type(message)


def test_a_batch_may_be_written_as_plain_tuples():
    # the hot path does so: it saves an object per request and per part
    written = (
        7,
        [
            ("id-1", [("Host", "h"), ("x", "\xe9")], [("body", "", 3)], False, ""),
            ("id-2", [], [], True, "a/b c"),
        ],
    )

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(written), type=m.Batch) == BATCH


@pytest.mark.parametrize(
    ("wrong", "type_"),
    [
        ((7,), m.Batch),
        (("seven", []), m.Batch),
        ((1, 0.0, [-1.5], {}, []), m.Result),
        ((1, 0.0, [3], {"0": None}, []), m.Result),
        ((99, "unknown kind"), m.Failure),
        ((1, None), m.Failure),
        (("half a second",), m.Loaded),
        ({}, m.Loaded),
        ((9, "W-1"), m.ToZygote),
        ((3, "W-1", 1), m.ToZygote),
        ((1, "W-1"), m.FromZygote),
    ],
)
def test_a_message_of_another_form_is_refused(wrong, type_):
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(wrong), type=type_)


@given(st.binary(max_size=100))
def test_random_bytes_are_a_message_or_a_decode_error(data):
    for type_ in (m.Batch, m.Result, m.LoadFailed, m.FromZygote):
        try:
            message = msgspec.msgpack.decode(data, type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        assert isinstance(message, type_)


def test_kinds_have_numbers_that_never_change():
    assert {kind.name: int(kind) for kind in m.FrameKind} == {
        "LOAD": 1,
        "BATCH": 2,
        "STOP": 3,
        "THREADS": 4,
        "PING": 5,
        "LOADED": 11,
        "LOAD_FAILED": 12,
        "RESULT": 13,
        "PIECE": 14,
        "PONG": 15,
    }
    assert {kind.name: int(kind) for kind in m.FailureKind} == {
        "RAISED": 1,
        "BAD_OUTPUT": 2,
        "OUT_OF_MEMORY": 3,
        "TOO_LARGE": 4,
    }
