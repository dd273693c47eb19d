"""The url of an archive that is elsewhere, taken apart once and strictly. Pure.

Two readers that disagree about a url are how a fetcher is led astray, so whatever could be read
in two ways is refused here, and everybody after this works with the parts, never with the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MAX_CHARACTERS: Final = 8192
_REMOTE: Final = re.compile(r"(https?|file|s3)://", re.IGNORECASE)
_FORM: Final = re.compile(
    r"(?P<scheme>https?|file)://(?P<authority>[^/?]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?",
    re.IGNORECASE,
)
_AUTHORITY: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ESCAPE: Final = re.compile(r"%(.{0,2})", re.DOTALL)
_HEX: Final = re.compile("[0-9A-Fa-f]{2}")


class UrlRefused(ValueError):
    """The text is no url that this server fetches; the message completes "the url …"."""


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """Where an archive is. Scheme and host are in lower case."""

    text: str
    """As it was given."""
    scheme: str
    """http, https or file."""
    host: str
    """A DNS name, or an IP address without brackets; empty for file urls."""
    port: int
    """0 for file urls."""
    path: str
    """Begins with a slash; its percent escapes are as they were given."""
    query: str | None

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host, if it is an IP address."""
        return _address(self.host)

    @property
    def host_header(self) -> str:
        """The host as HTTP writes it: brackets around IPv6, the port unless it is the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """The path and the query."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def file_name(self) -> str:
        """The last part of the path; may be empty."""
        return self.path.rpartition("/")[2]

    @property
    def file_path(self) -> str:
        """The path with its escapes decoded, as a file's path."""
        return unquote(self.path, errors="strict")

    def same_origin(self, other: RemoteUrl) -> bool:
        """Whether scheme, host and port are the same."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)


def is_remote(text: str) -> bool:
    """Whether `text` means to be a url, and not a name in the model store."""
    return _REMOTE.match(text) is not None


def parse_url(text: str) -> RemoteUrl:
    """The parts of an http, https or file url.

    Raises:
        UrlRefused: it is none, or could be read in two ways.
    """
    _check_characters(text)
    match = _FORM.fullmatch(text)
    if match is None:
        raise UrlRefused("is not of the form SCHEME://HOST/PATH, with https, http or file")
    scheme, path = match["scheme"].lower(), match["path"] or "/"
    _check_path(path)
    if scheme == "file":
        if match["authority"].lower() not in ("", "localhost"):
            raise UrlRefused("names another machine, but file urls are for files of this one")
        if match["query"] is not None:
            raise UrlRefused("has a query, which files do not know")
        return RemoteUrl(text, scheme, "", 0, path, None)
    host, port = _host_and_port(match["authority"], scheme)
    return RemoteUrl(text, scheme, host, port, path, match["query"])


def _check_characters(text: str) -> None:
    if len(text) > _MAX_CHARACTERS:
        raise UrlRefused(f"is longer than {_MAX_CHARACTERS} characters")
    if not text.isascii():
        raise UrlRefused(
            "has characters beyond ASCII: write host names as xn--… and the rest percent-encoded"
        )
    if any(not "!" <= character <= "~" for character in text):
        raise UrlRefused("has blanks or control characters in it")
    for character, name in (("\\", "a backslash"), ("#", "a fragment (#)")):
        if character in text:
            raise UrlRefused(f"has {name} in it")


def _check_path(path: str) -> None:
    for match in _ESCAPE.finditer(path):
        if not _HEX.fullmatch(match[1]):
            raise UrlRefused("has a percent sign that begins no escape")
        decoded = chr(int(match[1], 16))
        if decoded in "./\\\x7f" or decoded < " ":
            raise UrlRefused(f"has the escape %{match[1]} in its path, which is read variously")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise UrlRefused("has a relative part in its path")


def _host_and_port(authority: str, scheme: str) -> tuple[str, int]:
    if "@" in authority:
        raise UrlRefused("has a user name in it")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise UrlRefused("has no host of the form NAME or NAME:PORT")
    port = DEFAULT_PORTS[scheme] if match["port"] is None else int(match["port"])
    if not 1 <= port <= 65535:
        raise UrlRefused("has a port beyond 65535")
    return checked_host(match["host"]), port


def checked_host(host: str) -> str:
    """A host in the one form in which hosts are compared.

    Raises:
        UrlRefused: it is neither a DNS name nor an address as everybody reads it.
    """
    host = host.lower()
    if host.startswith("["):
        address = _address(host[1:-1])
        if address is None or address.version != 6:
            raise UrlRefused("has brackets around something that is no IPv6 address")
        return str(address)
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        if _address(host) is None:
            raise UrlRefused("has a number for a host that is not four decimal parts")
        return host
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlRefused(f"has the host {host[:80]}, which is no DNS name")
    return host


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
