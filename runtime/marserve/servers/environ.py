"""The WSGI environment of an exchange (PEP 3333). Pure but for the byte stream it makes."""

from __future__ import annotations

import io
import sys
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIEnvironment

from marserve.servers.exchange import Exchange

_CLIENTS_OF_UNIX = ("-", "-")


def environ(exchange: Exchange) -> WSGIEnvironment:
    """What a WSGI application sees of an exchange whose body has been read."""
    target = exchange.target.decode("latin-1")
    if target[:7].lower() == "http://":
        target = "/" + target[7:].partition("/")[2]
    path, _, query = target.partition("#")[0].partition("?")
    host, port = _client(exchange.client)
    made: dict[str, Any] = {
        "REQUEST_METHOD": exchange.method.decode("latin-1"),
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
        "QUERY_STRING": query,
        "REQUEST_URI": target,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "443" if exchange.is_secure else "80",
        "SERVER_PROTOCOL": "HTTP/1.1" if exchange.takes_chunks else "HTTP/1.0",
        "REMOTE_ADDR": host,
        "REMOTE_PORT": port,
        "CONTENT_LENGTH": str(len(exchange.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if exchange.is_secure else "http",
        "wsgi.input": io.BytesIO(exchange.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in exchange.headers:
        _add_header(made, name.decode("latin-1"), value.decode("latin-1").strip())
    return made


def _add_header(made: dict[str, Any], name: str, value: str) -> None:
    if "_" in name:
        return  # could pass for a header that is written with a hyphen
    key = name.upper().replace("-", "_")
    if key in ("CONTENT_LENGTH", "TRANSFER_ENCODING", "EXPECT"):
        return  # about the transport, which is done
    if key != "CONTENT_TYPE":
        key = "HTTP_" + key
    made[key] = f"{made[key]}, {value}" if key in made else value


def _client(client: str) -> tuple[str, str]:
    host, colon, port = client.rpartition(":")
    return (host, port) if colon else _CLIENTS_OF_UNIX
