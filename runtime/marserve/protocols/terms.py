"""What a client says of its request besides its content: until when, how urgent, who asks. Pure.

Clients of gRPC say it in metadata of the same names; `grpc-timeout` comes on top. The shortest of
the times counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from marserve.errors import InvalidInput
from marserve.request import CRITICAL, HIGH, LOW, NORMAL

TIMEOUT: Final = b"x-request-timeout-ms"
ENVOY_TIMEOUT: Final = b"x-envoy-expected-rq-timeout-ms"
DEADLINE: Final = b"x-request-deadline"
PRIORITY: Final = b"x-priority"
CLIENT_ID: Final = b"x-client-id"
NAMES: Final = frozenset({TIMEOUT, ENVOY_TIMEOUT, DEADLINE, PRIORITY, CLIENT_ID})

_LONGEST_MS = 86_400_000
_LONGEST_S = _LONGEST_MS / 1000.0
_SKEW_S = 1.0
"""So far the clocks of client and server may differ."""
_MOMENT = re.compile(rb"[0-9]{1,11}(\.[0-9]{1,9})?")
_CLIENT_ID = re.compile(rb"[!-~]{1,128}")
_PRIORITIES: Final = {
    b"critical": CRITICAL,
    b"high": HIGH,
    b"normal": NORMAL,
    b"low": LOW,
    b"0": CRITICAL,
    b"1": HIGH,
    b"2": NORMAL,
    b"3": LOW,
}


class Terms(NamedTuple):
    """The same for all requests whose heads are the same."""

    timeout_s: float | None = None
    """How long the client waits, from when the request came; None: it does not say."""
    deadline: float | None = None
    """Until when it waits, in seconds since 1970; None: it does not say."""
    priority: int = NORMAL
    client_id: str | None = None

    def ends_at(self, now: float, wall: Callable[[], float]) -> float | None:
        """Until when a request that came at `now` may be answered, by the clock of `now`.

        A deadline that lies in the past by more than clocks may differ, or more than a day ahead,
        says that one of the clocks is wrong, and is ignored.
        """
        left_s = math.inf if self.timeout_s is None else self.timeout_s
        if self.deadline is not None:
            ahead_s = self.deadline - wall()
            if -_SKEW_S <= ahead_s <= _LONGEST_S:
                left_s = min(left_s, ahead_s)
        return None if left_s == math.inf else now + left_s


NO_TERMS: Final = Terms()


def terms(fields: Iterable[tuple[bytes, bytes]], is_trusted: bool) -> Terms | None:
    """What these headers say; None: nothing.

    Args:
        fields: names and values; the first value of a name counts.
        is_trusted: whether to believe how urgent a request is, and who asks.

    Raises:
        InvalidInput: a header cannot be understood that nobody but the client can have written.
    """
    said: dict[bytes, bytes] = {}
    for key, value in fields:
        name = key.lower()
        if name in NAMES:
            said.setdefault(name, value)
    if not said:
        return None
    times_s = (_timeout_s(said.get(TIMEOUT, b"")), _envoy_timeout_s(said.get(ENVOY_TIMEOUT, b"")))
    made = Terms(
        min((one for one in times_s if one is not None), default=None),
        _moment(said.get(DEADLINE, b"")),
        _priority(said.get(PRIORITY, b"")) if is_trusted else NORMAL,
        _client_id(said.get(CLIENT_ID, b"")) if is_trusted else None,
    )
    return None if made == NO_TERMS else made


def _timeout_s(value: bytes) -> float | None:
    if not value:
        return None
    if not value.isdigit() or len(value) > 8 or not 1 <= int(value) <= _LONGEST_MS:
        raise InvalidInput(
            "The header X-Request-Timeout-Ms must be a whole number of milliseconds from 1 to "
            f"{_LONGEST_MS}."
        )
    return int(value) / 1000.0


def _envoy_timeout_s(value: bytes) -> float | None:
    """A proxy writes it, and 0 means that there is no limit; what it cannot mean is ignored."""
    if not value.isdigit() or len(value) > 8 or not 1 <= int(value) <= _LONGEST_MS:
        return None
    return int(value) / 1000.0


def _moment(value: bytes) -> float | None:
    if not value:
        return None
    if not _MOMENT.fullmatch(value):
        raise InvalidInput(
            "The header X-Request-Deadline must be seconds since 1970, as 1767225600.25."
        )
    return float(value)


def _priority(value: bytes) -> int:
    if not value:
        return NORMAL
    found = _PRIORITIES.get(value.lower())
    if found is None:
        raise InvalidInput(
            "The header X-Priority must be critical, high, normal or low, or a number from 0 to 3."
        )
    return found


def _client_id(value: bytes) -> str | None:
    if not value:
        return None
    if not _CLIENT_ID.fullmatch(value):
        raise InvalidInput(
            "The header X-Client-Id must be 1 to 128 visible characters, without blanks."
        )
    return value.decode("ascii")


def share_of(terms: Terms | None, client: str) -> str:
    """For whom a request counts where clients share: who it says, else where it comes from.

    `client`: `host:port`. On this machine every connection is one of its own; elsewhere all
    connections of a host are one, or whoever opened more would get more.
    """
    if terms is not None and terms.client_id is not None:
        return f"id {terms.client_id}"
    host, _, _ = client.rpartition(":")
    is_here = host.startswith("127.") or host in ("::1", "[::1]", "")
    return client if is_here else host
