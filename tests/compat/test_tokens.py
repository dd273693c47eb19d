"""Tokens: who needs which key, how it is refused, how it is renewed."""

from __future__ import annotations

import json
import re
import stat
from dataclasses import replace
from typing import Any

import pytest
from contract import ANY, Case, Differs, error, table
from targets import Target

KEY = re.compile(r"[\w-]{8,}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
REFUSED = error(
    400,
    "InvalidKeyException",
    "Token Authorization failed. Token either incorrect, expired, or not provided correctly",
)
NOT_RENEWED = error(
    400,
    "InvalidKeyException",
    "Token Authentication failed. Token either incorrect, expired, or not provided correctly",
)
CASE_BLIND = "the scheme of Authorization has no case (RFC 9110)"


def started(target: Target, **settings: object) -> Target:
    target.pack("echo", "echo.py")
    settings = {"disable_token_authorization": "false", "load_models": "echo.mar"} | settings
    target.start(**settings)
    keys = entries(target)

    def is_loaded() -> bool:
        return (
            target.call(
                with_keys(
                    Case(
                        "GET /models/echo",
                        200,
                        port="management",
                        sent_headers=bearer("management"),
                    ),
                    keys,
                )
            ).json()[0]["workers"][0]["status"]
            == "READY"
        )

    target.wait_until(is_loaded)
    return target


@pytest.fixture(scope="module")
def served(target: Target) -> Target:
    """Refuses as TorchServe does; that one does not know the setting."""
    return started(target, token_errors_as_400="true")


@pytest.fixture(scope="module")
def ours(make_target: Any) -> Target:
    """Refuses as we do unless told otherwise."""
    return started(make_target())


def entries(target: Target) -> dict[str, Any]:
    return json.loads((target.root / "key_file.json").read_text())


def bearer(name: str) -> dict[str, str]:
    """A header with a key that `with_keys` fills in."""
    return {"authorization": f"Bearer {{{name}}}"}


def with_keys(case: Case, keys: dict[str, Any]) -> Case:
    texts = {name: entry["key"] for name, entry in keys.items()}
    headers = {name: value.format(**texts) for name, value in case.sent_headers.items()}
    return replace(case, sent_headers=headers)


def get(target: str, key: str | None, status: Any = 200, body: Any = ANY, **rest: Any) -> Case:
    """A GET with the key of this name."""
    headers = {} if key is None else bearer(key)
    title = f"GET {target} on {rest.get('port', 'inference')} with {key or 'no'} key"
    return Case(f"GET {target}", status, body, sent_headers=headers, title=title, **rest)


def sent(value: str, status: Any = 200, body: Any = ANY, **rest: Any) -> Case:
    """A GET of /ping with this header."""
    title = f"Authorization: {value}"
    return Case(
        "GET /ping", status, body, sent_headers={"authorization": value}, title=title, **rest
    )


# --- the file --------------------------------------------------------------------------------


def test_the_key_file_lies_in_the_working_directory_for_its_owner_alone(served):
    file = served.root / "key_file.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keys = entries(served)
    assert list(keys) == ["management", "inference", "API"]
    assert [list(entry) for entry in keys.values()] == [
        ["key", "expiration time"],
        ["key", "expiration time"],
        ["key"],
    ]
    assert all(KEY.fullmatch(entry["key"]) for entry in keys.values())
    assert all(MOMENT.fullmatch(keys[name]["expiration time"]) for name in list(keys)[:2])
    assert file.read_text().startswith('{\n  "management": {\n    "key": "')


def test_the_start_says_where_the_keys_are(served):
    logs = (path.read_text() for path in (served.root / "logs").glob("*.log"))
    said = "\n".join([served.output(), *logs])
    assert f"Key file located at {served.root / 'key_file.json'}" in said


# --- who needs which key ---------------------------------------------------------------------


@table(
    get("/ping", "inference", 200, {"status": "Healthy"}),
    get("/ping", None, 400, REFUSED),
    get("/ping", "management", 400, REFUSED),
    get("/ping", "API", 400, REFUSED),
    get("/predictions/echo", "inference"),
    get("/predictions/echo", None, 400, REFUSED),
    get("/v1/models/echo", None, 400, REFUSED),
    get("/models", "management", port="management"),
    get("/models", None, 400, REFUSED, port="management"),
    get("/models", "inference", 400, REFUSED, port="management"),
    get("/models", "API", 400, REFUSED, port="management"),
    get("/nowhere", None, 400, REFUSED),
    get("/nowhere", "inference", 404),
    get("/nowhere", None, 400, REFUSED, port="management"),
    get("/nowhere", "management", 404, port="management"),
    get("/token?type=inference", None, 400, REFUSED),
    get("/token?type=inference", "inference", 404),
    get("/api-description", None),
    get("/api-description", None, port="management"),
    Case("OPTIONS /", 200),
    Case("OPTIONS /", 200, port="management"),
    get("/metrics", None, port="metrics"),
    Case("POST /models?url=gone.mar", 400, REFUSED, port="management"),
    Case("DELETE /models/echo", 400, REFUSED, port="management"),
    Case("PUT /models/echo", 400, REFUSED, port="management"),
    Case("POST /predictions/echo", 400, REFUSED, sent=b"x" * 1000),
)
def test_each_port_wants_its_own_key(served, case):
    served.check(with_keys(case, entries(served)))


@table(
    sent("Bearer   {inference}"),
    sent("{inference}", 400, REFUSED),
    sent("Bearer", 400, REFUSED),
    sent("Bearer {inference} x", 400, REFUSED),
    sent("Basic {inference}", 400, REFUSED),
    sent("Bearer {inference}x", 400, REFUSED),
    sent("bearer {inference}", 200, differs=Differs(CASE_BLIND, status=400, body=REFUSED)),
)
def test_the_header_has_one_form(served, case):
    served.check(with_keys(case, entries(served)))


# --- renewing --------------------------------------------------------------------------------


@table(
    get("/token?type=inference", None, 400, NOT_RENEWED, port="management"),
    get("/token?type=inference", "inference", 400, NOT_RENEWED, port="management"),
    get("/token?type=inference", "management", 400, NOT_RENEWED, port="management"),
    get("/token", "API", 400, NOT_RENEWED, port="management"),
    get("/token?type=API", "API", 400, NOT_RENEWED, port="management"),
)
def test_without_the_api_key_and_a_type_nothing_is_renewed(served, case):
    before = entries(served)
    served.check(with_keys(case, before))
    assert entries(served) == before


@pytest.mark.parametrize(
    ("name", "path", "port"),
    [("inference", "/ping", "inference"), ("management", "/models", "management")],
)
def test_a_renewed_key_takes_the_place_of_the_old_one_at_once(served, name, path, port):
    before = entries(served)
    renewed = get(
        f"/token?type={name}",
        "API",
        200,
        b"\n",
        headers={"content-type": "application/json"},
        port="management",
    )
    served.check(with_keys(renewed, before))
    after = entries(served)
    assert after[name] != before[name]
    assert {k: v for k, v in after.items() if k != name} == {
        k: v for k, v in before.items() if k != name
    }
    served.check(with_keys(get(path, name, 400, REFUSED, port=port), before))
    served.check(with_keys(get(path, name, port=port), after))


def test_a_key_expires(make_target):
    target = make_target()
    target.pack("echo", "echo.py")
    target.start(
        disable_token_authorization="false", token_errors_as_400="true", token_expiration_min=0.05
    )
    keys = entries(target)

    def has_expired() -> bool:
        case = with_keys(get("/ping", "inference"), keys)
        response = target.call(case)
        assert response.status == 200 or response.json() == REFUSED
        return response.status == 400

    target.wait_until(has_expired)
    renewed = get("/token?type=inference", "API", 200, b"\n", port="management")
    target.check(with_keys(renewed, keys))
    target.check(with_keys(get("/ping", "inference"), entries(target)))


def test_without_tokens_there_is_no_key_file_and_no_route(make_target):
    target = make_target()
    target.start(disable_token_authorization="true")
    assert not (target.root / "key_file.json").exists()
    target.check(get("/ping", None))
    target.check(get("/token?type=inference", None, 404, port="management"))


# --- refusals in our own words ---------------------------------------------------------------


def failed(status: int, reason: str, action: str = "Authorization") -> dict[str, Any]:
    return error(status, "InvalidKeyException", f"Token {action} failed. {reason}")


NEEDED = 'The {} key is needed, as "Authorization: Bearer KEY".'


@table(
    get(
        "/ping",
        None,
        401,
        failed(401, NEEDED.format("inference")),
        headers={"www-authenticate": "Bearer"},
    ),
    get(
        "/models",
        None,
        401,
        failed(401, NEEDED.format("management")),
        headers={"www-authenticate": "Bearer"},
        port="management",
    ),
    get(
        "/ping",
        "management",
        403,
        failed(403, "The key is not the inference key."),
        headers={"www-authenticate": None},
    ),
    get(
        "/models",
        "inference",
        403,
        failed(403, "The key is not the management key."),
        port="management",
    ),
    get(
        "/token?type=inference",
        None,
        401,
        failed(401, NEEDED.format("API"), "Authentication"),
        port="management",
    ),
    get(
        "/token?type=x",
        "API",
        403,
        failed(403, "The type must be inference or management.", "Authentication"),
        port="management",
    ),
)
@pytest.mark.ours_only
@pytest.mark.differs(
    "refusals of missing and of wrong tokens",
    "401 with WWW-Authenticate, and 403",
    "400",
    "what HTTP has these statuses for; token_errors_as_400=true gives TorchServe's",
)
def test_refusals_say_what_is_wrong(ours, case):
    ours.check(with_keys(case, entries(ours)))


@pytest.mark.ours_only
@pytest.mark.differs(
    "tokens on ports of this machine alone, when disable_token_authorization is not set",
    "not asked for",
    "asked for",
    "nobody else can connect; ports that others can reach do ask",
)
def test_ports_of_this_machine_ask_for_no_token_unless_told_to(make_target):
    target = make_target()
    target.start(disable_token_authorization="")
    target.check(get("/ping", None))
    target.check(get("/models", None, port="management"))
    keys = entries(target)
    renewed = get("/token?type=inference", "API", 200, b"\n", port="management")
    target.check(with_keys(renewed, keys))
    assert entries(target) != keys


@pytest.mark.ours_only
def test_the_key_file_goes_with_the_server(make_target):
    target = make_target()
    target.start(disable_token_authorization="false")
    assert (target.root / "key_file.json").exists()
    target.end()
    assert not (target.root / "key_file.json").exists()
