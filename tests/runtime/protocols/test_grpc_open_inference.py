"""Tensors to the JSON that a handler gets, its JSON to tensors."""

import json
import math
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import InvalidInput
from marserve.protocols.grpc_open_inference import MAX_RANK, body, response
from marserve.protocols.grpc_status import CallRefused, Code
from marserve.protocols.pb.open_inference_grpc_pb2 import (
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
)

Input = ModelInferRequest.InferInputTensor


def asked(*inputs, **given):
    return ModelInferRequest(model_name="m", id="42", inputs=inputs, **given)


def tensor(datatype, shape, **contents):
    given = {"contents": InferTensorContents(**contents)} if contents else {}
    return Input(name="t", datatype=datatype, shape=shape, **given)


def data_of(request):
    (one,) = json.loads(body(request))["inputs"]
    return one["data"]


# --- requests ---


def test_a_request_has_torchserves_members():
    request = asked(tensor("INT64", [2, 1], int64_contents=[1, -2]))
    assert json.loads(body(request)) == {
        "id": "42",
        "model_name": "m",
        "inputs": [{"name": "t", "shape": [2, 1], "datatype": "INT64", "data": [1, -2]}],
    }


def test_parameters_and_wanted_outputs_are_there_if_they_were_given():
    request = asked(
        Input(name="t", datatype="BOOL", parameters={"p": InferParameter(bool_param=True)}),
        parameters={"n": InferParameter(int64_param=3), "s": InferParameter(string_param="x")},
        outputs=[ModelInferRequest.InferRequestedOutputTensor(name="o")],
    )
    document = json.loads(body(request))
    assert document["parameters"] == {"n": 3, "s": "x"}
    assert document["inputs"][0]["parameters"] == {"p": True}
    assert document["outputs"] == [{"name": "o"}]


@pytest.mark.parametrize(
    ("one", "data"),
    [
        (tensor("BOOL", [2], bool_contents=[True, False]), [True, False]),
        (tensor("UINT8", [1], uint_contents=[255]), [255]),
        (tensor("UINT64", [1], uint64_contents=[2**64 - 1]), [2**64 - 1]),
        (tensor("FP32", [1], fp32_contents=[0.5]), [0.5]),
        (tensor("FP64", [1], fp64_contents=[0.1]), [0.1]),
        (tensor("BYTES", [2], bytes_contents=[b"ab", b"\xff"]), ["YWI=", "/w=="]),
        (tensor("FP16", [1], fp32_contents=[0.5]), [0.5]),
        (tensor("INT32", [0]), []),
    ],
)
def test_elements_come_from_the_field_of_their_datatype(one, data):
    assert data_of(asked(one)) == data


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "data"),
    [
        ("INT32", [2], struct.pack("<2i", 1, -1), [1, -1]),
        ("FP16", [2], struct.pack("<2e", 0.5, -2.0), [0.5, -2.0]),
        ("BF16", [1], b"\x80\x3f", [1.0]),
        ("BYTES", [2], b"\2\0\0\0ab\0\0\0\0", ["YWI=", ""]),
        ("FP32", [], struct.pack("<f", 0.5), [0.5]),
    ],
)
def test_raw_elements_are_decoded(datatype, shape, raw, data):
    assert data_of(asked(tensor(datatype, shape), raw_input_contents=[raw])) == data


def test_numbers_that_json_has_no_word_for_reach_the_handler_as_such():
    (not_a_number, endless) = data_of(
        asked(tensor("FP32", [2], fp32_contents=[math.nan, -math.inf]))
    )
    assert math.isnan(not_a_number)
    assert endless == -math.inf


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (asked(tensor("FP8", [1])), 'The datatype "FP8" of the input t is not known'),
        (asked(tensor("INT32", [1], fp32_contents=[1])), "The input t has elements in fp32_conte"),
        (asked(tensor("INT32", [1]), raw_input_contents=[b"\0"]), "no whole number of INT32"),
        (
            asked(tensor("INT32", [2]), raw_input_contents=[b"\0\0\0\0"]),
            "The input t has 1 elements, but the shape \\[2\\].",
        ),
        (
            asked(tensor("INT32", [1], int_contents=[1]), raw_input_contents=[b"\0\0\0\0"]),
            "has contents besides raw_input_contents",
        ),
        (
            asked(tensor("INT32", [1]), raw_input_contents=[b"", b""]),
            "raw_input_contents has 2 entries for 1 inputs",
        ),
    ],
)
def test_tensors_that_make_no_sense_are_the_clients_mistake(request_, message):
    with pytest.raises(InvalidInput, match=message):
        body(request_)


# --- answers ---


def replied(*outputs, **members):
    return json.dumps({"outputs": list(outputs), **members}).encode()


def output(datatype, data, shape=(1,), **members):
    return {"name": "o", "datatype": datatype, "shape": list(shape), "data": data, **members}


