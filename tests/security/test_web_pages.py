"""SEC-12: a web page cannot use a control port through its visitor's browser.

Requests as browsers send them for pages of strangers: other origins, forms, images, and names of
theirs that they have pointed at this machine. None is answered, none changes anything.
"""

from __future__ import annotations

import socket

import pytest

FOREIGN = "https://evil.example"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PLAIN = {"Content-Type": "text/plain"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
CHANGES = (
    ("POST", "/models?url=echo.mar&model_name=stolen"),
    ("PUT", "/models/echo?min_worker=0"),
    ("PUT", "/models/echo/1.0/set-default"),
    ("DELETE", "/models/echo"),
    ("POST", "/workflows?url=flow.war"),
    ("GET", "/models"),
    ("GET", "/models/echo"),
    ("GET", "/api-description"),
)
SHAPES = {
    "a page of another site": {"Origin": FOREIGN},
    "a sandboxed frame": {"Origin": "null"},
    "another port of this machine": {"Origin": "http://127.0.0.1:3000"},
    "a form": {"Origin": FOREIGN, **FORM},
    "a plain form": {"Origin": FOREIGN, **PLAIN},
    "a form with files": {"Origin": FOREIGN, **MULTIPART},
    "an image": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a form of a browser that hides the origin": {"Sec-Fetch-Site": "cross-site", **FORM},
    "a name that was pointed here": {"Host": "evil.example:8081"},
    "the same, and the page says so": {
        "Host": "evil.example:8081",
        "Origin": "http://evil.example:8081",
        "Sec-Fetch-Site": "same-origin",
    },
    "a name below that of this machine": {"Host": "localhost.evil.example"},
    "an address that is part of a name": {"Host": "127.0.0.1.evil.example:8081"},
    "two hosts": {"Host": "127.0.0.1:8081@evil.example"},
    "a preflight": {"Origin": FOREIGN, "Access-Control-Request-Method": "PUT"},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("method", "target"), CHANGES)
def test_a_page_of_a_stranger_is_refused_and_nothing_changes(open_server, method, target, shape):
    before = open_server.manage("GET", "/models").body
    reply = open_server.call(method, "management", target, b"x=y", SHAPES[shape])
    # what is no host at all is no request either
    assert reply.status == (400 if shape == "two hosts" else 403), reply
    assert open_server.manage("GET", "/models").body == before


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:{}", "localhost:{}", "LOCALHOST", "[::1]:{}", "marserve:{}", "10.1.2.3", ""],
)
def test_whoever_calls_by_a_name_that_is_nobodys_is_served(open_server, host):
    _, port = open_server.address("management")
    reply = open_server.call("GET", "management", "/models", headers={"Host": host.format(port)})
    assert reply.status == 200


def test_curl_needs_no_headers_at_all(open_server):
    with open_server.raw("management") as sock:
        sock.sendall(b"GET /models HTTP/1.0\r\n\r\n")
        assert sock.recv(64).startswith(b"HTTP/1.0 200 ")


def test_the_key_makes_the_host_irrelevant_because_no_browser_sends_it(keyed_server, key_of):
    headers = {"Host": "models.example.com", "Authorization": f"Bearer {key_of('management')}"}
    assert keyed_server.call("GET", "management", "/models", headers=headers).status == 200
    foreign = headers | {"Origin": FOREIGN}
    assert keyed_server.call("GET", "management", "/models", headers=foreign).status == 403


@pytest.mark.parametrize("shape", ["an image", "a page of another site", "two hosts"])
def test_nor_does_a_page_read_the_metrics(open_server, shape):
    status = open_server.call("GET", "metrics", "/metrics", headers=SHAPES[shape]).status
    assert status == (400 if shape == "two hosts" else 403)


def test_a_refusal_says_what_would_be_let_in(open_server):
    for shape, words in (
        ("a form", "the origin that cors_allowed_origin names"),
        ("a name that was pointed here", "list the name of the Host header in allowed_hosts"),
    ):
        document = open_server.call("GET", "management", "/models", headers=SHAPES[shape]).json()
        assert (document["code"], document["type"]) == (403, "ForbiddenException")
        assert words in document["message"]


def test_on_a_shared_port_management_is_guarded_the_same_way(server):
    server.pack("echo", "echo.py")
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    shared = f"http://127.0.0.1:{number}"
    server.start(
        load_models="echo.mar",
        allowed_hosts="models.example.com",
        **dict.fromkeys(("inference_address", "management_address", "metrics_address"), shared),
    )
    for headers in (SHAPES["a form"], SHAPES["a name that was pointed here"]):
        assert server.call("DELETE", "management", "/models/echo", headers=headers).status == 403
        assert server.call("GET", "metrics", "/metrics", headers=headers).status == 403
    named = {"Host": f"models.example.com:{number}"}
    assert server.call("GET", "management", "/models/echo", headers=named).status == 200
    assert server.predict("echo").status == 200
