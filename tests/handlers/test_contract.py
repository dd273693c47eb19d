import copy
import threading
from http import HTTPStatus
from math import inf

import pytest

from marserve_handlers.contract import Context, RequestProcessor
from marserve_handlers.metrics import Metrics


def new_context(**changes):
    settings = {
        "model_name": "m",
        "manifest": {"model": {"modelName": "m"}},
        "model_dir": "/models/m",
        "batch_size": 4,
        "gpu": None,
        "model_yaml_config": {"handler": {"x": 1}},
        "mms_version": "1.2.3",
    }
    return Context(**{**settings, **changes})


def in_batch(*headers):
    context = new_context()
    context.begin_batch([f"id{index}" for index in range(len(headers))], list(headers))
    return context


def test_the_surroundings_are_as_torchserve_users_know_them():
    context = new_context()
    assert context.system_properties == {
        "model_dir": "/models/m",
        "gpu_id": None,
        "batch_size": 4,
        "server_name": "MMS",
        "server_version": "1.2.3",
        "limit_max_image_pixels": True,
    }
    assert context.system_properties is context._system_properties
    assert context.model_yaml_config == {"handler": {"x": 1}}
    assert new_context(model_yaml_config=None).model_yaml_config == {}
    assert (context.request_ids, context.request_processor) == (None, None)
    assert context.stopping_criteria is None
    assert (
        context.header_key_sequence_id,
        context.header_key_sequence_start,
        context.header_key_sequence_end,
    ) == ("ts_request_sequence_id", "ts_request_sequence_start", "ts_request_sequence_end")


def test_a_handler_may_keep_things_in_the_context():
    context = in_batch({})
    context.cache = {"a": 1}
    context.begin_batch(["x"], [{}])
    assert context.cache == {"a": 1}


def test_request_headers_are_found_as_the_client_spelled_them():
    context = in_batch({"X-Dup": "1", "x-dup": "2", "body": {"content-type": ""}}, {})
    assert context.get_request_header(0, "X-Dup") == "1"
    assert context.get_request_header(0, "x-dup") == "2"
    assert context.get_request_header(0, "X-DUP") is None
    assert context.get_request_header(0, "body") == {"content-type": ""}
    assert context.get_all_request_header(1) == {}


def test_requests_have_ids_and_sequences():
    context = in_batch({"ts_request_sequence_id": "s1"}, {})
    assert context.request_ids == {0: "id0", 1: "id1"}
    assert [context.get_request_id(), context.get_request_id(1)] == ["id0", "id1"]
    assert context.get_request_id(2) is None
    assert [context.get_sequence_id(0), context.get_sequence_id(1)] == ["s1", None]


def test_an_untouched_answer_is_a_plain_200():
    context = in_batch({})
    assert context.get_response_status(0) == (200, None)
    assert context.get_response_headers(0) == {}
    assert context.get_response_content_type(0) is None


def test_what_the_handler_sets_belongs_to_one_answer():
    context = in_batch({}, {})
    context.set_response_content_type(1, "text/csv")
    context.set_response_header(1, "X-Model", "é")
    context.set_response_status(404, "Gone fishing", 1)
    assert context.get_response_status(1) == (404, "Gone fishing")
    assert context.get_response_headers(1) == {"content-type": "text/csv", "X-Model": "é"}
    assert context.get_response_content_type(1) == "text/csv"
    assert context.get_response_status(0) == (200, None)
    assert context.get_response_headers(0) == {}


def test_all_answers_can_get_one_status():
    context = in_batch({}, {})
    context.set_all_response_status(HTTPStatus.ACCEPTED, "later")
    assert [context.get_response_status(i) for i in (0, 1)] == [(202, "later"), (202, "later")]
    assert type(context.get_response_status(0)[0]) is int


def test_a_new_batch_forgets_the_last_one():
    context = in_batch({"a": "1"})
    context.set_response_status(500)
    context.begin_batch(["next"], [{}])
    assert context.get_response_status(0) == (200, None)
    assert context.get_request_header(0, "a") is None


@pytest.mark.parametrize(
    ("name", "value", "error", "says"),
    [
        ("X", 3, TypeError, "The response header X is a str, not int: 3"),
        ("X", None, TypeError, "NoneType"),
        ("X", b"b", TypeError, "bytes"),
        (3, "v", TypeError, "name is a str"),
        ("X", "a\r\nSet-Cookie: b", ValueError, "line break"),
        ("X", "a\x00", ValueError, "NUL"),
        ("X", "日本", ValueError, "cannot carry"),
        ("X Y", "v", ValueError, "not a name"),
        ("", "v", ValueError, "not a name"),
        ("X:", "v", ValueError, "not a name"),
    ],
)
def test_a_header_that_http_cannot_carry_is_refused(name, value, error, says):
    context = in_batch({})
    with pytest.raises(error, match=says):
        context.set_response_header(0, name, value)
    assert context.get_response_headers(0) == {}


