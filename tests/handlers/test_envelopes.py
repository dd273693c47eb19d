import asyncio

import numpy as np
import pytest

from marserve_handlers.contract import Context
from marserve_handlers.envelopes import ENVELOPES, BaseEnvelope, JSONEnvelope, wrap
from marserve_handlers.errors import HandlerError, HandlerLoadFailed, PredictionException

TENSOR = {"name": "a", "shape": [2, 1], "datatype": "INT64", "data": [1, 2]}
TEXT = {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["x", "y"]}


def in_batch(count=1, **header):
    context = Context("m", "/d", {"model": {"modelName": "m", "modelVersion": "2.0"}}, count)
    context.begin_batch([f"id{index}" for index in range(count)], [header] * count)
    return context


def run(name, rows, results=None, **header):
    """What the handler saw, and what the clients got."""
    seen = []

    def handle(data, context):
        seen.append(data)
        return data if results is None else results

    return (seen, wrap(name, handle)(rows, in_batch(len(rows), **header)))


# --- body -----------------------------------------------------------------------------------------


def test_body_gives_the_values_and_takes_the_results_as_they_are():
    rows = [{"data": 1, "body": 2}, {"body": b"x"}, {"x": 1}, {"data": "", "body": 3}]
    assert run("body", rows) == ([[1, b"x", None, 3]], [1, b"x", None, 3])


# --- json -----------------------------------------------------------------------------------------


def test_json_joins_the_instances_of_all_requests_and_cuts_the_results_again():
    rows = [
        {"body": {"instances": [1, 2]}},
        {"data": {"instances": []}},
        {"instances": [3]},
        {"body": b'{"instances": [4]}'},
    ]
    seen, answers = run("json", rows, [10, 20, 30, np.float32(0.5)])
    assert seen == [[1, 2, 3, 4]]
    assert answers == [
        '{"predictions": [10, 20]}',
        '{"predictions": []}',
        '{"predictions": [30]}',
        '{"predictions": [0.5]}',
    ]


@pytest.mark.parametrize(
    ("instances", "seen"),
    [
        ([{"b64": "YWI="}, {"b64": "YQ=="}, 3], [b"ab", b"a", 3]),
        ([{"a": {"b64": "YWI="}, "c": 3}, {"a": 1}], [{"a": b"ab", "c": 3}, {"a": 1}]),
        ([1, {"b64": "YWI="}], [1, {"b64": "YWI="}]),
    ],
)
def test_json_undoes_base64_where_the_first_instance_is_an_object(instances, seen):
    assert run("json", [{"body": {"instances": instances}}], [0] * len(seen))[0] == [seen]


@pytest.mark.parametrize("results", [[1], [1, 2, 3], None, "ab", {"a": 1, "b": 2}])
def test_json_needs_one_result_per_instance(results):
    envelope = JSONEnvelope(lambda data, context: results)
    with pytest.raises(HandlerError, match="number of batch response mismatched"):
        envelope.handle([{"body": {"instances": [1]}}, {"body": {"instances": [2, 3, 4, 5]}}], None)


# --- kserve ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"instances": [1]}, b'{"instances": [1]}', '{"instances": [1]}'])
def test_kserve_answers_with_predictions_or_explanations(body):
    assert run("kserve", [{"body": body}], [7]) == ([[1]], [{"predictions": [7]}])
    assert run("kserve", [{"data": body}], [7], explain="True")[1] == [{"explanations": [7]}]


def test_kserve_takes_a_body_without_instances():
    assert run("kserve", [{"body": {"x": 1}}], [7])[0] == [None]


# --- kservev2 -------------------------------------------------------------------------------------


def test_kservev2_gives_tensors_and_takes_tensors():
    rows = [{"body": {"id": "mine", "inputs": [TENSOR, TEXT]}}]
    seen, answers = run("kservev2", rows, [np.array([[1, 2]], dtype=np.uint8), "text", 2.5])
    assert seen == [[{**TENSOR, "data": [[1], [2]]}, {**TEXT, "data": "x"}]]
    outputs = [
        {"name": "a", "datatype": "UINT8", "data": [1, 2], "shape": [2]},
        {"name": "b", "datatype": "BYTES", "data": ["text"], "shape": [1]},
        {"name": "output-2", "datatype": "FP64", "data": [2.5], "shape": [1]},
    ]
    assert answers == [
        {"id": "mine", "model_name": "m", "model_version": "2.0", "outputs": outputs}
    ]
    assert list(answers[0]) == ["id", "model_name", "model_version", "outputs"]
    assert list(outputs[0]) == list(answers[0]["outputs"][0])


@pytest.mark.parametrize("request_id", [None, "", "  ", 3])
def test_kservev2_answers_with_the_servers_id_where_the_client_gave_none(request_id):
    [answer] = run("kservev2", [{"body": {"id": request_id, "inputs": [TENSOR]}}], [1])[1]
    assert answer["id"] == "id0"


