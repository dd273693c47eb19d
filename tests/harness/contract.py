"""Contract tests: what is sent, what must come back, as data; checked against any server.

A test module in tests/compat/ is a fixture that starts a server, and tables of cases:

    import pytest
    from contract import ANY, Case, Differs, error, table

    @pytest.fixture(scope="module")
    def served(target):                       # `target`: one server per module, not started yet
        target.pack("echo", "echo.py")        # a handler of tests/fixtures/handlers, or any path
        target.archive("odd.mar", {"MAR-INF/MANIFEST.json": "{}"})     # any members, as they are
        return target.start(load_models="echo.mar", job_queue_size=3)  # keys of config.properties

    @table(
        Case("GET /ping", 200, {"status": "Healthy"}, headers={"content-type": "application/json"}),
        Case("GET /models/m", 404, error(404, "ModelNotFoundException", "Model not found: m"),
             port="management"),
        Case("POST /predictions/echo", 200, sent=b"x", content_type="text/plain"),
        Case("GET /x", 501, differs=Differs("says what is meant", status=404)),
    )
    def test_answers_are_torchserves(served, case):
        served.check(case)

`pytest tests/compat` asks our server; `--torchserve DIR` (an environment that holds TorchServe)
asks that one the same, and where a case has `differs` expects what `differs` says. A row that
TorchServe answers differently from what stands there fails: both sides are checked, never assumed.
`--differences FILE` writes all `differs` as a Markdown table (works with --collect-only).

Expected values: a plain value must be equal, JSON objects with their keys in this order. In the
place of any value, at any depth: `ANY`; a compiled regex (the whole text must match); a type
(`int`: any of that type); `Subset({...})`: an object that has at least these members.
The body: `bytes` is exact, `str` (or a regex) is compared as UTF-8 text, `dict` and `list` as JSON.
Headers: those named must be there with that value; None: must not be there.
A status of `NO_ANSWER`: nothing comes within `patience_s`, or the connection ends without a byte.

A step that must come before or after goes into `before` and `after` (cases as well; short form: the
request line alone, which must get a status below 400). Steps that are a story of their own: one
parameter with several cases, `story("a model comes and goes", Case(...), Case(...))`, checked by
`served.check(case)` all the same.

Tests that are no rows: `target.is_torchserve`, `target.call(case)`, `target.exchange(port, bytes)`,
`target.address("grpc_inference")`. Marks: `ours_only` (left out against TorchServe),
`torchserve_only` (left out without it), `differs(what, ours, torchserve, why)` (goes into the
table of differences).
"""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

__all__ = [
    "ANY",
    "NO_ANSWER",
    "Case",
    "Difference",
    "Differs",
    "Response",
    "Story",
    "Subset",
    "error",
    "story",
    "table",
]

NO_ANSWER = -1
_SAME: Any = object()


class _Any:
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "ANY"


ANY: Any = _Any()


class Subset(dict[str, Any]):
    """A JSON object that has at least these members, in this order."""


@dataclass(frozen=True)
class Differs:
    """What TorchServe answers instead, and why we do not. What is not given is as in the case."""

    why: str
    status: Any = _SAME
    body: Any = _SAME
    headers: Mapping[str, Any] | None = None
    phrase: Any = _SAME
    told: tuple[str, str] | None = None
    """What the table of differences says of our answer and of TorchServe's, where the answers
    themselves would not tell."""


class Difference(NamedTuple):
    """One row of the table of differences."""

    what: str
    ours: str
    torchserve: str
    why: str


