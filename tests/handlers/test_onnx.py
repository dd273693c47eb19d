import sys

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.onnx import is_session, open_session, run_session
from marserve_handlers.testing import run_handler


def write(path, outputs=("total",), inputs=("a", "b")):
    """A model that adds its inputs, and negates the sum when asked for two outputs."""
    nodes = [helper.make_node("Add", [inputs[0], inputs[-1]], ["total"])]
    if "minus" in outputs:
        nodes.append(helper.make_node("Neg", ["total"], ["minus"]))

    def values(names):
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", 2]) for n in names]

    graph = helper.make_graph(nodes, "sum", values(inputs), values(outputs))
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def test_an_onnx_model_answers_each_row_of_a_batch(tmp_path):
    write(tmp_path / "m.onnx", inputs=("a",))
    manifest = {"model": {"serializedFile": "m.onnx"}}
    results = run_handler(
        "base_handler", [[1.0, 2.0], [3, 4]], model_dir=tmp_path, manifest=manifest
    )
    assert [result.json() for result in results] == [[2.0, 4.0], [6.0, 8.0]]


def test_inputs_come_in_order_or_by_name_and_in_the_declared_type(tmp_path):
    session = open_session(write(tmp_path / "m.onnx"), "cpu")
    assert is_session(session)
    one, two = torch.tensor([[1.0, 1.0]]), torch.tensor([[2, 2]])
    assert run_session(session, one, two).tolist() == [[3.0, 3.0]]
    assert run_session(session, one, b=two).tolist() == [[3.0, 3.0]]


def test_several_outputs_come_by_name(tmp_path):
    session = open_session(write(tmp_path / "m.onnx", ("total", "minus"), ("a",)), "cpu")
    found = run_session(session, torch.ones(1, 2))
    assert {name: value.tolist() for name, value in found.items()} == {
        "total": [[2.0, 2.0]],
        "minus": [[-2.0, -2.0]],
    }


@pytest.mark.parametrize("values", [(torch.ones(1, 3),), (), (torch.ones(2),)])
def test_an_input_that_does_not_fit_is_the_clients_mistake(values, tmp_path):
    session = open_session(write(tmp_path / "m.onnx", inputs=("a",)), "cpu")
    with pytest.raises(PredictionException, match="does not fit the model") as caught:
        run_session(session, *values)
    assert caught.value.error_code == 400


def test_a_file_that_is_no_onnx_model_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"junk")
    with pytest.raises(HandlerLoadFailed, match=r"onnxruntime cannot read m\.onnx"):
        open_session(tmp_path / "m.onnx", "cpu")


def test_a_missing_onnxruntime_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(HandlerLoadFailed, match=r"onnxruntime.*pip install 'marserve\[onnx\]'"):
        open_session(tmp_path / "m.onnx", "cpu")


def test_other_models_are_no_sessions():
    assert not is_session(torch.nn.Identity())
