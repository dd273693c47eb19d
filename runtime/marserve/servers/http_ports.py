"""The HTTP ports of a server: which of them share a listener, and what carries each.

The inference port is always on the event loop. A management or metrics port of its own that speaks
plain HTTP over TCP is carried by waitress, in threads. One with TLS, on a unix socket or on a port
that it shares is carried by the event loop too, behind a bridge. All methods run on the loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from wsgiref.types import WSGIApplication

from marserve.addresses import Address
from marserve.servers.bridge import WsgiBridge
from marserve.servers.http import HttpServer
from marserve.servers.room import Room
from marserve.servers.shared import Front, SharedFront
from marserve.servers.wsgi import Publish, WsgiServer
from marserve.servers.wsgi_channel import MAX_BODY_BYTES

INFERENCE: Final = "inference"
MANAGEMENT: Final = "management"
METRICS: Final = "metrics"
_THREADS: Final = {MANAGEMENT: 32, METRICS: 2}


class HttpPort(Protocol):
    """One listener."""

    names: frozenset[str]
    """The APIs that it serves."""

    async def start(self) -> None:
        """Begin to answer."""

    async def drain(self, grace_s: float, *, is_shared: bool = False) -> None:
        """Accept no more, and wait until what runs has finished, `grace_s` at most.

        `is_shared`: another process goes on with the listening socket.
        """

    async def cut(self) -> None:
        """Refuse what is left, and close all connections."""


@dataclass(frozen=True, slots=True)
class Apis:
    """What the ports serve."""

    inference: Front
    apps: Mapping[str, WSGIApplication]
    """By name: management, and metrics unless it is switched off."""
    publish: Publish
    """Takes an event from any thread."""
    room: Room | None = None
    """For the connections that the event loop carries."""
    control_connections: int = 100
    """What each port in threads may have."""


def http_ports(
    addresses: Mapping[str, Address],
    sockets: Mapping[str, socket.socket],
    max_request_bytes: int,
    apis: Apis,
    tls: ssl.SSLContext | None,
) -> list[HttpPort]:
    """One port for each listener; names that share a socket share the port."""
    names_by_socket: dict[socket.socket, list[str]] = {}
    for name in addresses:
        names_by_socket.setdefault(sockets[name], []).append(name)
    ports: list[HttpPort] = []
    for sock, names in names_by_socket.items():
        address = addresses[names[0]]
        if len(names) == 1 and address.scheme == "http" and names[0] != INFERENCE:
            [name] = names
            server = WsgiServer(
                apis.apps[name],
                sock,
                _THREADS[name],
                name,
                apis.publish,
                apis.control_connections,
            )
            ports.append(_ThreadedPort(name, server))
        else:
            context = tls if address.is_tls else None
            ports.append(_LoopPort(names, sock, max_request_bytes, apis, context))
    return ports


class _ThreadedPort:
    """A port that waitress carries."""

    def __init__(self, name: str, server: WsgiServer) -> None:
        self.names = frozenset({name})
        self._server = server

    async def start(self) -> None:
        self._server.start()

    async def drain(self, grace_s: float, *, is_shared: bool = False) -> None:
        await asyncio.to_thread(self._server.stop, grace_s, is_shared=is_shared)

    async def cut(self) -> None:
        """There is nothing left after `drain`."""


class _LoopPort:
    """A port that the event loop carries."""

    def __init__(
        self,
        names: list[str],
        sock: socket.socket,
        max_request_bytes: int,
        apis: Apis,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.names = frozenset(names)
        limit = max_request_bytes if INFERENCE in names else MAX_BODY_BYTES
        self._bridges = {
            name: WsgiBridge(apis.apps[name], _THREADS[name], name, apis.publish, limit)
            for name in names
            if name != INFERENCE
        }
        front = _front(apis.inference if INFERENCE in names else None, self._bridges)
        self._server = HttpServer(
            sock, limit, front.on_request, front.on_refused, tls=tls, room=apis.room
        )

    async def start(self) -> None:
        await self._server.start()

    async def drain(self, grace_s: float, *, is_shared: bool = False) -> None:
        await self._server.drain(grace_s, is_shared=is_shared)

    async def cut(self) -> None:
        await self._server.cut()
        for bridge in self._bridges.values():
            bridge.close()


def _front(inference: Front | None, bridges: Mapping[str, WsgiBridge]) -> Front:
    fronts: list[Front] = ([inference] if inference else []) + list(bridges.values())
    if len(fronts) == 1:
        return fronts[0]
    return SharedFront(fronts[0], bridges.get(MANAGEMENT), bridges.get(METRICS))
