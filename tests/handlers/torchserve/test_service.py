import sys

import pytest

from marserve_handlers.errors import HandlerLoadFailed, HandlerNotFound, PredictionException
from marserve_handlers.metrics import Metrics
from marserve_handlers.torchserve.service import ModelLoaderFactory, Service
from marserve_handlers.wire import create_predict_response


def service(handle, **changes):
    settings = {"manifest": {"model": {}}, "gpu": None, "batch_size": 2}
    return Service("m", "/models/m", entry_point=handle, **{**settings, **changes})


def request(request_id, value, **headers):
    return {
        "requestId": request_id.encode(),
        "headers": [{"name": n.encode(), "value": v.encode()} for n, v in headers.items()],
        "parameters": [{"name": "body", "contentType": "text/plain", "value": value}],
    }


BATCH = [request("a", b"1", X="y"), request("b", b"2")]


def test_a_batch_is_taken_apart():
    headers, rows, ids = Service.retrieve_data_for_inference(BATCH)
    assert rows == [{"body": b"1"}, {"body": b"2"}]
    assert ids == {0: "a", 1: "b"}
    assert [one.get_request_properties() for one in headers] == [
        {"body": {"content-type": "text/plain"}, "X": "y"},
        {"body": {"content-type": "text/plain"}},
    ]
    for empty in ([], None):
        with pytest.raises(ValueError, match="no request"):
            Service.retrieve_data_for_inference(empty)


def test_a_batch_is_answered_and_timed():
    metrics = Metrics()
    seen = []

    def handle(data, context):
        seen.append((data, context.get_request_header(0, "X"), context.get_request_id(1)))
        context.set_response_status(404, "no", 1)
        return ["x", "y"]

    served = service(handle, metrics_cache=metrics)
    reply = served.predict(BATCH)
    assert seen == [([{"body": b"1"}, {"body": b"2"}], "y", "b")]
    ids = {0: "a", 1: "b"}
    assert reply == create_predict_response(
        ["x", "y"], ids, "Prediction success", 200, served.context
    )
    [sample] = metrics.drain()
    assert (sample.name, sample.request_ids) == ("PredictionTime", ("a", "b"))
    assert sample.dimensions == {"ModelName": "m", "Level": "Model"}


@pytest.mark.parametrize(
    ("outcome", "message", "code"),
    [
        (PredictionException("gone", 404), "gone", 404),
        (MemoryError(), "Out of resources", 507),
        (RuntimeError("CUDA error"), "Out of resources", 507),
        (KeyError("x"), "Prediction failed", 503),
        (("x", "y"), "Invalid model predict output", 503),
        (["x"], "number of batch response mismatched", 503),
    ],
)
def test_a_failure_is_a_reply(outcome, message, code):
    def handle(data, context):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    reply = service(handle).predict(BATCH)
    assert reply == create_predict_response(None, {0: "a", 1: "b"}, message, code)


def test_a_services_socket_is_the_contexts():
    served = service(print)
    served.set_cl_socket(socket := object())
    assert served.context.cl_socket is socket


@pytest.fixture
def model_dir(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / "MAR-INF" / "MANIFEST.json").write_text(
        '{"model": {"handler": "given.py", "configFile": "c.yaml"}}'
    )
    (tmp_path / "c.yaml").write_text("handler: {word: hello}")
    (tmp_path / "given.py").write_text(
        "def handle(data, context):\n"
        "    if data is None:\n"
        "        context.word = context.model_yaml_config['handler']['word']\n"
        "        return None\n"
        "    return [context.word for row in data]\n"
    )
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("handler", ["given.py", "given:handle", None])
def test_a_model_directory_is_loaded(handler, model_dir):
    loader = ModelLoaderFactory.get_model_loader()
    served = loader.load("m", str(model_dir), handler, None, 2)
    assert served.context.model_name == "m"
    assert b"hello" in served.predict(BATCH)


def test_an_envelope_is_put_around(model_dir):
    loader = ModelLoaderFactory.get_model_loader()
    served = loader.load("m", str(model_dir), "given.py", None, 1, "json")
    body = b'{"instances": [1]}'
    assert b'{"predictions": ["hello"]}' in served.predict([request("a", body)])
    with pytest.raises(HandlerLoadFailed, match="no service envelope"):
        loader.load("m", str(model_dir), "given.py", None, 1, "soap")


def test_what_cannot_be_loaded_is_said(tmp_path):
    with pytest.raises(HandlerNotFound):
        ModelLoaderFactory.get_model_loader().load("m", str(tmp_path))