@pytest.mark.parametrize(
    ("result", "datatype", "data"),
    [
        (True, "BOOL", [True]),
        ([1, 2], "INT64", [1, 2]),
        (1.5, "FP64", [1.5]),
        (np.float16(1), "FP16", [1.0]),
        (np.float32([1, 2]), "FP32", [1.0, 2.0]),
        (np.int8(1), "INT8", [1]),
        (np.uint64(1), "UINT64", [1]),
        ("é", "BYTES", ["é"]),
        (b"raw", "BYTES", ["raw"]),
        ({"x": 1}, "BYTES", [{"x": 1}]),
        (None, "BYTES", [None]),
        (10**30, "BYTES", [10**30]),
    ],
)
def test_kservev2_says_numpys_type(result, datatype, data):
    [answer] = run("kservev2", [{"body": {"inputs": [TENSOR]}}], [result])[1]
    expected = {"name": "a", "datatype": datatype, "data": data, "shape": [len(data)]}
    assert answer["outputs"] == [expected]


@pytest.mark.parametrize(
    ("results", "says"),
    [([1j], "complex128 has no datatype"), (7, "must return a list"), ("ab", "must return a list")],
)
def test_kservev2_refuses_results_that_are_no_tensors(results, says):
    with pytest.raises(HandlerError, match=says):
        run("kservev2", [{"body": {"inputs": [TENSOR]}}], results)


def test_kservev2_leaves_the_names_of_the_inputs_in_the_context_during_the_call():
    seen = []

    def handle(data, context):
        seen.append((context.input_names, context.input_request_id))
        return [1]

    context = in_batch()
    wrap("kservev2", handle)([{"body": {"id": "q", "inputs": [TENSOR]}}], context)
    assert seen == [(["a"], "q")]
    assert not hasattr(context, "input_names")
    assert not hasattr(context, "input_request_id")


# --- all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("json", {}, 'no list "instances"'),
        ("json", {"instances": 3}, 'no list "instances"'),
        ("json", [1], "a JSON object here, not array"),
        ("json", b"raw", "is not JSON"),
        ("json", b"\xff", "is not JSON"),
        ("json", {"instances": [{"b64": "a"}]}, "is not base64"),
        ("json", {"instances": [{"b64": 3}]}, "is not base64"),
        ("kserve", [1], "not array"),
        ("kserve", b"raw", "is not JSON"),
        ("kserve", None, "not null"),
        ("kservev2", {}, 'no list "inputs"'),
        ("kservev2", b"[" * 100_000, "is not JSON"),
        ("kservev2", {"inputs": [3]}, "Input 0 is not an object"),
        ("kservev2", {"inputs": [{"name": "a"}]}, "Input 0 has no datatype"),
        ("kservev2", {"inputs": [{"datatype": "BYTES", "data": ["x"]}]}, "Input 0 has no name"),
        ("kservev2", {"inputs": [{**TENSOR, "shape": [3]}]}, r"shape \[3\]"),
        ("kservev2", {"inputs": [{**TENSOR, "shape": "x"}]}, "shape 'x'"),
        ("kservev2", {"inputs": [{**TENSOR, "shape": 3}]}, "shape 3"),
        ("kservev2", {"inputs": [{**TEXT, "data": []}]}, "not empty"),
        ("kservev2", {"inputs": [{**TEXT, "data": "x"}]}, "not empty"),
    ],
)
def test_a_body_that_the_envelope_cannot_open_is_the_clients_mistake(name, body, says):
    with pytest.raises(PredictionException, match=says) as caught:
        run(name, [{"body": body}])
    assert caught.value.error_code == 400


@pytest.mark.parametrize("name", ENVELOPES)
def test_a_request_to_describe_goes_past(name):
    assert run(name, [{"body": b""}], ["described"], describe="True")[1] == ["described"]


def test_an_unknown_envelope_is_refused_with_the_known_ones():
    with pytest.raises(HandlerLoadFailed, match="'soap'; use one of body, json, kserve, kservev2"):
        wrap("soap", lambda data, context: data)


def test_requests_of_an_asynchronous_handler_do_not_meet_in_the_envelope():
    arrived = asyncio.Barrier(2)

    async def handle(data, context):
        await arrived.wait()  # both are unpacked before either is packed
        return data

    wrapped = wrap("json", handle)

    async def ask(instances):
        return await wrapped([{"body": {"instances": instances}}], in_batch())

    async def both():
        return await asyncio.gather(ask([1]), ask([2, 3]))

    assert asyncio.run(both()) == [['{"predictions": [1]}'], ['{"predictions": [2, 3]}']]


def test_an_asynchronous_handler_may_describe_itself():
    async def handle(data, context):
        return ["described"]

    described = wrap("json", handle)([{}], in_batch(describe="True"))
    assert asyncio.run(described) == ["described"]


def test_an_envelope_of_ones_own_is_made_of_the_base():
    class Upper(BaseEnvelope):
        def parse_input(self, data):
            return [row["body"].upper() for row in data]

        def format_output(self, data):
            return [f"{self.context.get_request_id()}: {one}" for one in data]

    envelope = Upper(lambda data, context: data)
    assert envelope.handle([{"body": "a"}], in_batch()) == ["id0: A"]
