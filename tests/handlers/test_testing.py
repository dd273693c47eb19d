import asyncio
import sys

import pytest

from marserve_handlers import HandlerError, PredictionException
from marserve_handlers.streaming import send_intermediate_predict_response
from marserve_handlers.testing import Result, run_handler


class Describes:
    """Answers what it was given."""

    def initialize(self, context):
        self.word = context.model_yaml_config.get("word", context.manifest["model"]["modelName"])

    def handle(self, data, context):
        for index in range(len(data)):
            context.set_response_header(index, "X-Id", context.get_request_id(index))
            if context.get_request_header(index, "fail"):
                context.set_response_status(409, idx=index)
        return [{"word": self.word, "row": repr(row)} for row in data]


def test_each_kind_of_input_becomes_a_row():
    rows = [{"data": 1}, b"x", bytearray(b"y"), memoryview(b"z"), "text", [1, 2], None]
    assert [result.json()["row"] for result in run_handler(Describes, rows)] == [
        "{'data': 1}",
        "{'body': bytearray(b'x')}",
        "{'body': bytearray(b'y')}",
        "{'body': bytearray(b'z')}",
        "{'body': 'text'}",
        "{'body': [1, 2]}",
        "{'body': None}",
    ]


def test_a_result_has_status_headers_and_body():
    results = run_handler(
        lambda data, context: ["hé"] * len(data or ()), [b""], headers={"any": "thing"}
    )
    assert results == [Result(200, {}, "hé".encode())]
    assert results[0].text == "hé"


def test_headers_may_differ_by_request():
    one, two = run_handler(Describes, [b"", b""], headers=[{"fail": "yes"}, {}])
    assert (one.status, two.status) == (409, 200)
    assert (one.headers, two.headers) == ({"X-Id": "request-0"}, {"X-Id": "request-1"})
    with pytest.raises(ValueError, match="1 entries for 2 requests"):
        run_handler(Describes, [b"", b""], headers=[{}])


def test_manifest_name_and_yaml_reach_the_handler():
    assert run_handler(Describes, [b""], model_name="m")[0].json()["word"] == "m"
    manifest = {"model": {"modelName": "other"}}
    assert run_handler(Describes, [b""], manifest=manifest)[0].json()["word"] == "other"
    yaml = {"word": "yaml"}
    assert run_handler(Describes, [b""], model_yaml_config=yaml)[0].json()["word"] == "yaml"


def test_files_of_two_model_directories_do_not_meet(tmp_path):
    path, modules = list(sys.path), set(sys.modules)
    for word in ("one", "two"):
        model_dir = tmp_path / word
        model_dir.mkdir()
        (model_dir / "helper.py").write_text(f"WORD = {word!r}")
        (model_dir / "handler.py").write_text(
            "import helper\ndef handle(data, context):\n    return [helper.WORD] * len(data or [])"
        )
        [result] = run_handler("handler.py", [b""], model_dir=model_dir)
        assert result.text == word
    assert sys.path == path
    assert not {"handler", "helper"} & (set(sys.modules) - modules)


def test_what_the_handler_raises_reaches_the_test():
    def handle(data, context):
        if data is not None:
            raise PredictionException("no", 400)

    with pytest.raises(PredictionException):
        run_handler(handle, [b""])


@pytest.mark.parametrize(
    ("output", "says"), [(("a",), "not tuple"), ([], "0 results for 1 requests")]
)
def test_a_result_that_the_server_would_refuse_is_refused(output, says):
    with pytest.raises(HandlerError, match=says):
        run_handler(lambda data, context: output, [b""])


def test_the_handler_is_closed_even_when_it_fails():
    closed = []

    class Fails:
        def handle(self, data, context):
            raise RuntimeError("no")

        def close(self):
            closed.append(True)

    with pytest.raises(RuntimeError):
        run_handler(Fails, [b""])
    assert closed == [True]


class Streams:
    def handle(self, data, context):
        context.set_all_response_status(201)
        for piece in ("a", b"b"):
            send_intermediate_predict_response(
                [piece] * len(data), context.request_ids, "", 200, context
            )
        return ["c"] * len(data)


def test_pieces_that_a_handler_streams_are_kept():
    results = run_handler(Streams, [b"", b""])
    assert results == [Result(201, {"ts_stream_next": "true"}, b"c", (b"a", b"b"))] * 2


def test_an_asynchronous_handler_gets_each_request_by_itself_and_all_at_once():
    class Awaits:
        def initialize(self, context):
            context.seen = []

        async def handle(self, data, context):
            context.seen.append(len(data))
            await arrived.wait()
            return [[context.get_request_id(), context.seen, context.get_request_header(0, "n")]]

    arrived = asyncio.Barrier(2)
    results = run_handler(Awaits, [b"", b""], headers=[{"n": "1"}, {"n": "2"}])
    assert [result.json() for result in results] == [
        ["request-0", [1], "1"],
        ["request-1", [1], "2"],
    ]


def test_an_envelope_can_be_put_around():
    for handler in (lambda data, context: data, Later):
        [result] = run_handler(handler, [{"body": {"instances": [1]}}], envelope="json")
        assert result.text == '{"predictions": [1]}'


class Later:
    async def handle(self, data, context):
        return data
