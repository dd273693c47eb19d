"""What a client is told whose bytes could not be read as a request. Pure."""

from __future__ import annotations

from marserve.errors import RequestTooLarge, ShuttingDown
from marserve.protocols.faults import Fault, fault

_WORDS = {
    400: "Invalid HTTP message.",
    408: "The body came too slowly.",
    414: "The request target is too long.",
    417: "Only the expectation 100-continue is understood.",
    431: "The request headers are too large.",
}


def refusal(status: int, max_body_bytes: int) -> Fault:
    """The error for a status that a connection chose."""
    if status == 413:
        return fault(RequestTooLarge(max_body_bytes))
    if status == 503:
        return fault(ShuttingDown("The server is being stopped."))
    return Fault(status, "BadRequestException", _WORDS[status])
