"""Where a port listens, and how the text of an address becomes one. Pure.

An address is `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:/PATH`. Hosts are IP addresses or
localhost: names are not looked up, because what a name means may change under a running server.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from marserve.config_values import Notes, ValueType

_LONGEST_SOCKET_PATH = 100
"""Linux takes 107 bytes; a little is left for a suffix."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a port listens. `host` is an IP address without brackets; port 0 takes a free one.

    A unix address has a `path` and neither host nor port.
    """

    host: str
    port: int
    scheme: str = "http"
    """http, https or unix."""
    path: str = ""
    """The absolute path of the socket of a unix address."""

    def __str__(self) -> str:
        return self.url

    @property
    def url(self) -> str:
        """http://host:port, an IPv6 host in brackets; unix:/path."""
        if self.is_unix:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def reachable_url(self) -> str:
        """The URL by which this machine reaches the port: a wildcard stands for loopback."""
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
        return replace(self, host=loopback.get(self.host, self.host)).url

    @property
    def is_unix(self) -> bool:
        """A socket in the file system, guarded by its permissions."""
        return self.scheme == "unix"

    @property
    def is_tls(self) -> bool:
        """Speaks https, so it needs a certificate."""
        return self.scheme == "https"

    @property
    def is_loopback(self) -> bool:
        """Only this machine can connect."""
        return self.is_unix or ipaddress.ip_address(self.host).is_loopback

    def is_same_port(self, other: Address) -> bool:
        """The two are one listener, which serves what both would."""
        return self == other and (self.is_unix or self.port != 0)

    def collides_with(self, other: Address) -> bool:
        """The two are not the same, and yet cannot be bound at the same time."""
        if self.is_unix or other.is_unix:
            return self.is_unix and other.is_unix and self.path == other.path
        mine, others = ipaddress.ip_address(self.host), ipaddress.ip_address(other.host)
        if self.port != other.port or self.port == 0 or mine.version != others.version:
            return False
        return mine == others or mine.is_unspecified or others.is_unspecified


def address(http_port: int, https_port: int) -> ValueType:
    """http[s]://host[:port] or unix:/path; each scheme has a port of its own when none is named."""
    expected = "http[s]://HOST[:PORT] or unix:/PATH, where HOST is an IP address or localhost"
    ports = {"http": http_port, "https": https_port}

    def read(text: str, _notes: Notes) -> Address:
        if text.lower().startswith("unix:"):
            return _unix(text[len("unix:") :])
        try:
            url = urlsplit(text)
            host, port = url.hostname, url.port
        except ValueError:
            raise ValueError(f"expected {expected}") from None
        extras = url.username or url.password or url.query or url.fragment
        if url.scheme not in ports or host is None or extras or url.path not in ("", "/"):
            raise ValueError(f"expected {expected}")
        return Address(_ip(host), ports[url.scheme] if port is None else port, url.scheme)

    return ValueType(expected, read)


def _unix(path: str) -> Address:
    path = f"/{path.lstrip('/')}" if path.startswith("//") else path  # unix:///path is the same
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError("expected the absolute path of a socket behind unix:")
    if len(path.encode()) > _LONGEST_SOCKET_PATH:
        raise ValueError(f"expected a path of at most {_LONGEST_SOCKET_PATH} bytes behind unix:")
    return Address("", 0, "unix", path)


def _read_host(text: str, _notes: Notes) -> str:
    return _ip(text.removeprefix("[").removesuffix("]"))


def _ip(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError(
            f"expected an IP address or localhost in place of {host} (names are not looked up)"
        ) from None


HOST = ValueType("an IP address or localhost", _read_host)
