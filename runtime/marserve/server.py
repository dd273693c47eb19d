"""The composition root: builds the server from a Config, decides start and stop order.

All ports are bound before anything else happens, so a taken port costs nothing. The stop order is:
no new management, no new requests, what was taken is answered, workers end, the rest.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from marserve import __version__
from marserve.change_gate import ChangeGate
from marserve.config import Config
from marserve.config_dump import Surroundings, config_dump
from marserve.config_source import STATE_FOLDER
from marserve.directory import Directory
from marserve.events import Bus
from marserve.foreign_settings import TORCHSERVE_VERSION
from marserve.handover import Handover
from marserve.health import Health
from marserve.heap import keep_freed_memory
from marserve.inference import Inference
from marserve.management import Management
from marserve.observe import logs
from marserve.observe.observers import Observers
from marserve.opening import Opener
from marserve.pipelines.workflows import Workflows
from marserve.plugins import load_plugins
from marserve.registry.registry import Registry
from marserve.registry.sources.allowed import AllowedUrls
from marserve.registry.sources.fetcher import Fetcher
from marserve.registry.sources.landing import Limits
from marserve.registry.sources.s3 import Credentials
from marserve.registry.store import ModelStore
from marserve.registry.trust import Rules
from marserve.servers.inherited import Inherited
from marserve.servers.port_tokens import PortTokens, static_keys
from marserve.servers.ports import Ports, Served
from marserve.service_manager import ServiceManager
from marserve.succession import Offer, Predecessor, SuccessionFailed
from marserve.workers import layers
from marserve.workers.accelerators import count_gpus
from marserve.workers.devices import Devices
from marserve.workers.environments import Environments
from marserve.workers.handler_environ import hidden_from_workers, worker_environ
from marserve.workers.supervisor import Supervisor

_log = logging.getLogger("marserve.server")
_T = TypeVar("_T")

_YOUNG_OBJECTS = 10_000
"""How many new objects there may be before the garbage collector looks among them."""
_BLOCKING_THREADS = 64
"""For disks and downloads; they are made when needed. asyncio's own number depends on the cores,
and on few of them some slow downloads would hold up every write of the registry."""
_SNAPSHOT_FOLDER = "config"
_GRPC_PORTS = ("grpc_inference", "grpc_management")


@dataclass(frozen=True, slots=True)
class Ready:
    """The server answers on all its ports."""

    addresses: Mapping[str, str]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What an operator should know, as where the keys are."""


