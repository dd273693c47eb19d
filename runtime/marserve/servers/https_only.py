"""The answer of a TLS port to a request in plain HTTP."""

from __future__ import annotations

import uuid

from marserve.protocols.faults import torchserve_json
from marserve.protocols.heads import Heads
from marserve.servers.exchange import Exchange

_BODY = torchserve_json({"status": "This MarServe instance only accepts HTTPS requests"})


def refuse_plain(exchange: Exchange) -> None:
    """Say which protocol is spoken here, whatever was asked, and end the connection."""
    exchange.keep_alive = False
    headers = [("content-type", "application/json")]
    head = Heads().any(403, headers, str(uuid.uuid4()), len(_BODY), keep_alive=False)
    exchange.respond(head, _BODY)
