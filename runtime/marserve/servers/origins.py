"""Which web pages may call a control port. Pure.

A web page must not reach the server through its visitor's browser. Browsers put an `Origin` header
on every cross-site or changing request, so one that carries it is answered only if that origin is
this very host, named by address or as `localhost` (a DNS name could have been pointed here by the
page's owner), or is the one that the operator allows. Programs send no `Origin` and are not
concerned.
"""

from __future__ import annotations

from ipaddress import ip_address


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
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return name.lower() == "localhost"
    return True