def serve(
    config: Config,
    *,
    on_ready: Callable[[Ready], None],
    console: bool = True,
    predecessor: Predecessor | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; must be called from the main thread. Returns the exit code.

    `console`: log lines go to stdout as well as to the files. `predecessor`: the server to take
    over from, once everything serves here that serves there.

    Raises:
        PortInUse, ConfigInvalid: the server cannot start.
        SuccessionFailed: it cannot take over.
    """
    layers.require(config.sandbox)
    keep_freed_memory()
    manager = ServiceManager(os.environ)
    with ExitStack() as stack:
        tokens = PortTokens(config, Path.cwd(), static_keys(config))
        if predecessor is None:
            passed = [("", sock) for sock in manager.sockets()]
            inherited = Inherited(passed, is_kept=bool(passed))
        else:
            inherited = Inherited(predecessor.sockets, is_kept=predecessor.offer.is_kept)
            tokens.adopt(predecessor.offer.keys)
        ports = Ports(config, stack, tokens, inherited)
        ports.is_shared = ports.is_kept or predecessor is not None
        log = logs.configure(config.log_dir, console, config.metrics_log_dir)
        stack.callback(log.close)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            one = _Server(config, ports, tokens, log, manager, predecessor)
            runner.run(one.run(on_ready))
    return 0


class _Server:
    """Everything that runs, while it runs."""

    def __init__(
        self,
        config: Config,
        ports: Ports,
        tokens: PortTokens,
        log: logs.Logs,
        manager: ServiceManager,
        predecessor: Predecessor | None,
    ) -> None:
        self._config = config
        self._ports = ports
        self._tokens = tokens
        self._logs = log
        self._manager = manager
        self._predecessor = predecessor
        self._is_started = False
        self._owns_state = predecessor is None
        """Whether what is written for the next start is this process's to write."""

    async def run(self, on_ready: Callable[[Ready], None]) -> None:
        config = self._config
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_BLOCKING_THREADS, "blocking"))
        stop = _stop_on_signals(loop)

        def is_stopping() -> bool:
            return stop.is_set() and self._owns_state  # a successor is as ready as this one was

        bus = Bus()
        observers = Observers(bus, config, self._logs, socket.gethostname())
        observers.start()
        supervisor = Supervisor(worker_environ(config, os.environ))
        fetcher = _fetcher(config)
        store = ModelStore(config.model_store, config.cache_dir, fetcher, _rules(config))
        directory = Directory()
        devices = Devices(await asyncio.to_thread(count_gpus, config.number_of_gpu))
        environments = Environments(
            config.cache_dir, {**supervisor.environ, **supervisor.guard.environ}
        )
        opener = Opener(config, store, load_plugins(), supervisor, devices, environments, bus)
        state = config.log_dir / STATE_FOLDER if config.snapshots else None
        snapshots = config.log_dir / _SNAPSHOT_FOLDER if config.snapshots else None
        gate = ChangeGate()
        registry = Registry(state, snapshots, config.properties)
        plane = Management(config, registry, store, opener, directory, bus, gate)
        data = Inference(directory, bus, time.monotonic, is_stopping)
        workflows = Workflows(
            plane,
            data.infer,
            _workflow_store(config, store, fetcher),
            state,
            config.unregister_model_timeout_s,
            keeps=not config.snapshot_is_last_run,
            gate=gate,
        )
        health = Health(directory, lambda: self._is_started, is_stopping)
        served = Served(bus, data, directory, health, plane, workflows, observers.registry)
        gpus = devices.count
        for line in config_dump(config, _surroundings(gpus)):
            _log.info("%s", line)
        if hidden := hidden_from_workers(config, os.environ):
            _log.info("Hidden from workers (worker_env_allow): %s", ", ".join(sorted(hidden)))
        handover = self._handover(gate, directory, stop)
        if self._predecessor is not None:
            self._predecessor.watch(stop.set)
        try:
            if self._predecessor is None:
                self._tokens.start()
            problems = await plane.start()
            problems += await workflows.start()
            if self._predecessor is None:  # while models load: one can see how they are doing
                await self._ports.start(served)
            settled = await _unless(stop, plane.settled())
            if settled is not None:
                problems += settled
                for problem in problems:
                    _log.error("%s", problem)
                if self._predecessor is not None:
                    await self._take_over(self._predecessor, directory, served)
                _spare_the_collector()
                self._is_started = True
                _log.info("Model server started.")
                handover.open()
                on_ready(Ready(self._ports.addresses, problems, self._tokens.notes))
                self._manager.ready()
            elif self._predecessor is not None:
                self._predecessor.check()
            await stop.wait()
            handover.close()  # nobody takes over from a server that was told to stop
            await self._go_on_accepting()
        finally:
            try:
                fetcher.close()
                handover.close()
                await self._stop(plane)
            finally:
                environments.close()
                await supervisor.close()
                await self._ports.stop_metrics()
                observers.close()
                if self._owns_state:
                    self._tokens.stop()
            _log.info("Model server stopped.")

    async def _take_over(
        self, predecessor: Predecessor, directory: Directory, served: Served
    ) -> None:
        """Answer on all ports, and have the server before this one accept no more.

        Raises:
            SuccessionFailed: it serves what cannot be served here, or is being stopped.
        """
        ready = {str(one.ref) for one in directory if one.ready_workers}
        missing = sorted(set(predecessor.offer.serving) - ready)
        if missing:
            raise SuccessionFailed(f"What serves there does not here: {', '.join(missing)}.")
        await self._ports.start(served)
        predecessor.succeed()
        self._owns_state = True
        self._ports.is_shared = self._ports.is_kept
        self._tokens.start()
        _log.info("took over from process %d", predecessor.pid)

    def _handover(self, gate: ChangeGate, directory: Directory, stop: asyncio.Event) -> Handover:
        """What lets a successor take over from this server."""

        def offer() -> Offer:
            return Offer(
                [*self._ports.sockets],
                [str(one.ref) for one in directory if one.ready_workers],
                self._ports.is_kept,
                self._tokens.document(),
            )

        def begun(is_on: bool) -> None:
            self._tokens.freeze(is_on)
            if is_on:
                self._manager.reloading()
            elif not stop.is_set():
                self._manager.ready()

        def done(pid: int) -> None:
            self._owns_state = False
            self._ports.is_shared = True
            self._manager.succeeded_by(pid)
            stop.set()

        sockets = self._ports.sockets
        return Handover(self._config.log_dir, gate, lambda: sockets, offer, begun, done)

    async def _go_on_accepting(self) -> None:
        """Give whoever sends requests here the time to see that they should go elsewhere."""
        delay_s = self._config.pre_drain_s
        if self._owns_state:
            self._manager.stopping()
        if delay_s and self._owns_state:
            _log.info("stopping: not ready any more, and accepting for %d s (pre_drain)", delay_s)
            await asyncio.sleep(delay_s)

    async def _stop(self, plane: Management) -> None:
        """No new management, no new requests; what was taken is answered; workers end."""
        grace_s = float(self._config.drain_timeout_s)
        deadline = time.monotonic() + grace_s
        _log.info("stopping: accepted requests have %g s to finish (drain_timeout)", grace_s)
        await plane.interrupt()
        await asyncio.gather(self._ports.stop_management(), self._ports.drain_inference(grace_s))
        await self._ports.cut_inference()
        await plane.close(max(0.0, deadline - time.monotonic()), records=self._owns_state)


def _fetcher(config: Config) -> Fetcher:
    allowed, sentences = AllowedUrls.understood(config.allowed_urls)
    for sentence in sentences:
        _log.warning("%s", sentence)
    limits = Limits(config.max_archive_bytes, total_s=config.download_timeout_s)
    return Fetcher(allowed, limits, credentials=Credentials.of(os.environ))


def _workflow_store(config: Config, models: ModelStore, fetcher: Fetcher) -> ModelStore:
    """The folder of workflows: that of the models, unless the configuration names another."""
    if config.workflow_store is None or config.workflow_store == config.model_store:
        return models
    return ModelStore(config.workflow_store, config.cache_dir, fetcher, _rules(config))


def _rules(config: Config) -> Rules:
    if config.trusted_keys and not config.require_signed:
        _log.warning("trusted_keys has no effect: signatures are read only with require_signed")
    return Rules(config.require_signed, config.trusted_keys, config.require_pins)


def _surroundings(gpus: int) -> Surroundings:
    return Surroundings(
        version=f"{TORCHSERVE_VERSION} (MarServe {__version__})",
        home=Path(__file__).parent,
        cwd=Path.cwd(),
        temp_dir=Path(tempfile.gettempdir()),
        gpus=gpus,
        cpus=os.cpu_count() or 1,
        python=sys.executable,
    )


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


def _spare_the_collector() -> None:
    """What is there when the server starts stays: the garbage collector need not look at it again.

    A full collection would hold up every request for tens of milliseconds. Requests leave next to
    no cycles behind, so looking for them less often costs little memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


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