def test_an_answer_has_the_replys_members_or_else_the_requests():
    request = asked(model_version="2.0")
    answer = response(request, replied(id="7", model_name="n", model_version="3"))
    assert (answer.id, answer.model_name, answer.model_version) == ("7", "n", "3")
    answer = response(request, replied(id=7))
    assert (answer.id, answer.model_name, answer.model_version) == ("42", "m", "2.0")


@pytest.mark.parametrize(
    ("datatype", "data", "field", "elements"),
    [
        ("BOOL", [True], "bool_contents", [True]),
        ("INT8", [-128, 127], "int_contents", [-128, 127]),
        ("INT32", [[1, 2], [3, 4]], "int_contents", [1, 2, 3, 4]),
        ("UINT64", [2**64 - 1], "uint64_contents", [2**64 - 1]),
        ("FP32", [0.5, 1], "fp32_contents", [0.5, 1.0]),
        ("FP64", [0.1], "fp64_contents", [0.1]),
        ("BYTES", ["ab", 1, {"a": "ü"}], "bytes_contents", [b'"ab"', b"1", '{"a": "ü"}'.encode()]),
    ],
)
def test_the_data_of_a_reply_is_in_the_field_of_its_datatype(datatype, data, field, elements):
    answer = response(asked(), replied(output(datatype, data, (len(data),))))
    (one,) = answer.outputs
    assert (one.name, one.datatype, list(one.shape)) == ("o", datatype, [len(data)])
    assert list(getattr(one.contents, field)) == elements
    assert not answer.raw_output_contents


def test_data_that_has_no_field_makes_the_whole_answer_raw():
    answer = response(asked(), replied(output("FP16", [0.5]), output("INT32", [1])))
    assert list(answer.raw_output_contents) == [struct.pack("<e", 0.5), struct.pack("<i", 1)]
    assert not any(one.HasField("contents") for one in answer.outputs)


def test_parameters_that_the_protocol_can_carry_come_along():
    parameters = {"b": True, "i": 3, "s": "x", "f": 0.5, "n": None, "big": 2**80}
    answer = response(asked(), replied(output("BOOL", [], parameters=parameters), parameters={}))
    got = {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in answer.outputs[0].parameters.items()
    }
    assert got == {"b": True, "i": 3, "s": "x"}


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"", "it is not JSON"),
        (b"\xff", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"[]", "it is not a JSON object"),
        (b"{}", 'it has no list "outputs" of objects'),
        (b'{"outputs": [1]}', 'it has no list "outputs" of objects'),
        (replied({"datatype": "BOOL"}), "an output has no name"),
        (replied(output("float32", [1])), "the datatype 'float32' of the output o"),
        (replied(output(["INT32"], [1])), "the datatype ['INT32'] of the output o"),
        (replied(output("INT32", ["a"])), "the output o has an element that is no INT32"),
        (replied(output("INT32", [1], shape=["a"])), "the output o "),
        (replied({"name": "o", "datatype": "INT32", "shape": 1, "data": [1]}), "the output o "),
    ],
)
def test_a_reply_that_is_not_the_protocols_is_an_internal_error_with_a_sentence(reply, why):
    with pytest.raises(CallRefused) as raised:
        response(asked(), reply)
    assert raised.value.failure.code is Code.INTERNAL
    assert why in raised.value.failure.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "name": st.text(st.characters(), max_size=3) | JSON,
                "datatype": st.sampled_from(["INT8", "FP16", "BF16", "FP32", "BYTES", "BOOL"]),
                "shape": st.lists(st.integers(), max_size=3) | JSON,
                "data": JSON,
                "parameters": JSON,
            },
        )
    ),
    st.dictionaries(st.sampled_from(["id", "model_name", "parameters"]), JSON),
)
def test_any_reply_makes_an_answer_or_is_refused(outputs, members):
    try:
        answer = response(asked(), replied(*outputs, **members))
    except CallRefused:
        return
    assert len(answer.outputs) == len(outputs)
    answer.SerializeToString()


# --- bombs (SEC-13) -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datatype", "shape", "raw"),
    [
        ("FP32", [2**62] * 600_000, b"abcd"),  # multiplied, that takes longer than anybody waits
        ("FP32", [1] * (MAX_RANK + 1), b"abcd"),
        ("BOOL", [2**62] * MAX_RANK, bytes(1_000_000)),
        ("FP32", [-1, -1], b"abcd"),
        ("BYTES", [-1, -1], b"\0\0\0\0"),
    ],
)
def test_a_shape_that_is_a_bomb_is_refused_at_once_and_in_few_words(datatype, shape, raw):
    request = ModelInferRequest(model_name="m", raw_input_contents=[raw])
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    began = time.process_time()

    with pytest.raises(InvalidInput) as refused:
        body(request)

    assert time.process_time() - began < 0.5
    assert len(str(refused.value)) < 2000
