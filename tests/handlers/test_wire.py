import struct

from marserve_handlers.contract import Context
from marserve_handlers.wire import (
    create_load_model_response,
    create_predict_response,
    encode_response_headers,
)

END = struct.pack("!i", -1)
NO_HEADERS = struct.pack("!i", 0)


def sized(*texts):
    return b"".join(struct.pack("!i", len(text)) + text for text in texts)


def number(value):
    return struct.pack("!i", value)


def item(request_id, status, body, content_type=b"", phrase=b"", headers=NO_HEADERS):
    return sized(request_id, content_type) + number(status) + sized(phrase) + headers + sized(body)


def test_a_reply_holds_one_answer_per_request():
    reply = create_predict_response([b"ab", {"a": 1}], {0: "id0", 1: "id1"}, "fine", 200)
    assert reply == (
        number(200)
        + sized(b"fine")
        + item(b"id0", 200, b"ab")
        + item(b"id1", 200, b'{\n  "a": 1\n}')
        + END
    )


def test_statuses_and_headers_are_the_contexts():
    context = Context("m", "/d", {}, 1)
    context.begin_batch(["id0"], [{}])
    context.set_response_content_type(0, "text/csv")
    context.set_response_status(404, "no", 0)
    for more, value in ((True, b"true"), (False, b"false")):
        reply = create_predict_response(["é"], {0: "id0"}, "", 200, context, more)
        headers = number(2) + sized(b"content-type", b"text/csv", b"ts_stream_next", value)
        body = "é".encode()
        assert reply == (
            number(200) + sized(b"") + item(b"id0", 404, body, b"text/csv", b"no", headers) + END
        )


def test_a_failure_is_every_requests():
    assert create_predict_response(None, {0: "a", 1: "b"}, "Prediction failed", 503) == (
        number(503)
        + sized(b"Prediction failed")
        + item(b"a", 503, b"error")
        + item(b"b", 503, b"error")
        + END
    )


def test_a_result_that_has_no_bytes_fails_the_batch():
    reply = create_predict_response([{1}], {0: "a"}, "fine", 200)
    assert reply[:4] == number(503)
    assert b"Unsupported model output data type." in reply


def test_the_reply_to_a_load_and_headers_alone():
    assert create_load_model_response(200, "ok") == number(200) + sized(b"ok") + END
    assert encode_response_headers({"a": "b"}) == number(1) + sized(b"a", b"b")
