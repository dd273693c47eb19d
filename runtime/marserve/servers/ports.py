"""All ports of a server, HTTP and gRPC: bound together, started together, stopped in order.

What changes models stops first, what answers predictions drains next, and what tells how that goes
stops last. Methods run on the event loop, but for `bind`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from socket import gethostname
from typing import TYPE_CHECKING, Any, Final, TypeVar
from wsgiref.types import WSGIApplication

from prometheus_client.registry import Collector

from marserve import __version__
from marserve.addresses import Address
from marserve.config import Config
from marserve.directory import Directory
from marserve.events import Bus, Event
from marserve.health import Health
from marserve.inference import Inference
from marserve.pipelines.workflows import Workflows
from marserve.protocols.cors import Cors
from marserve.servers import descriptors
from marserve.servers import management as management_app
from marserve.servers import metrics as metrics_app
from marserve.servers.about import About
from marserve.servers.control_plane import ControlPlane
from marserve.servers.http_ports import INFERENCE, MANAGEMENT, METRICS, Apis, HttpPort, http_ports
from marserve.servers.inference import FrontOptions, InferenceFront
from marserve.servers.inherited import Inherited
from marserve.servers.listeners import listening, url_of
from marserve.servers.origins import Doors
from marserve.servers.port_tokens import PortTokens
from marserve.servers.reservation import reserved
from marserve.servers.room import Room
from marserve.servers.tls import Tls, TlsFiles

if TYPE_CHECKING:
    from marserve.servers.grpc import GrpcPort

_log = logging.getLogger("marserve.servers")
_T = TypeVar("_T")

_GRPC: Final = ("grpc_inference", "grpc_management")
_CONTROL_STOP_S = 2.0
_CERTIFICATE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """What the ports give access to."""

    bus: Bus
    inference: Inference
    directory: Directory
    health: Health
    plane: ControlPlane
    workflows: Workflows
    metrics: Collector


class Ports:
    """Every listener of one server."""

    def __init__(
        self,
        config: Config,
        stack: ExitStack,
        tokens: PortTokens,
        inherited: Inherited | None = None,
    ) -> None:
        """Binds everything, or nothing; `stack` closes the sockets.

        `inherited` listens for some of the ports already.

        Raises:
            PortInUse: an address cannot be bound.
            ConfigInvalid: certificate and key cannot be used.
        """
        self._config = config
        self._tokens = tokens
        self._addresses = _http_addresses(config)
        inherited = inherited or Inherited()
        self.is_kept = inherited.is_kept
        """Whoever started this process keeps the sockets open."""
        self.is_shared = inherited.is_kept
        """Another process goes on with the sockets."""
        self.sockets: Mapping[str, socket.socket] = _bind(
            config, self._addresses, stack, inherited, lambda: self.is_shared
        )
        """What listens, by name; equal addresses share one."""
        for left in inherited.close():
            _log.warning("A socket at %s was passed to this process; no port uses it.", left)
        self._tls = _tls(config, self._addresses)
        self.addresses: Mapping[str, str] = self._urls()
        """Where each API is, by name."""
        self._descriptors = descriptors.raise_limit()
        self._room = Room(
            config.max_connections or descriptors.for_clients(self._descriptors),
            config.max_connections_per_client,
        )
        self._http: list[HttpPort] = []
        self._grpc: list[GrpcPort] = []
        self._reload: asyncio.TimerHandle | None = None

    async def start(self, served: Served) -> None:
        """Answer on all ports from now on."""
        self._http = self._http_ports(served)
        for port in self._http:
            await port.start()
        self._grpc = self._grpc_ports(served)
        for grpc_port in self._grpc:
            grpc_port.room = self._room
            await grpc_port.start()
        if self._tls is not None:
            for warning in self._tls.warnings:
                _log.warning("%s", warning)
            self._look_at_certificate()
        for name, url in self.addresses.items():
            shown = name.replace("grpc_", "gRPC ") if name in _GRPC else name.capitalize()
            _log.info("%s API bind to: %s", shown, url)

    async def stop_management(self) -> None:
        """Take no more changes of models, where that has a port of its own."""
        for grpc_port in self._grpc[1:]:
            await grpc_port.stop(_CONTROL_STOP_S, is_shared=self.is_shared)
        for port in self._http:
            if MANAGEMENT in port.names and INFERENCE not in port.names:
                await self._stop(port)

    async def drain_inference(self, grace_s: float) -> None:
        """Take no more requests, and wait until those that run are answered, `grace_s` at most."""
        ports = [port for port in self._http if INFERENCE in port.names]
        await asyncio.gather(
            *(port.drain(grace_s, is_shared=self.is_shared) for port in ports),
            *(port.drain(grace_s, is_shared=self.is_shared) for port in self._grpc[:1]),
        )

    async def cut_inference(self) -> None:
        """Refuse the requests that are left, and close all connections."""
        ports = [port for port in self._http if INFERENCE in port.names]
        await asyncio.gather(
            *(port.cut() for port in ports), *(port.cut() for port in self._grpc[:1])
        )

    async def stop_metrics(self) -> None:
        """Stop what is left."""
        if self._reload is not None:
            self._reload.cancel()
        for port in self._http:
            if port.names == {METRICS}:
                await self._stop(port)

    async def _stop(self, port: HttpPort) -> None:
        await port.drain(_CONTROL_STOP_S, is_shared=self.is_shared)
        await port.cut()

    def _urls(self) -> dict[str, str]:
        http = {
            name: url_of(address, self.sockets[name]) for name, address in self._addresses.items()
        }
        return http | {
            name: _grpc_url(self.sockets[name]) for name in _GRPC if name in self.sockets
        }

    # --- HTTP -------------------------------------------------------------------------------------

    def _http_ports(self, served: Served) -> list[HttpPort]:
        config = self._config
        loop = asyncio.get_running_loop()

        def publish(event: Event) -> None:
            loop.call_soon_threadsafe(served.bus.publish, event)

        def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

        cors = Cors(
            config.cors_allowed_origin, config.cors_allowed_methods, config.cors_allowed_headers
        )
        apps: dict[str, WSGIApplication] = {
            MANAGEMENT: management_app.create_app(
                served.plane,
                served.workflows,
                run,
                publish,
                __version__,
                config.enable_model_api,
                self._tokens.authorize(MANAGEMENT),
                self._tokens.renew if self._tokens.has_keys else None,
                cors,
                self._doors(MANAGEMENT),
                is_described=not config.token_for_metrics,
            )
        }
        if METRICS in self._addresses:
            apps[METRICS] = metrics_app.create_app(
                served.metrics,
                publish,
                __version__,
                self._tokens.authorize(METRICS),
                self._doors(METRICS),
            )
        return http_ports(
            self._addresses,
            self.sockets,
            config.max_request_bytes,
            Apis(
                self._inference_front(served, cors),
                apps,
                publish,
                self._room,
                descriptors.for_control(self._descriptors),
            ),
            self._tls.context if self._tls else None,
        )

    def _doors(self, port: str) -> Doors:
        """Which pages may call a control port, and by which names."""
        config, address = self._config, self._addresses[port]
        # no browser connects to a unix socket; and metrics that were opened to other machines are
        # scraped by whatever names those have
        is_any = address.is_unix or (port == METRICS and not address.is_loopback)
        if is_any or self._tokens.authorize(port) is not None:
            return Doors(config.cors_allowed_origin, None)
        return Doors(config.cors_allowed_origin, (*config.allowed_hosts, gethostname().lower()))

    def _inference_front(self, served: Served, cors: Cors) -> InferenceFront:
        config, directory = self._config, served.directory
        oip = config.open_inference_protocol
        authorize = self._tokens.authorize(INFERENCE)
        return InferenceFront(
            served.inference,
            About(served.inference, directory, served.health, __version__, oip),
            served.bus,
            time.monotonic,
            FrontOptions(
                config.max_request_bytes,
                cors,
                oip,
                authorize,
                self._tokens.trusts_clients(INFERENCE),
            ),
            directory.only_startup_model,
            served.workflows,
        )

    # --- gRPC -------------------------------------------------------------------------------------

    def _grpc_ports(self, served: Served) -> list[GrpcPort]:
        """The inference and the management port, or none if gRPC is switched off."""
        config = self._config
        if not config.enable_grpc_api:
            return []
        # costs a tenth of a second, which passes while workers load; and nothing when switched off
        from marserve.servers import grpc

        certificate = self._tls if config.enable_grpc_ssl else None
        sockets = [self.sockets[name] for name in _GRPC]
        tokens = [self._tokens.authorize(name) for name in _GRPC]
        plane, bus, clock = served.plane, served.bus, time.monotonic

        def is_ready() -> bool:
            return served.health.server().is_ready

        return [
            grpc.inference_port(
                sockets[0],
                served.inference,
                is_ready,
                plane,
                bus,
                clock,
                config,
                tokens[0],
                certificate,
                self._tokens.trusts_clients("grpc_inference"),
            ),
            grpc.management_port(sockets[1], plane, bus, clock, config, tokens[1], certificate),
        ]

    # --- certificates -----------------------------------------------------------------------------

    def _look_at_certificate(self) -> None:
        """Take up a renewed certificate without a restart."""
        assert self._tls is not None
        self._tls.reload_if_changed()
        loop = asyncio.get_running_loop()
        self._reload = loop.call_later(_CERTIFICATE_EVERY_S, self._look_at_certificate)


def _http_addresses(config: Config) -> dict[str, Address]:
    addresses = {INFERENCE: config.inference, MANAGEMENT: config.management}
    if config.enable_metrics_api:
        addresses[METRICS] = config.metrics
    return addresses


def _bind(
    config: Config,
    addresses: Mapping[str, Address],
    stack: ExitStack,
    inherited: Inherited,
    is_shared: Callable[[], bool],
) -> dict[str, socket.socket]:
    """All listening sockets, or none; equal addresses share one."""
    sockets: dict[str, socket.socket] = {}
    for name, address in addresses.items():
        same = [other for other in sockets if address.is_same_port(addresses[other])]
        if same:
            sockets[name] = sockets[same[0]]
            continue
        former = inherited.take(name, address)
        sockets[name] = stack.enter_context(listening(name, address, former, is_shared))
    if config.enable_grpc_api:
        hosts = (config.grpc_inference_host, config.grpc_management_host)
        numbers = (config.grpc_inference_port, config.grpc_management_port)
        for name, host, number in zip(_GRPC, hosts, numbers, strict=True):
            former = inherited.take(name, Address(host, number))
            sockets[name] = stack.enter_context(former or reserved(name, host, number))
    return sockets


def _tls(config: Config, addresses: Mapping[str, Address]) -> Tls | None:
    """Certificate and key, if any port speaks TLS."""
    is_needed = any(address.is_tls for address in addresses.values())
    if not is_needed and not (config.enable_grpc_api and config.enable_grpc_ssl):
        return None
    return Tls(
        TlsFiles(
            config.certificate_file, config.private_key_file, config.keystore, config.keystore_pass
        )
    )


def _grpc_url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"grpc://[{host}]:{port}" if ":" in host else f"grpc://{host}:{port}"