@dataclass(frozen=True)
class Case:
    """One request and the answer that it must get."""

    request: str
    """Method and target: `POST /models?url=a.mar`."""
    status: Any
    body: Any = ANY
    port: str = "inference"
    """inference, management or metrics."""
    sent: bytes | str | dict[str, Any] | list[Any] = b""
    """The body to send; a dict or list is sent as JSON (with that content type)."""
    content_type: str | None = None
    sent_headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    """Sent as it is instead of a well-formed request; `request` is then only the title."""
    headers: Mapping[str, Any] = field(default_factory=dict)
    phrase: Any = ANY
    before: Sequence[Case | str] = ()
    after: Sequence[Case | str] = ()
    differs: Differs | None = None
    title: str = ""
    patience_s: float = 2.0
    """How long to wait before it counts as NO_ANSWER (only where that is expected)."""
    within_s: float = 0.0
    """The answer may be another one at first: it is asked for again, for so long."""

    def __str__(self) -> str:
        return self.title or self.request

    @property
    def expects_no_answer(self) -> bool:
        return self.status is not ANY and self.status == NO_ANSWER

    def differences(self) -> list[Difference]:
        if self.differs is None:
            return []
        theirs = self.as_torchserve()
        shown = [_shown(self), _shown(theirs)]
        for name, value in (self.differs.headers or {}).items():
            shown[0] += f" {name}: {_text(self.headers.get(name, 'another value'))}"
            shown[1] += f" {name}: {_text(value)}"
        if self.differs.phrase is not _SAME:
            shown[0] += f" phrase “{_text(self.phrase)}”"
            shown[1] += f" phrase “{_text(theirs.phrase)}”"
        if self.differs.told is not None:
            shown = list(self.differs.told)
        if shown[0] == shown[1]:
            shown[1] = "otherwise"
        what = self.title or f"`{self.request}`"
        return [Difference(what, shown[0].strip(), shown[1].strip(), self.differs.why)]

    def as_torchserve(self) -> Case:
        """The case with TorchServe's answer in place of ours."""
        if self.differs is None:
            return self
        one = self.differs
        status = self.status if one.status is _SAME else one.status
        changes: dict[str, Any] = {"status": status, "differs": None}
        changes["body"] = self.body if one.body is _SAME else one.body
        if one.body is _SAME and one.status is not _SAME:
            changes["body"] = ANY
        changes["phrase"] = self.phrase if one.phrase is _SAME else one.phrase
        changes["headers"] = {**self.headers, **(one.headers or {})}
        if one.status is not _SAME and one.headers is None:
            changes["headers"] = {}
        return Case(**{**{f: getattr(self, f) for f in Case.__dataclass_fields__}, **changes})


@dataclass(frozen=True)
class Story:
    """Several cases that only make sense in this order."""

    title: str
    cases: tuple[Case, ...]

    def __str__(self) -> str:
        return self.title

    def differences(self) -> list[Difference]:
        return [one for case in self.cases for one in case.differences()]


@dataclass(frozen=True)
class Response:
    """One HTTP answer. `headers` in the order and spelling in which they came."""

    status: int
    phrase: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


def story(title: str, *cases: Case) -> Story:
    """Cases that are checked one after the other, as one row of a table."""
    return Story(title, cases)


def table(*cases: Case | Story) -> pytest.MarkDecorator:
    """The test runs once per case; its argument is called `case`."""
    return pytest.mark.parametrize("case", cases, ids=str)


def error(code: int, kind: str, message: Any) -> dict[str, Any]:
    """The body of an error answer; `message` may be a regex."""
    return {"code": code, "type": kind, "message": message}


# --- asking ---


def ask(address: tuple[str, int], case: Case, patience_s: float) -> Response | None:
    """Send the request of `case`; None: there was no answer."""
    with socket.create_connection(address, timeout=patience_s) as connection:
        connection.sendall(case.raw if case.raw is not None else _request(case))
        response = http.client.HTTPResponse(connection, method=_method(case))
        try:
            response.begin()
            body = response.read()
        except (TimeoutError, http.client.RemoteDisconnected, ConnectionResetError):
            return None
        finally:
            response.close()
    headers = tuple(response.getheaders())
    return Response(response.status, response.reason, headers, body)


def _method(case: Case) -> str:
    head = case.request if case.raw is None else case.raw.decode("latin-1")
    return head.partition(" ")[0]


