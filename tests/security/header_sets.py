"""Headers that a hostile or careless handler might set, and what a strict client makes of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import h11

from marserve.protocols.heads import Heads
from marserve.request import Answer

OURS = frozenset(
    {
        "cache-control", "connection", "content-length", "date", "expires", "keep-alive", "pragma",
        "proxy-authenticate", "proxy-authentication-info", "proxy-authorization",
        "proxy-connection", "server", "te", "trailer", "transfer-encoding", "upgrade",
        "x-request-id",
    }
)  # fmt: skip
"""What says how the answer is sent, and is the server's to say."""
_BODY = b"12345"
_HEADS = Heads()
_NAMES = (
    "Content-Type", "X-Model", "Set-Cookie", "x_y", "Link", "content-disposition", "x" * 60,
    "x" * 200,
    "", " ", "X Y", "X:", ":X", "X\r\n", "X\r\nInjected: 1\r\nY", "X\x00", "\xe9", "\u20ac", "(X)",
    "Content-Length ", " Content-Length", "Content-Length:", "Content_Length", *sorted(OURS),
    "TRANSFER-ENCODING", "Content-LENGTH", "Connection",
)  # fmt: skip
_VALUES = (
    "application/json", "1", "a, b", "", " padded ", "\ttab", "caf\xe9", "v" * 300, "v" * 9000, "5",
    "chunked", "close", "a\r\nInjected: 1", "a\nInjected: 1", "a\rb", "a\x00b", "\x7f", "\x1b[2J",
    "\u20ac", "a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "\r\n", "\n", "\x85", "\x0b", "\u2028", "a\r\n b",
)  # fmt: skip
_PHRASES = (None, None, None, "Fine", "", "a\r\nX: y", "\x00", "caf\xe9", "x" * 300)
_STATUSES = (200, 200, 200, 201, 404, 503, 299, 599, 99, 600, 0, -1)
_COUNTS = (0, 1, 1, 1, 2, 3, 70)


def sets(
    count: int, dice: random.Random
) -> Iterator[tuple[list[tuple[str, str]], int, str | None]]:
    """So many sets of headers, each with a status and a phrase."""
    for _ in range(count):
        headers = [(dice.choice(_NAMES), dice.choice(_VALUES)) for _ in range(dice.choice(_COUNTS))]
        yield headers, dice.choice(_STATUSES), dice.choice(_PHRASES)


def seen_by_a_strict_client(
    headers: list[tuple[str, str]], status: int, phrase: str | None
) -> list[tuple[str, str]]:
    """The headers that come out besides the server's own, names in lower case.

    Raises:
        HandlerFailed: nothing goes out.
        h11.RemoteProtocolError: what goes out is not HTTP.
    """
    head = _HEADS.answer(Answer(_BODY, status, phrase, headers), "id-1", True)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(head + _BODY)
    response, data, end = client.next_event(), client.next_event(), client.next_event()
    assert isinstance(response, h11.Response), response
    assert response.status_code == status
    assert isinstance(data, h11.Data), data
    assert (bytes(data.data), type(end)) == (_BODY, h11.EndOfMessage)
    assert client.trailing_data == (b"", False)
    found = [(name.decode(), value.decode("latin-1")) for name, value in response.headers]
    return [one for one in found if one[0] not in OURS]
