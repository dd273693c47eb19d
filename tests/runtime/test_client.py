import runpy
import socket
import threading
import time
from pathlib import Path

import pytest

from marserve.client import Answer, Client, ServerRefused, ServerUnreachable

FIXTURES = Path(__file__).parents[1] / "fixtures"
canned_http = runpy.run_path(str(FIXTURES / "canned_http.py"))["canned_http"]
STATUS = {"status": "done"}


@pytest.fixture
def canned():
    with canned_http() as canned:
        yield canned


@pytest.fixture
def client(canned):
    return Client(canned.url)


@pytest.mark.parametrize(
    ("call", "request_line"),
    [
        (
            lambda c: c.register("a.mar", {"model_name": None, "initial_workers": 1}),
            "POST /models?url=a.mar&synchronous=true&initial_workers=1",
        ),
        (
            lambda c: c.register("a b&c.mar", {}, wait=False),
            "POST /models?url=a+b%26c.mar&synchronous=false",
        ),
        (lambda c: c.scale("m", min_workers=2), "PUT /models/m?min_worker=2&synchronous=true"),
        (
            lambda c: c.scale("m", "1.0", min_workers=2, max_workers=3, wait=False),
            "PUT /models/m/1.0?min_worker=2&max_worker=3&synchronous=false",
        ),
        (lambda c: c.set_default("m", "2"), "PUT /models/m/2/set-default"),
        (lambda c: c.unregister("m"), "DELETE /models/m"),
        (lambda c: c.unregister("m", "1.0"), "DELETE /models/m/1.0"),
        (lambda c: c.unregister("a/../b?c"), "DELETE /models/a%2F..%2Fb%3Fc"),
    ],
)
def test_each_change_is_one_request_and_gives_its_status(client, canned, call, request_line):
    canned.answer(request_line, 200, STATUS)
    assert call(client) == "done"
    assert canned.asked == [(request_line, None, b"")]


def test_all_pages_of_models_are_read(client, canned):
    first = [{"modelName": f"m{i}", "modelUrl": "x"} for i in range(100)]
    canned.answer("GET /models?limit=100", 200, {"models": first, "nextPageToken": "100"})
    canned.answer("GET /models?limit=100&next_page_token=100", 200, {"models": []})
    assert client.models() == first


@pytest.mark.parametrize(
    ("version", "path"), [(None, "/models/m"), ("all", "/models/m/all"), ("1", "/models/m/1")]
)
def test_a_description_comes_as_it_is(client, canned, version, path):
    canned.answer(f"GET {path}", 200, [{"modelName": "m"}])
    assert client.describe("m", version) == [{"modelName": "m"}]


@pytest.mark.parametrize(
    ("version", "path"), [(None, "/predictions/m"), ("1.0", "/predictions/m/1.0")]
)
def test_a_prediction_carries_bytes_both_ways(client, canned, version, path):
    canned.answer(f"POST {path}", 200, b"\x00\xff")
    assert client.predict("m", version, b"\x01\xfe", "image/png") == Answer(200, None, b"\x00\xff")
    assert canned.asked == [(f"POST {path}", "image/png", b"\x01\xfe")]


def test_a_path_in_front_of_the_api_is_kept(canned):
    canned.answer("DELETE /proxy/models/m", 200, STATUS)
    assert Client(canned.url + "/proxy/").unregister("m") == "done"


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (
            404,
            {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: m"},
            (404, "ModelNotFoundException", "Model not found: m"),
        ),
        (500, {"message": "no type"}, (500, "", "no type")),
        (502, b"  bad gateway\n", (502, "", "bad gateway")),
        (503, b"", (503, "", "HTTP 503 Service Unavailable")),
        (500, [1], (500, "", "[1]")),
        (301, b"", (301, "", "HTTP 301 Moved Permanently")),
    ],
)
def test_a_refusal_carries_code_type_and_message(client, canned, code, body, expected):
    canned.answer("DELETE /models/m", code, body)
    with pytest.raises(ServerRefused) as caught:
        client.unregister("m")
    assert (caught.value.code, caught.value.type, caught.value.message) == expected


def test_a_page_that_is_no_json_is_the_wrong_port(client, canned):
    canned.answer("DELETE /models/m", 200, b"<html>")
    with pytest.raises(ServerUnreachable, match="is this the right port"):
        client.unregister("m")


def test_nobody_there_names_the_address_and_the_remedy():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ServerUnreachable) as caught:
            Client(url).unregister("m")
    assert caught.value.message == (
        f"No server answers at {url} (connection refused). "
        "`marserve status` tells whether one runs; `marserve start` starts one."
    )


def test_an_answer_that_does_not_come_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(ServerUnreachable, match=r"has not answered within 0\.2 s"):
            Client(url, answer_timeout_s=0.2).unregister("m")
        assert time.monotonic() - began < 3  # less than the limit for connecting


def test_a_connection_that_breaks_off_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(ServerUnreachable, match="broke off the call"):
            Client(f"http://127.0.0.1:{server.getsockname()[1]}").unregister("m")
        thread.join()


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8081", "ftp://127.0.0.1", "http://", "http://h:x", "http://h:99999"]
)
def test_other_addresses_are_refused(url):
    with pytest.raises(ValueError, match=r"is not an address like|has no usable port"):
        Client(url)


def test_a_prediction_that_was_refused_with_a_time_is_tried_again(client, canned, monkeypatch):
    """F23: three attempts, none before the server said, and only for 503."""
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    canned.headers["Retry-After"] = "2"
    canned.answer("POST /predictions/m", 503, {"type": "Busy", "message": "full"})
    with pytest.raises(ServerRefused, match="full"):
        client.predict("m", None, b"x", None)
    assert len(canned.asked) == 3
    assert [2.0 <= pause <= 2.4 for pause in pauses] == [True, True]


@pytest.mark.parametrize(
    ("code", "headers"), [(503, {}), (500, {"Retry-After": "1"}), (504, {"Retry-After": "1"})]
)
def test_what_may_have_been_served_or_has_no_time_is_not(client, canned, code, headers):
    canned.headers |= headers
    canned.answer("POST /predictions/m", code, {"type": "T", "message": "no"})
    with pytest.raises(ServerRefused):
        client.predict("m", None, b"x", None)
    assert len(canned.asked) == 1


def test_a_change_is_never_sent_twice(client, canned):
    canned.headers["Retry-After"] = "1"
    canned.answer("DELETE /models/m", 503, {"type": "T", "message": "no"})
    with pytest.raises(ServerRefused):
        client.unregister("m")
    assert len(canned.asked) == 1


def test_a_server_that_is_not_there_yet_is_asked_again(monkeypatch):
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServerUnreachable):
        Client(f"http://127.0.0.1:{port}").predict("m", None, b"x", None)
    assert len(pauses) == 2
