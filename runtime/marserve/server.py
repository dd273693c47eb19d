"""The composition root: builds the server from a Config, decides start and stop order.

All ports are bound before anything else happens, so a taken port costs nothing. The stop order is:
no new management, no new requests, what was taken is answered, workers end, the rest.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop

from marserve import __version__
from marserve.config import Address, Config
from marserve.directory import Directory
from marserve.errors import PortInUse
from marserve.events import Bus, Event
from marserve.inference import Inference
from marserve.management import Management
from marserve.observe import logs
from marserve.observe.metrics import Metrics
from marserve.opening import Opener
from marserve.plugins import load_plugins
from marserve.registry.registry import Registry
from marserve.registry.store import ModelStore
from marserve.servers import management as management_app
from marserve.servers import metrics as metrics_app
from marserve.servers.http import HttpServer
from marserve.servers.inference import InferenceFront
from marserve.servers.wsgi import WsgiServer
from marserve.workers.supervisor import Supervisor

_log = logging.getLogger("marserve.server")
_T = TypeVar("_T")

GRACE_S = 30.0
"""How long accepted requests may take to finish once the server is told to stop."""
_MANAGEMENT_THREADS = 32
_METRICS_THREADS = 2
_CONTROL_STOP_S = 2.0
_STATE_FOLDER = "config"


@dataclass(frozen=True, slots=True)
class Ready:
    """The server answers on all its ports."""

    addresses: Mapping[str, str]
    problems: tuple[str, ...]


def serve(config: Config, *, on_ready: Callable[[Ready], None], console: bool = True) -> int:
    """Serve until SIGTERM or SIGINT; must be called from the main thread. Returns the exit code.

    `console`: log lines go to stdout as well as to the files.

    Raises:
        PortInUse, ConfigInvalid: the server cannot start.
    """
    with ExitStack() as stack:
        sockets = _bind(config, stack)
        log = logs.configure(config.log_dir, foreground=console)
        stack.callback(log.close)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Server(config, sockets, log).run(on_ready))
    return 0


class _Server:
    """Everything that runs, while it runs."""

    def __init__(
        self, config: Config, sockets: Mapping[str, socket.socket], log: logs.Logs
    ) -> None:
        self._config = config
        self._sockets = sockets
        self._logs = log

    async def run(self, on_ready: Callable[[Ready], None]) -> None:
        config = self._config
        loop = asyncio.get_running_loop()
        stop = _stop_on_signals(loop)
        bus = Bus()
        logs.AccessLog(bus, self._logs)
        metrics = Metrics(bus, socket.gethostname(), not config.disable_system_metrics)
        supervisor = Supervisor(_worker_environ(config))
        store = ModelStore(config.model_store, config.cache_dir)
        directory = Directory()
        opener = Opener(config, store, load_plugins(), supervisor, bus)
        state = config.log_dir / _STATE_FOLDER if config.snapshots else None
        plane = Management(config, Registry(state), store, opener, directory, bus)
        front = InferenceFront(
            Inference(directory, bus, time.monotonic), bus, time.monotonic, config.max_request_bytes
        )
        inference = HttpServer(
            self._sockets["inference"],
            config.max_request_bytes,
            front.on_request,
            front.on_refused,
        )
        control = self._control_ports(loop, bus, plane, metrics)
        try:
            problems = await plane.start()
            await inference.start()
            for port in control:
                port.start()  # open while models load, so that one can see how they are doing
            addresses = {name: _url(sock) for name, sock in self._sockets.items()}
            for name, url in addresses.items():
                _log.info("%s API bind to: %s", name.capitalize(), url)
            settled = await _unless(stop, plane.settled())
            if settled is not None:
                problems += settled
                for problem in problems:
                    _log.error("%s", problem)
                _log.info("Model server started.")
                on_ready(Ready(addresses, problems))
            await stop.wait()
            _log.info("stopping: accepted requests have %g s to finish", GRACE_S)
        finally:
            try:
                await plane.interrupt()
                await asyncio.to_thread(control[0].stop, _CONTROL_STOP_S)
                await inference.stop(GRACE_S)
                await plane.close(GRACE_S)
            finally:
                await supervisor.close()
                for port in control[1:]:
                    await asyncio.to_thread(port.stop, _CONTROL_STOP_S)
            _log.info("Model server stopped.")

    def _control_ports(
        self,
        loop: asyncio.AbstractEventLoop,
        bus: Bus,
        plane: Management,
        metrics: Metrics,
    ) -> list[WsgiServer]:
        """The management port and, unless it is switched off, the metrics port."""

        def publish(event: Event) -> None:
            loop.call_soon_threadsafe(bus.publish, event)

        def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

        app = management_app.create_app(
            plane, run, publish, __version__, self._config.enable_model_api
        )
        ports = [
            WsgiServer(app, self._sockets["management"], _MANAGEMENT_THREADS, "management", publish)
        ]
        if "metrics" in self._sockets:
            scrape = metrics_app.create_app(metrics.registry, publish)
            sock = self._sockets["metrics"]
            ports.append(WsgiServer(scrape, sock, _METRICS_THREADS, "metrics", publish))
        return ports


def _bind(config: Config, stack: ExitStack) -> dict[str, socket.socket]:
    """All listening sockets, or none.

    Raises:
        PortInUse: an address cannot be bound.
    """
    addresses = {"inference": config.inference, "management": config.management}
    if config.enable_metrics_api:
        addresses["metrics"] = config.metrics
    sockets = {}
    for name, address in addresses.items():
        sockets[name] = stack.enter_context(_listening(name, address))
    return sockets


def _listening(name: str, address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
        sock.listen(2048)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise PortInUse(
            f"{address.url} ({name}_address) cannot be opened: {error.strerror}. "
            f"Stop what listens there, or set another {name}_address."
        ) from error
    return sock


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _stop_on_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a second one ends process and workers at once."""
    stop = asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            sys.stderr.write("marserve: stopped at once.\n")
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    return stop


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """The result of `work`, or None if the server is told to stop before it is there."""
    loop = asyncio.get_running_loop()
    working, stopping = loop.create_task(work), loop.create_task(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    return None


def _worker_environ(config: Config) -> dict[str, str]:
    """The server's environment, less what `blacklist_env_vars` hides from handlers."""
    hidden = config.blacklist_env_vars
    return {k: v for k, v in os.environ.items() if hidden is None or not hidden.fullmatch(k)}
