"""Tokens: who may use which port, and the file that holds their keys.

Three keys, as with TorchServe: one for inference, one for management, both of which expire, and the
API key, which does not and is good for nothing but renewing the other two. They lie in a file that
only the server's user can read. An operator may set the first two instead; such a key never
expires, is not renewed, and is never written down.

Calls come from any thread: whoever checks sees one consistent set of keys, or the next one.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final

from marserve.errors import ConfigInvalid, StateNotSaved, TokenMissing, TokenRefused

KEY_FILE: Final = "key_file.json"
MIN_STATIC_CHARACTERS: Final = 16
_KEY_BYTES: Final = 18
"""Of chance: 24 characters, out of reach for guessing; TorchServe's keys have 6."""
_NS: Final = 1_000_000_000
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr]\s+(\S+)")
_STATIC: Final = re.compile(rf"[!-~]{{{MIN_STATIC_CHARACTERS},512}}")
_LIKE_TORCHSERVE: Final = (
    "Token {} failed. Token either incorrect, expired, or not provided correctly"
)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Clock = Callable[[], int]
"""Nanoseconds since 1970, as the operator's clock tells them."""
Authorize = Callable[[str | None], None]
"""Takes the value of a request's Authorization header; raises TokenMissing or TokenRefused."""


class Scope(Enum):
    """What a key is for; the value is its name in the key file and in `GET /token?type=…`."""

    INFERENCE = "inference"
    MANAGEMENT = "management"


def is_enforced(token_authorization: bool | None, only_this_machine: bool) -> bool:
    """Whether a port asks for tokens.

    Args:
        token_authorization: the setting; None leaves it to us.
        only_this_machine: nobody else can do harm there: a loopback address, a unix socket, or a
            port that answers predictions and nothing else.
    """
    return not only_this_machine if token_authorization is None else token_authorization


