r"""Which urls archives may be fetched from: the setting `allowed_urls`. Pure.

Nothing is allowed unless an entry allows it. Entries look as they did for TorchServe, which took
them for regular expressions over the whole text of a url:

    https://models.example.com/.*                one host, https, the usual port
    https://.*\.s3\.amazonaws\.com/team/.*\.mar   any bucket, one folder, one kind of file
    http(s)?://10.0.0.7:9000/.*                  an address of the own network, with its port
    file:///srv/incoming/.*                      files of this machine

Here an entry is taken apart like a url, and each part is compared with the same part of a strictly
parsed url, so that no part can pass for another:

*   The scheme is what the entry says; http only if it says http.
*   The host is compared without regard to case. A dot is a dot, escaped or not. Wildcards may stand
    before the end of a host, never at it; an entry that goes on with `.*` right behind a host
    (`https://s3.amazonaws.com.*`) means that host and any path.
*   The port is the scheme's own unless the entry names one. An entry for any host (`https://.*`) is
    for any port.
*   The path is compared as it stands, with regard to case. A query is allowed where the path
    pattern ends with a wildcard, or spells it out after an escaped question mark.
*   Of regular expressions, entries may use `.*`, `.+`, `?`, groups with `|`, and characters in
    brackets; an entry that uses more is not used at all, never half understood.

An entry for one host, without wildcards in it, also says that this host may have a private address.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote

from marserve.registry.sources.remote_url import (
    DEFAULT_PORTS,
    RemoteUrl,
    UrlRefused,
    checked_host,
)
from marserve.registry.sources.url_pattern import (
    ANYTHING,
    Many,
    One,
    Piece,
    Sequence,
    fits,
    literal_text,
    unfold,
)

_SCHEMES: Final = frozenset(["http", "https", "file"])
_ANY_PATH: Final[Sequence] = (One(frozenset("/")), Many(ANYTHING))
_AS_IN_URLS: Final = "/!$&'()*+,;=:@~"
_SHAPE: Final = "write SCHEME://HOST[:PORT]/PATH, with .* for any text"


@dataclass(frozen=True, slots=True)
class Rule:
    """One way through one entry."""

    scheme: str
    host: Sequence
    named_host: str | None
    """The host, when the entry names one without wildcards."""
    port: int | None
    """None: any port."""
    path: Sequence

    def allows(self, url: RemoteUrl) -> bool:
        """Whether every part fits."""
        return (
            url.scheme == self.scheme
            and self.port in (None, url.port)
            and (url.host == self.named_host if self.named_host else fits(self.host, url.host))
            and self._allows_target(url)
        )

    def _allows_target(self, url: RemoteUrl) -> bool:
        if any(isinstance(piece, One) and piece.literal == "?" for piece in self.path):
            return fits(self.path, url.target)
        has_open_end = bool(self.path) and isinstance(self.path[-1], Many)
        return (url.query is None or has_open_end) and fits(self.path, url.path)


@dataclass(frozen=True, slots=True)
class Permission:
    """A url that may be fetched, and how near its host may be."""

    url: RemoteUrl
    named_host: bool
    """An entry names this very host: it may have a private address."""
    named_address: bool
    """An entry names this very address: it may be any address at all."""


class AllowedUrls:
    """The rules that the entries of `allowed_urls` come to."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        """Reads the entries.

        Raises:
            ValueError: an entry is not understood; the message says why, and what to write.
        """
        self.rules = tuple(rule for entry in entries for rule in rules_of(entry))

    @classmethod
    def understood(cls, entries: Iterable[str]) -> tuple[AllowedUrls, tuple[str, ...]]:
        """The rules of the entries that can be used, and a sentence about each one that cannot.

        Leaving an entry out allows less than it says, never more.
        """
        allowed, sentences = cls(), []
        for entry in entries:
            try:
                rules = rules_of(entry)
            except ValueError as error:
                sentences.append(f"allowed_urls: {error}.")
                continue
            if not rules:
                sentences.append(f"allowed_urls: {entry!r} allows nothing: {_SHAPE}.")
            allowed.rules += rules
        return allowed, tuple(sentences)

    def permit(self, url: RemoteUrl) -> Permission | None:
        """What may be done with `url`; None: nothing."""
        rules = [rule for rule in self.rules if rule.allows(url)]
        if not rules:
            return None
        named = any(rule.named_host is not None for rule in rules)
        return Permission(url, named, named and _is_address(url.host))

    def allows_file(self, path: str) -> bool:
        """Whether the file at this absolute path may be copied."""
        path = quote(path, safe=_AS_IN_URLS)
        url = RemoteUrl(f"file://{path}", "file", "", 0, path, None)
        return any(rule.allows(url) for rule in self.rules)


def rules_of(entry: str) -> tuple[Rule, ...]:
    """What one entry allows.

    Raises:
        ValueError: it is not understood.
    """
    try:
        return tuple(rule for way in unfold(entry.strip()) for rule in _rules(way))
    except ValueError as error:
        raise ValueError(f"{entry!r} cannot be used: {error}; {_SHAPE}") from None


def _rules(way: Sequence) -> tuple[Rule, ...]:
    if way == (Many(ANYTHING),):
        return tuple(_rule(scheme, way) for scheme in sorted(_SCHEMES))
    scheme, rest = _scheme(way)
    if scheme not in _SCHEMES:
        return ()  # TorchServe fetched nothing from there either
    return (_rule(scheme, rest),)


def _scheme(way: Sequence) -> tuple[str, Sequence]:
    for end in range(len(way)):
        if literal_text(way[end : end + 3]) == "://":
            scheme = literal_text(way[:end])
            if scheme is not None:
                return scheme.lower(), way[end + 3 :]
    raise ValueError("it does not begin with a scheme and ://")


def _rule(scheme: str, rest: Sequence) -> Rule:
    authority, path = _halves(rest)
    if scheme == "file":
        if authority not in ((), (Many(ANYTHING),)) and literal_text(authority) != "localhost":
            raise ValueError("a file url names no host: write three slashes, file:///")
        return Rule(scheme, (), None, None, path)
    text = literal_text(authority)
    if text is not None:
        host, port = _named(text, scheme)
        return Rule(scheme, (), host, port, path)
    host_pattern, port_pattern = _split_port(authority)
    if port_pattern is None:
        is_any = all(":" in piece.characters for piece in host_pattern)
        return Rule(scheme, _host(host_pattern), None, None if is_any else _usual(scheme), path)
    return Rule(scheme, _host(host_pattern), None, _port(port_pattern), path)


def _halves(rest: Sequence) -> tuple[Sequence, Sequence]:
    """What stands before the first slash, and from there on."""
    for index, piece in enumerate(rest):
        if isinstance(piece, One) and piece.literal == "/":
            return rest[:index], rest[index:]
    if rest and isinstance(rest[-1], Many):
        if len(rest) == 1:
            return rest, _ANY_PATH
        return rest[:-1], _ANY_PATH
    return rest, (One(frozenset("/")),)


def _named(authority: str, scheme: str) -> tuple[str, int]:
    if "@" in authority:
        raise ValueError("it has a user name in it")
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, str(_usual(scheme))
    if not port.isdecimal():
        raise ValueError("what stands behind the colon is no port")
    try:
        return checked_host(host), int(port)
    except UrlRefused as error:
        raise ValueError(f"it {error}") from None


def _split_port(authority: Sequence) -> tuple[Sequence, Sequence | None]:
    for index, piece in enumerate(authority):
        if isinstance(piece, One) and piece.literal == ":":
            return authority[:index], authority[index + 1 :]
    return authority, None


def _host(pattern: Sequence) -> Sequence:
    """A host with wildcards, in lower case.

    Raises:
        ValueError: it ends with a wildcard, so whoever owns any domain could meet it.
    """
    if any(isinstance(piece, One) and piece.literal in ("@", "?") for piece in pattern):
        raise ValueError("it has a character in its host that no host has")
    is_any_host = all("." in piece.characters for piece in pattern) and pattern != ()
    if not is_any_host and (not pattern or literal_text(pattern[-1:]) is None):
        raise ValueError("its host ends with a wildcard, and so does not say whose host it is")
    return tuple(_lower(piece) for piece in pattern)


def _lower(piece: Piece) -> Piece:
    return type(piece)(frozenset(character.lower() for character in piece.characters))


def _port(pattern: Sequence) -> int | None:
    text = literal_text(pattern)
    if text is not None and text.isdecimal():
        return int(text)
    if all(len(piece.characters) >= 10 for piece in pattern) and pattern:
        return None
    raise ValueError("what stands behind the colon is no port")


def _usual(scheme: str) -> int:
    return DEFAULT_PORTS[scheme]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
