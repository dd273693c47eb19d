"""Who may use the management port: tokens, and pages of other sites."""

import json

import pytest
from management_port import Port, running_loop

from marserve import errors
from marserve.protocols.cors import Cors

PAGE = "https://console.example"


class Keys:
    """Opens for `Bearer right`; keeps what was renewed."""

    def __init__(self):
        self.renewed = []

    def authorize(self, authorization):
        if authorization is None:
            raise errors.TokenMissing("A token is needed.")
        if authorization != "Bearer right":
            raise errors.TokenRefused("The token is wrong.")

    def renew(self, kind, authorization):
        if authorization != "Bearer api" or kind not in ("management", "inference"):
            raise errors.TokenRefused("The key is not the API key.")
        self.renewed.append(kind)


@pytest.fixture(scope="module")
def loop():
    with running_loop() as loop:
        yield loop


@pytest.fixture(scope="module")
def keys():
    return Keys()


@pytest.fixture(scope="module")
def guarded(loop, keys):
    port = Port(loop, authorize=keys.authorize, renew=keys.renew)
    yield port
    port.server.stop(5)


@pytest.fixture(scope="module")
def shown(loop):
    """A port that pages of one other site may use."""
    cors = Cors(origin=PAGE, methods="GET, PUT", headers="X-Any")
    port = Port(loop, cors=cors)
    yield port
    port.server.stop(5)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/models"),
        ("HEAD", "/models"),
        ("POST", "/models?url=m.mar"),
        ("POST", "/models?url=/token"),
        ("DELETE", "/models/b"),
        ("GET", "/nowhere"),
        ("GET", "/tokenx?type=management"),
        ("GET", "/models/token"),
        ("OPTIONS", "/models/a"),
    ],
)
def test_without_the_key_nothing_is_told_not_even_what_there_is(guarded, method, target):
    guarded.plane.calls.clear()
    assert guarded.ask(method, target)[0] == 401
    refused = guarded.ask(method, target, headers={"Authorization": "Bearer wrong"})
    assert refused[0] == 403
    assert guarded.plane.calls == []


def test_a_refusal_says_why(guarded):
    _, _, body = guarded.ask("GET", "/models")
    assert json.loads(body) == {
        "code": 401,
        "type": "InvalidKeyException",
        "message": "A token is needed.",
    }


def test_with_the_key_all_is_as_ever(guarded):
    headers = {"Authorization": "Bearer right"}
    assert guarded.ask("GET", "/models", headers=headers)[0] == 200
    assert guarded.ask("GET", "/nowhere", headers=headers)[0] == 404


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("OPTIONS", "/", 200), ("GET", "/", 405), ("GET", "/api-description", 200)],
)
def test_the_description_of_the_api_is_for_everybody(guarded, method, target, status):
    got, _, body = guarded.ask(method, target)
    assert got == status
    if status == 200:
        assert "/token" in json.loads(body)["paths"]


def test_a_key_is_renewed_for_the_bearer_of_the_api_key(guarded, keys):
    status, headers, body = guarded.ask(
        "GET", "/token?type=inference", headers={"Authorization": "Bearer api"}
    )
    assert (status, body) == (200, b"\n")
    assert headers["content-type"] == "application/json"
    assert keys.renewed == ["inference"]


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("/token?type=management", "Bearer right"),
        ("/token?type=management", "Bearer wrong"),
        ("/token?type=API", "Bearer api"),
        ("/token", "Bearer api"),
    ],
)
def test_no_key_is_renewed_for_anybody_else(guarded, keys, target, key):
    keys.renewed.clear()
    status, _, body = guarded.ask("GET", target, headers={"Authorization": key})
    assert (status, json.loads(body)["type"]) == (403, "InvalidKeyException")
    assert keys.renewed == []


def test_a_page_that_the_operator_allows_may_call_and_read(shown):
    for target in ("/models", "/nowhere"):
        _, headers, _ = shown.ask("GET", target, headers={"Origin": PAGE})
        assert headers["access-control-allow-origin"] == PAGE
        assert headers["access-control-allow-methods"] == "GET, PUT"
        assert headers["access-control-allow-headers"] == "X-Any"
    assert shown.ask("PUT", "/models/a", headers={"Origin": PAGE})[0] == 202


def test_a_browser_that_asks_first_is_told_what_is_allowed(shown):
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}
    status, headers, body = shown.ask("OPTIONS", "/models", headers=asked)
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-methods"] == "GET, PUT"
    assert "content-type" not in headers


def test_a_page_that_is_not_allowed_stays_out(shown):
    foreign = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
    assert shown.ask("GET", "/models", headers=foreign)[0] == 403
    assert shown.ask("OPTIONS", "/models", headers=foreign)[0] == 403


def test_without_cors_no_such_header_is_sent(guarded):
    _, headers, _ = guarded.ask("GET", "/models")
    assert not any(name.lower().startswith("access-control") for name in headers)


def test_a_browser_gets_past_the_token_only_to_ask(loop, keys):
    port = Port(loop, authorize=keys.authorize, cors=Cors(origin=PAGE))
    try:
        asked = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}
        assert port.ask("OPTIONS", "/models/a", headers=asked)[0] == 204
        assert port.ask("PUT", "/models/a", headers={"Origin": PAGE})[0] == 401
        assert port.plane.calls == []
    finally:
        port.server.stop(5)