@pytest.mark.parametrize(
    ("code", "phrase", "error"),
    [
        ("404", "", TypeError),
        (None, "", TypeError),
        (100, "", ValueError),
        (1000, "", ValueError),
        (404, "a\nb", ValueError),
        (404, 7, TypeError),
    ],
)
def test_a_status_that_http_cannot_carry_is_refused(code, phrase, error):
    context = in_batch({})
    with pytest.raises(error):
        context.set_response_status(code, phrase)
    assert context.get_response_status(0) == (200, None)


def test_headers_asked_for_while_loading_are_a_clear_error():
    context = new_context()
    assert context.get_request_id() is None
    with pytest.raises(RuntimeError, match="not in initialize"):
        context.get_request_header(0, "X")


def test_contexts_and_requests_are_compared_by_content():
    one, other = RequestProcessor({"a": "1"}), RequestProcessor({"a": "1"})
    assert one == other
    one.report_status(201)
    assert one != other
    context = in_batch({"a": "1"})
    assert context == copy.copy(context)
    assert context != in_batch({"a": "1"}, {})
    assert context != "context"


def test_a_request_can_be_made_by_hand():
    request = RequestProcessor({"a": "1"})
    request.report_status(418, "teapot")
    request.add_response_property("X-A", "b")
    assert request.get_request_property("a") == "1"
    assert request.get_request_properties() == {"a": "1"}
    assert request.get_response_status_code() == 418
    assert request.get_response_status_phrase() == "teapot"
    assert request.get_response_headers() == {"X-A": "b"}
    assert request.get_response_header("X-A") == "b"


def test_the_first_arguments_may_go_by_position():
    metrics = Metrics(model_name="m")
    context = Context("m", "/d", {"a": 1}, 2, 0, "9", False, metrics, {"b": 2})
    assert context.system_properties["gpu_id"] == 0
    assert context.system_properties["limit_max_image_pixels"] is False
    assert context.metrics is metrics
    assert (context.manifest, context.model_yaml_config) == ({"a": 1}, {"b": 2})


def test_figures_belong_to_the_requests_of_the_batch():
    context = in_batch({}, {})
    context.metrics.add_counter("c", 1, 1)
    context.begin_batch(["next"], [{}])
    context.metrics.add_counter("c", 1)
    assert [one.request_ids for one in context.metrics.drain()] == [("id1",), ("next",)]


def test_torchserves_own_metrics_can_be_fetched():
    assert new_context().metrics.get_metric("HandlerTime", "gauge").unit == "Milliseconds"


def test_a_deep_copy_is_a_context_of_its_own():
    context = in_batch({"a": "1"})
    context.send_intermediate = print
    context.lock, context.cache = threading.Lock(), {"a": []}
    copied = copy.deepcopy(context)
    assert copied.lock is context.lock  # nobody can copy one
    assert copied.send_intermediate is print
    copied.cache["a"].append(1)
    copied.set_response_status(404)
    copied.begin_batch(["other"], [{}])
    assert context.cache == {"a": []}
    assert (context.get_request_id(), context.get_response_status(0)) == ("id0", (200, None))
    copied.metrics.add_counter("c", 1)
    assert [one.request_ids for one in context.metrics.drain()] == [("other",)]


def test_the_socket_exists_once_there_are_requests():
    context = new_context()
    assert not hasattr(context, "cl_socket")
    with pytest.raises(AttributeError, match="not from initialize"):
        _ = context.cl_socket
    context.begin_batch(["x"], [{}])
    assert hasattr(context, "cl_socket")
    context.cl_socket = mine = object()
    assert context.cl_socket is mine


def test_a_handler_knows_how_much_time_is_left_for_each_request(monkeypatch):
    monkeypatch.setattr("marserve_handlers.contract.time.monotonic", lambda: 100.0)
    context = in_batch({}, {}, {})
    assert (context.deadline, context.remaining_s(), context.remaining_s(2)) == (None, inf, inf)

    context.ends_at = 120.0
    assert (context.deadline, context.remaining_s(), context.remaining_s(2)) == (120.0, 20.0, 20.0)

    context.deadlines = (105.0, inf, 99.0)
    assert (context.deadline, context.remaining_s()) == (99.0, 0.0)
    assert [context.remaining_s(index) for index in range(3)] == [5.0, 20.0, 0.0]

    context.begin_batch(["next"], [{}])
    assert (context.deadline, context.remaining_s(0)) == (120.0, 20.0)