def _request(case: Case) -> bytes:
    headers = {"Host": "localhost", **case.sent_headers}
    body = case.sent
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
        headers.setdefault("Content-Type", "application/json")
    if isinstance(body, str):
        body = body.encode()
    if case.content_type is not None:
        headers["Content-Type"] = case.content_type
    if body or _method(case) in ("POST", "PUT"):
        headers.setdefault("Content-Length", str(len(body)))
    lines = [f"{case.request} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# --- comparing ---


def complaints(case: Case, response: Response | None) -> list[str]:
    """In what the answer is not the one that the case expects; empty: it is."""
    if response is None or case.expects_no_answer:
        wanted = case.expects_no_answer and response is None
        return [] if wanted else [f"status: {_answer(response)}, expected {_text(case.status)}"]
    found = []
    if not matches(case.status, response.status):
        found.append(f"status {response.status}, expected {_text(case.status)}: {response.body!r}")
    if not matches(case.phrase, response.phrase):
        found.append(f"phrase {response.phrase!r}, expected {case.phrase!r}")
    for name, value in case.headers.items():
        got = response.header(name)
        if got is not None if value is None else got is None or not matches(value, got):
            found.append(f"header {name}: {got!r}, expected {_text(value)}")
    if not _body_matches(case.body, response.body):
        found.append(f"body {response.body!r}, expected {_text(case.body)}")
    return found


def matches(expected: Any, got: Any) -> bool:
    """Whether `got` is what `expected` (a value with placeholders) says."""
    if isinstance(expected, re.Pattern):
        return isinstance(got, str) and expected.fullmatch(got) is not None
    if isinstance(expected, type):
        return isinstance(got, expected) and (expected is bool or not isinstance(got, bool))
    if isinstance(expected, Subset):
        kept = [key for key in got if key in expected] if isinstance(got, dict) else None
        return kept == list(expected) and all(matches(expected[k], got[k]) for k in expected)
    if isinstance(expected, dict):
        same_keys = isinstance(got, dict) and list(got) == list(expected)
        return same_keys and all(matches(expected[k], got[k]) for k in expected)
    if isinstance(expected, (list, tuple)):
        same_length = isinstance(got, list) and len(got) == len(expected)
        return same_length and all(map(matches, expected, got))
    return bool(expected == got) and (expected is ANY or type(expected) is type(got))


def _body_matches(expected: Any, body: bytes) -> bool:
    if expected is ANY or isinstance(expected, bytes):
        return bool(expected == body)
    if isinstance(expected, (str, re.Pattern)):
        return matches(expected, body.decode("utf-8", "replace"))
    try:
        return matches(expected, json.loads(body))
    except ValueError:
        return False


# --- showing ---


def _answer(response: Response | None) -> str:
    return "no answer" if response is None else f"{response.status} {response.body!r}"


def _shown(case: Case) -> str:
    body = case.body
    if isinstance(body, dict) and set(body) == {"code", "type", "message"}:
        message = "" if body["message"] is ANY else f" “{_text(body['message'])}”"
        body = f"{body['type']}{message}"
    elif isinstance(body, dict) and set(body) == {"type"}:
        body = body["type"]
    elif isinstance(body, dict) and set(body) == {"status"}:
        body = f"“{_text(body['status'])}”"
    status = "no answer" if case.expects_no_answer else _text(case.status)
    return f"{status} {'' if body is ANY else _text(body)}".strip()


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace") or "without a body"
    if isinstance(value, re.Pattern):
        return _readable(value)
    if isinstance(value, type):
        return value.__name__
    return value if isinstance(value, str) else "any" if value is ANY else repr(value)


def _readable(pattern: re.Pattern[Any]) -> str:
    """What a text of this form looks like, for people: without anchors and escapes."""
    text = re.sub(
        r"\(\?\w*[:=!][^)]*\)|\[[^]]*\]\+?|\\S[*+]|\.[*+]\??|\\d[*+]?", "…", str(pattern.pattern)
    )
    return re.sub(r"[…\s]*…", " … ", re.sub(r"\\(.)", r"\1", text)).strip()
