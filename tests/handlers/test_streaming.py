import pytest

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerError, PredictionException
from marserve_handlers.streaming import send_intermediate_predict_response
from marserve_handlers.wire import create_predict_response


def in_batch(count, takes_pieces=True):
    context = Context("m", "/d", {}, count)
    ids = [f"id{index}" for index in range(count)]
    context.begin_batch(ids, [{} for _ in ids])
    sent = []
    if takes_pieces:
        context.send_intermediate = lambda results, of: sent.append((results, of))
    return context, sent


def send(context, results):
    send_intermediate_predict_response(results, context.request_ids, "ok", 200, context)


def test_a_piece_goes_to_the_worker_and_is_marked():
    context, sent = in_batch(2)
    context.set_response_header(1, "X-A", "b")
    send(context, ["a", {"b": 1}])
    assert sent == [(["a", {"b": 1}], context)]
    assert context.get_response_headers(0) == {"ts_stream_next": "true"}
    assert context.get_response_headers(1) == {"X-A": "b", "ts_stream_next": "true"}


def test_only_the_first_process_of_a_worker_sends(monkeypatch):
    context, sent = in_batch(1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    send(context, ["a"])
    send_intermediate_predict_response(["a"], {0: "x"}, "ok", 200)
    assert sent == []
    monkeypatch.setenv("LOCAL_RANK", "0")
    send(context, ["a"])
    assert len(sent) == 1


@pytest.mark.parametrize("results", [[], ["a"], ["a", "b", "c"]])
def test_there_is_one_piece_per_request(results):
    context, sent = in_batch(2)
    with pytest.raises(HandlerError, match=f"{len(results)} were given for 2"):
        send(context, results)
    assert sent == []


def test_where_nobody_takes_pieces_it_is_said():
    context, _ = in_batch(1, takes_pieces=False)
    with pytest.raises(HandlerError, match="Nobody takes intermediate responses here"):
        send(context, ["a"])
    with pytest.raises(HandlerError, match="needs the context"):
        send_intermediate_predict_response(["a"], {0: "x"}, "ok", 200)


def test_a_piece_with_an_error_code_ends_the_request():
    context, sent = in_batch(1)
    with pytest.raises(PredictionException, match="busy : 503"):
        send_intermediate_predict_response(["a"], context.request_ids, "busy", 503, context)
    assert sent == []


def test_the_socket_takes_responses_and_nothing_else():
    context, sent = in_batch(1)
    response = create_predict_response(["a"], context.request_ids, "ok", 200, context, True)
    context.cl_socket.sendall(response)
    assert sent == [(["a"], context)]
    with pytest.raises(HandlerError, match="call send_intermediate_predict_response instead"):
        context.cl_socket.sendall(bytes(response))


def test_a_socket_of_a_test_gets_torchserves_bytes():
    class Socket:
        received = b""

        def sendall(self, data):
            self.received += data

    context, _ = in_batch(1, takes_pieces=False)
    context.cl_socket = socket = Socket()
    send(context, ["a"])
    assert socket.received == create_predict_response(
        ["a"], {0: "id0"}, "ok", 200, context, ts_stream_next=True
    )
