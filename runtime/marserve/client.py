"""Speaks to a running server: management calls and predictions over HTTP.

For the command line; standard library only, so that `marserve predict` starts at once. One
connection per call, a time limit on every wait. Answers are the server's own JSON values.

    ServerError
    ├── ServerUnreachable   nobody answers there
    │   └── ServerAbsent    … and nobody got the request
    └── ServerRefused       an answer other than 2xx

A prediction that was surely not served is tried again (`retries.py`); nothing else is.
"""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from marserve.retries import Retries

_CONNECT_TIMEOUT_S = 5.0
_LONGEST_MESSAGE = 2000


class ServerError(Exception):
    """The call brought no answer, or not the one that was asked for."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ServerUnreachable(ServerError):
    """No server answers at this address."""


class ServerAbsent(ServerUnreachable):
    """There was no connection, so no request was sent."""


class ServerRefused(ServerError):
    """The server answered with an error: HTTP status `code`, error `type` ("" if it says none).

    `retry_after_s`: when to come back, if it says so.
    """

    def __init__(
        self, code: int, type: str, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.type = type
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back with a 2xx."""

    code: int
    content_type: str | None
    body: bytes


class Client:
    """Calls to one port of a server. `url` is http(s)://host[:port], with or without a path.

    Raises:
        ValueError: `url` is not such an address.
    """

    def __init__(self, url: str, *, answer_timeout_s: float = 300.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url} is not an address like http://127.0.0.1:8081")
        self._url = url
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        try:
            self._port = parts.port
        except ValueError:
            raise ValueError(f"{url} has no usable port") from None
        self._base = parts.path.rstrip("/")
        self._answer_timeout_s = answer_timeout_s
        self._retries = Retries()

    # --- the management port ---

    def models(self) -> list[dict[str, Any]]:
        """All registered models: modelName and modelUrl of each default version."""
        models: list[dict[str, Any]] = []
        query: dict[str, object] = {"limit": 100}
        while True:
            page = self._json("GET", "/models", query)
            models += page["models"]
            if not page["models"] or "nextPageToken" not in page:
                return models
            query["next_page_token"] = page["nextPageToken"]

    def describe(self, name: str, version: str | None = None) -> list[dict[str, Any]]:
        """The default version, that version, or with "all" every version of a model."""
        described: list[dict[str, Any]] = self._json("GET", _model_path(name, version))
        return described

    def register(self, url: str, parameters: Mapping[str, object], *, wait: bool = True) -> str:
        """Register an archive; `parameters` as in the management API, None left out."""
        query = {"url": url, "synchronous": wait, **parameters}
        return self._status("POST", "/models", query)

    def scale(
        self,
        name: str,
        version: str | None = None,
        *,
        min_workers: int,
        max_workers: int | None = None,
        wait: bool = True,
    ) -> str:
        """Set how many workers a version has."""
        query = {"min_worker": min_workers, "max_worker": max_workers, "synchronous": wait}
        return self._status("PUT", _model_path(name, version), query)

    def set_default(self, name: str, version: str) -> str:
        """Make a version the one that serves requests without a version."""
        return self._status("PUT", f"{_model_path(name, version)}/set-default")

    def unregister(self, name: str, version: str | None = None) -> str:
        """Remove a version, without one the default version."""
        return self._status("DELETE", _model_path(name, version))

    # --- the inference port ---

    def predict(
        self, name: str, version: str | None, body: bytes, content_type: str | None
    ) -> Answer:
        """One prediction; where it was surely not served, up to three attempts at it."""
        path = f"/predictions/{_quoted(name)}" + (f"/{_quoted(version)}" if version else "")
        self._retries.asked()
        for attempt in count(1):
            try:
                return self._call("POST", path, {}, body, content_type)
            except (ServerAbsent, ServerRefused) as error:
                again_s = _retry_after_s(error)
                if again_s is None:
                    raise
                roll = random.random()  # noqa: S311  spreads clients, keeps no secret
                pause_s = self._retries.pause_s(attempt, again_s, roll)
                if pause_s is None:
                    raise
                time.sleep(pause_s)
        raise AssertionError("a count ends never")

    # --- one call ---

    def _status(self, method: str, path: str, query: Mapping[str, object] | None = None) -> str:
        return str(self._json(method, path, query or {}).get("status", ""))

    def _json(self, method: str, path: str, query: Mapping[str, object] | None = None) -> Any:
        answer = self._call(method, path, query or {})
        try:
            return json.loads(answer.body)
        except ValueError:
            raise ServerUnreachable(
                f"{self._url} answers, but not like a management port: is this the right port?"
            ) from None

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Answer:
        given = {key: _parameter(value) for key, value in query.items() if value is not None}
        target = f"{self._base}{path}" + (f"?{urlencode(given)}" if given else "")
        headers = {"Content-Type": content_type} if content_type else {}
        connection = self._connected()
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            content = response.read()
        except TimeoutError:
            raise ServerUnreachable(
                f"{self._url} has not answered within {self._answer_timeout_s:g} s."
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnreachable(
                f"{self._url} broke off the call ({_reason(error)})."
            ) from error
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            again = response.getheader("Retry-After", "")
            raise _refusal(response.status, response.reason, content, again)
        return Answer(response.status, response.getheader("Content-Type"), content)

    def _connected(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=_CONNECT_TIMEOUT_S)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise ServerAbsent(
                f"No server answers at {self._url} ({_reason(error)}). "
                "`marserve status` tells whether one runs; `marserve start` starts one."
            ) from error
        connection.sock.settimeout(self._answer_timeout_s)
        return connection


def _model_path(name: str, version: str | None) -> str:
    return f"/models/{_quoted(name)}" + (f"/{_quoted(version)}" if version else "")


def _quoted(segment: str) -> str:
    return quote(segment, safe="")


def _parameter(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reason(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    return (strerror or str(error) or type(error).__name__).lower()


def _retry_after_s(error: ServerAbsent | ServerRefused) -> float | None:
    """After how long it is worth to ask again; None: it is not, or the request may have run."""
    if isinstance(error, ServerAbsent):
        return 0.0
    return error.retry_after_s if error.code == 503 else None


def _refusal(code: int, reason: str, content: bytes, again: str = "") -> ServerRefused:
    again_s = float(again) if again.isascii() and again.isdigit() and len(again) < 10 else None
    try:
        document = json.loads(content)
        return ServerRefused(code, str(document.get("type", "")), str(document["message"]), again_s)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = content.decode("utf-8", "replace").strip()[:_LONGEST_MESSAGE]
        return ServerRefused(code, "", text or f"HTTP {code} {reason}".strip(), again_s)