@dataclass(frozen=True, slots=True)
class Key:
    """One key. The text is not shown where keys are printed."""

    text: bytes
    expires_ns: int | None
    """None: never."""
    is_static: bool = False

    def __repr__(self) -> str:
        return f"Key(expires_ns={self.expires_ns}, is_static={self.is_static})"

    def equals(self, given: bytes) -> bool:
        """Whether `given` is this key, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(self.text, given)


class Tokens:
    """The keys of one run of the server, in memory and in the key file."""

    def __init__(
        self,
        key_file: Path,
        expiration_s: float | None,
        *,
        static: Mapping[Scope, str] | None = None,
        errors_as_400: bool = False,
        clock: Clock = time.time_ns,
    ) -> None:
        """Draws the keys; `start` writes them down.

        Args:
            key_file: where they are written.
            expiration_s: how long keys for inference and management are good; None: for ever.
            static: keys that the operator has set.
            errors_as_400: refusals look as TorchServe's do.
            clock: tells the time.

        Raises:
            ConfigInvalid: a static key is too short, or holds blanks or characters beyond ASCII.
        """
        self._key_file = key_file
        self._lifetime_ns = None if expiration_s is None else int(expiration_s * _NS)
        self._errors_as_400 = errors_as_400
        self._clock = clock
        self._turn = threading.Lock()
        self._written: bytes | None = None
        self._api = Key(_drawn(), None)
        fixed = {scope: _static_key(scope, text) for scope, text in (static or {}).items()}
        self._keys: Mapping[Scope, Key] = {
            scope: fixed.get(scope) or self._new_key() for scope in Scope
        }

    def start(self) -> None:
        """Write the key file, in the place of one that an earlier run left.

        Raises:
            ConfigInvalid: it cannot be written.
        """
        try:
            with self._turn:
                self._write(self._keys)
        except OSError as error:
            raise ConfigInvalid(
                f"The key file {self._key_file} cannot be written: {error.strerror}. Start the "
                "server in a folder that it may write to, or set disable_token_authorization=true "
                "where something else keeps strangers from its ports."
            ) from error

    def document(self) -> str:
        """The keys as they stand in the key file."""
        with self._turn:
            return self._document(self._keys).decode()

    def adopt(self, document: str) -> None:
        """Take the keys of the server before this one, but for those that are static here."""
        found = json.loads(document)
        with self._turn:
            self._api = Key(found["API"]["key"].encode(), None)
            self._keys = {
                scope: key if key.is_static else _adopted(found.get(scope.value)) or key
                for scope, key in self._keys.items()
            }

    def stop(self) -> None:
        """Remove the key file, unless another server has put its own in the place."""
        with self._turn, suppress(OSError):
            if self._written is not None and self._key_file.read_bytes() == self._written:
                self._key_file.unlink()

    def announcement(self, is_any_port_enforced: bool) -> tuple[str, ...]:
        """What the operator is told at the start, one sentence each."""
        if is_any_port_enforced:
            first = "Token authorization is on: requests need the header Authorization: Bearer KEY."
        else:
            first = "Token authorization is ready; ports of this machine alone ask for no token."
        return (first, f"Key file located at {self._key_file}")

    def guard(self, scope: Scope) -> Authorize:
        """`check` for one scope, as a port wants it."""
        return partial(self.check, scope)

    def check(self, scope: Scope, authorization: str | None) -> None:
        """Let a request pass whose Authorization header carries the key of `scope`.

        Raises:
            TokenMissing: there is no such header, or it is of another form.
            TokenRefused: the key is another one, or has expired.
        """
        given = self._given(authorization, "Authorization", f"The {scope.value} key")
        key = self._keys[scope]
        if not key.equals(given):
            raise self._refused("Authorization", f"The key is not the {scope.value} key.")
        if key.expires_ns is not None and self._clock() >= key.expires_ns:
            raise self._refused(
                "Authorization",
                f"The {scope.value} key has expired; GET /token?type={scope.value} on the "
                "management port, with the API key, renews it.",
            )

    def renew(self, scope: Scope | None, authorization: str | None) -> None:
        """Draw a new key for `scope`; the old one is refused from now on.

        The new key stands in the key file, and nowhere else.

        Args:
            scope: None stands for one that does not exist.
            authorization: the Authorization header, which must carry the API key.

        Raises:
            TokenMissing, TokenRefused: it does not; or there is no such scope, or its key is
                the operator's.
            StateNotSaved: the key file cannot be written; the old key is good as before.
        """
        given = self._given(authorization, "Authentication", "The API key")
        if not self._api.equals(given):
            raise self._refused("Authentication", "The key is not the API key.")
        if scope is None:
            raise self._refused("Authentication", "The type must be inference or management.")
        with self._turn:
            if self._keys[scope].is_static:
                raise self._refused(
                    "Authentication",
                    f"The {scope.value} key is set in the configuration, and changed there.",
                )
            keys = {**self._keys, scope: self._new_key()}
            try:
                self._write(keys)
            except OSError as error:
                raise StateNotSaved(
                    f"The key file cannot be written: {error.strerror}. "
                    f"The {scope.value} key is as before."
                ) from error
            self._keys = keys

    # --- refusals ---------------------------------------------------------------------------------

    def _given(self, authorization: str | None, action: str, wanted: str) -> bytes:
        match = _BEARER.fullmatch((authorization or "").strip())
        if match is None:
            raise TokenMissing(
                self._told(action, f'{wanted} is needed, as "Authorization: Bearer KEY".'),
                self._errors_as_400,
            )
        return match[1].encode("utf-8", "surrogateescape")

    def _refused(self, action: str, reason: str) -> TokenRefused:
        return TokenRefused(self._told(action, reason), self._errors_as_400)

    def _told(self, action: str, reason: str) -> str:
        if self._errors_as_400:
            return _LIKE_TORCHSERVE.format(action)
        return f"Token {action} failed. {reason}"

    # --- keys -------------------------------------------------------------------------------------

    def _new_key(self) -> Key:
        lifetime_ns = self._lifetime_ns
        return Key(_drawn(), None if lifetime_ns is None else self._clock() + lifetime_ns)

    def _write(self, keys: Mapping[Scope, Key]) -> None:
        content = self._document(keys)
        new = self._key_file.with_name(f".{self._key_file.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(new, _CREATE, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._key_file)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        self._written = content

    def _document(self, keys: Mapping[Scope, Key]) -> bytes:
        entries = {}
        for scope in (Scope.MANAGEMENT, Scope.INFERENCE):
            key = keys[scope]
            if not key.is_static:
                entries[scope.value] = {"key": key.text.decode()}
                if key.expires_ns is not None:
                    entries[scope.value]["expiration time"] = _timestamp(key.expires_ns)
        entries["API"] = {"key": self._api.text.decode()}
        return json.dumps(entries, indent=2).encode()


def _drawn() -> bytes:
    return secrets.token_urlsafe(_KEY_BYTES).encode()


def _static_key(scope: Scope, text: str) -> Key:
    if not _STATIC.fullmatch(text):
        raise ConfigInvalid(
            f"The static {scope.value} key cannot be used: it must have "
            f"{MIN_STATIC_CHARACTERS} to 512 characters, printable ASCII without blanks."
        )
    return Key(text.encode(), None, is_static=True)


def _adopted(entry: Mapping[str, str] | None) -> Key | None:
    if entry is None:
        return None
    expires = entry.get("expiration time")
    return Key(entry["key"].encode(), None if expires is None else _nanoseconds(expires))


def _nanoseconds(timestamp: str) -> int:
    """What `_timestamp` wrote."""
    seconds, _, fraction = timestamp.removesuffix("Z").partition(".")
    moment = datetime.fromisoformat(f"{seconds}+00:00")
    return int(moment.timestamp()) * _NS + int(fraction)


def _timestamp(ns: int) -> str:
    """ISO 8601 in UTC, with nanoseconds."""
    moment = datetime.fromtimestamp(ns // _NS, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % _NS:09d}Z"
