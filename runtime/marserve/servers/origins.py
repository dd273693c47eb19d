"""Which web pages may call a control port. Pure.

A web page must not reach the server through its visitor's browser. Browsers put an `Origin` header
on every cross-site or changing request, so one that carries it is answered only if that origin is
this very host, named by address or as `localhost` (a DNS name could have been pointed here by the
page's owner), or is the one that the operator allows. A request without one that a browser marks
as another site's is refused too.

What is left are requests of a page whose owner has pointed a name of his at this server: for the
browser they stay within one site. Their Host header gives them away, so it must be an address, a
name that nobody outside can own, or one that the operator names. Programs may call the port by
all of these; decision 22 says who is concerned.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from marserve.protocols.faults import Fault

ANY_HOST: Final = "*"
_FOREIGN_PAGE: Final = Fault(
    403,
    "ForbiddenException",
    "Requests from pages of other sites are refused: the Origin header must name this host, by "
    "its address or as localhost, or the origin that cors_allowed_origin names.",
)
_FOREIGN_HOST: Final = Fault(
    403,
    "ForbiddenException",
    "This port asks for no token, so it is not called by names that could be anybody's: use its "
    "address or localhost, or list the name of the Host header in allowed_hosts.",
)
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s/@]+)(?::[0-9]{1,5})?")
_NOBODYS: Final = frozenset({"localhost", "local", "internal", "svc", "test"})
"""Last labels under which nobody can register a name: machines of the same network have them."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What a browser says of a request, and cannot be made to lie about."""

    host: str
    """The Host header; empty: there is none, as no browser sends it."""
    origin: str | None = None
    site: str | None = None
    """Sec-Fetch-Site."""

    @classmethod
    def of(cls, environ: Mapping[str, Any]) -> Caller:
        """Who sent the request of a WSGI environment."""
        return cls(
            environ.get("HTTP_HOST", ""),
            environ.get("HTTP_ORIGIN"),
            environ.get("HTTP_SEC_FETCH_SITE"),
        )


@dataclass(frozen=True, slots=True)
class Doors:
    """By which names a control port is reached, and by which pages."""

    allowed_origin: str | None = None
    """cors_allowed_origin."""
    hosts: Collection[str] | None = ()
    """Names beyond those that are nobody's, in lower case; None: the Host header means nothing,
    because there is a token, which browsers cannot send on a stranger's behalf."""

    def refusal(self, caller: Caller) -> Fault | None:
        """What a stranger's page is told; None: it is none."""
        if self._is_foreign_page(caller):
            return _FOREIGN_PAGE
        if self.hosts is not None and not is_own_host(caller.host, self.hosts):
            return _FOREIGN_HOST
        return None

    def _is_foreign_page(self, caller: Caller) -> bool:
        if caller.origin is not None:
            return not may_call(caller.origin, caller.host, self.allowed_origin)
        return caller.site is not None and caller.site.strip().lower() == "cross-site"


def is_own_host(host: str, names: Collection[str] = ()) -> bool:
    """Whether `host`, a Host header, cannot have been made to mean this machine by a stranger.

    A host is an address, a name of one label, a name under a domain that is nobody's, or one of
    `names`.
    """
    if not host or ANY_HOST in names:
        return True
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1].lower().removesuffix(".")
    if name in names or _is_address(name) or name.endswith(".home.arpa"):
        return True
    _, dot, last = name.rpartition(".")
    return last in _NOBODYS if dot else bool(last) and not last.isdecimal()


def may_call(origin: str, host: str, allowed: str | None) -> bool:
    """Whether a page of `origin` may call what was addressed as `host` (the Host header).

    `allowed`: cors_allowed_origin. `*` allows nobody here: the owner of any page whatsoever could
    then run code on this machine.
    """
    if allowed is not None and origin.lower() == allowed.strip().lower():
        return origin != "*"
    return _is_own(origin, host)


def _is_own(origin: str, host: str) -> bool:
    """Whether a page of `origin` is served by `host` itself, and `host` cannot be re-pointed."""
    if origin.lower().partition("://")[2] != host.lower():
        return False
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return _is_address(name) or name.lower() == "localhost"


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
