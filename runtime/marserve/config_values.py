"""The typed values that settings take, and how the text of a setting becomes one. Pure.

A `ValueType.read` gets the text and a list to which it may add notes (things that the operator
should know, though the value was taken). Text that cannot be taken raises ValueError with a
sentence that says what is expected.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Notes = list[str]

LARGEST_INT = 2**31 - 1

_NUMBER = re.compile(r"([+-]?[0-9]{1,30})(\s*#.*)?")
_BOOLEAN = re.compile(r"(true|false)(\s*#.*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ValueType:
    """What the text of a setting may be; `expected` completes "expected …"."""

    expected: str
    read: Callable[[str, Notes], Any]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a port listens. `host` is an IP address without brackets; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return self.url

    @property
    def url(self) -> str:
        """http://host:port, an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def reachable_url(self) -> str:
        """The URL by which this machine reaches the port: a wildcard stands for loopback."""
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
        return Address(loopback.get(self.host, self.host), self.port).url

    @property
    def is_loopback(self) -> bool:
        """Only this machine can connect."""
        return ipaddress.ip_address(self.host).is_loopback

    def collides_with(self, other: Address) -> bool:
        """The two cannot be bound at the same time."""
        mine, others = ipaddress.ip_address(self.host), ipaddress.ip_address(other.host)
        if self.port != other.port or self.port == 0 or mine.version != others.version:
            return False
        return mine == others or mine.is_unspecified or others.is_unspecified


# --- scalars ---


def whole_number(at_least: int, at_most: int = LARGEST_INT) -> ValueType:
    """A whole number in a range; a comment behind it is dropped with a note."""
    expected = f"a whole number, at least {at_least}"

    def read(text: str, notes: Notes) -> int:
        match = _NUMBER.fullmatch(text)
        if match is None or int(match[1]) < at_least:
            raise ValueError(f"expected {expected}")
        if int(match[1]) > at_most:
            raise ValueError(f"expected at most {at_most}")
        _note_comment(match, notes)
        return int(match[1])

    return ValueType(expected, read)


def _read_boolean(text: str, notes: Notes) -> bool:
    match = _BOOLEAN.fullmatch(text)
    if match is None:
        raise ValueError("expected true or false")
    _note_comment(match, notes)
    return match[1].lower() == "true"


def _note_comment(match: re.Match[str], notes: Notes) -> None:
    if match[2] is not None:
        notes.append(f"taken as {match[1]}; a comment needs a line of its own")


def _read_text(text: str, _notes: Notes) -> str | None:
    return text or None


def _read_path(text: str, _notes: Notes) -> Path:
    if not text or "\0" in text:
        raise ValueError("expected the path of a directory")
    return Path(text)


def _read_optional_path(text: str, notes: Notes) -> Path | None:
    return _read_path(text, notes) if text else None


def _read_pattern(text: str, _notes: Notes) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise ValueError(f"expected a regular expression ({error})") from error


def _read_prometheus(text: str, notes: Notes) -> str:
    if text not in ("prometheus", "log", "legacy"):
        raise ValueError("expected prometheus")
    if text != "prometheus":
        notes.append("the metrics endpoint always speaks Prometheus")
    return "prometheus"


BOOLEAN = ValueType("true or false", _read_boolean)
TEXT = ValueType("any text", _read_text)
PATH = ValueType("the path of a directory", _read_path)
OPTIONAL_PATH = ValueType("the path of a directory", _read_optional_path)
PATTERN = ValueType("a regular expression", _read_pattern)
PROMETHEUS = ValueType("prometheus", _read_prometheus)


# --- addresses ---


def address(default_port: int) -> ValueType:
    """http://host[:port]; the host is an IP address or localhost."""
    expected = "http://HOST[:PORT], where HOST is an IP address or localhost"

    def read(text: str, _notes: Notes) -> Address:
        _refuse_other_schemes(text)
        try:
            url = urlsplit(text)
            host, port = url.hostname, url.port
        except ValueError:
            raise ValueError(f"expected {expected}") from None
        extras = url.username or url.password or url.query or url.fragment
        if url.scheme != "http" or host is None or extras or url.path not in ("", "/"):
            raise ValueError(f"expected {expected}")
        return Address(_ip(host), default_port if port is None else port)

    return ValueType(expected, read)


def _refuse_other_schemes(text: str) -> None:
    scheme = text.partition(":")[0].lower()
    if scheme == "https":
        raise ValueError(
            "this version does not speak TLS: write http:// and put a TLS proxy in front"
        )
    if scheme == "unix":
        raise ValueError("this version does not listen on unix sockets: write http://HOST:PORT")


def _ip(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError(
            f"expected an IP address or localhost in place of {host} (names are not looked up)"
        ) from None
