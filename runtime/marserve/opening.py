"""From an archive in the model store to a deployment. Blocking work runs in threads."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass

from marserve.available_memory import available_bytes, total_bytes
from marserve.batching.quota import Quota
from marserve.config import Config, ModelOverrides
from marserve.deployment import Deployment, Origin
from marserve.errors import ArchiveRefused, InvalidInput, LoadFailed
from marserve.events import Bus
from marserve.headroom import Headroom
from marserve.intake import Shared
from marserve.model_version import SequenceHeaders, Settings
from marserve.plugins import Plugins
from marserve.protocols.management import Registration
from marserve.refs import ModelRef, checked_ref, name_from_file
from marserve.registry import model_config, yaml_document
from marserve.registry.model_config import ModelConfig, TorchRun
from marserve.registry.precedence import Sources, decide
from marserve.registry.store import ModelStore, Unpacked
from marserve.workers import layers
from marserve.workers.confinement import confinement
from marserve.workers.cores import available_cores, available_processors
from marserve.workers.devices import Devices
from marserve.workers.environments import Environment, Environments
from marserve.workers.launched import Launcher, Ports, is_installed
from marserve.workers.load_gate import LoadGate
from marserve.workers.messages import Confinement, Load
from marserve.workers.recycling import WearLimits
from marserve.workers.supervisor import Supervisor
from marserve.workers.thread_share import thread_share
from marserve.workers.torchrun import IN_RANKS, TORCHRUN_LOGS, CpuLaunch, TorchRunLaunch, split
from marserve.workers.worker import WorkerPlan

_log = logging.getLogger("marserve.registry")
_ROOM_FOR_HEADERS_BYTES = 1 << 20
_IN_FLIGHT_ASYNC = 1000
"""Requests that one worker with an asynchronous handler may have at a time; more wait here."""


@dataclass(frozen=True, slots=True)
class Found:
    """An archive, unpacked, and what it says about itself."""

    url: str
    unpacked: Unpacked
    yaml: ModelConfig


class Opener:
    """Finds archives, decides their settings, and builds deployments; owns none of them."""

    def __init__(
        self,
        config: Config,
        store: ModelStore,
        plugins: Plugins,
        supervisor: Supervisor,
        devices: Devices,
        environments: Environments,
        bus: Bus,
    ) -> None:
        self._config = config
        self._store = store
        self._plugins = plugins
        self._supervisor = supervisor
        self._bus = bus
        self._devices = devices
        self._environments = environments
        self._ids = itertools.count(config.initial_worker_port)
        self._ports = Ports(config.initial_distribution_port)
        self._cores = available_cores()
        self._load_gate = LoadGate(max(1, self._cores // 2))
        self._processors = available_processors()
        headroom = Headroom(total_bytes(), available_bytes, config.min_available_bytes)
        per_s = config.client_requests_per_second
        self._shared = Shared(headroom, Quota(per_s) if per_s else None)

    async def find(
        self,
        url: str,
        s3_sse_kms: bool = False,
        *,
        again: bool = False,
        sha256: str | None = None,
    ) -> Found:
        """The archive that `url` names, fetched if it is elsewhere, verified and unpacked.

        Args:
            url: a name in the model store, or a url that the configuration allows.
            s3_sse_kms: the request is signed for S3.
            again: it was registered by an earlier run of the server.
            sha256: the digest that it must have.

        Raises:
            StoreMissing, ArchiveNotFound, ArchiveRefused, InvalidInput, DownloadFailed, DiskFull,
            ArchiveExistsInStore: it cannot be used.
        """
        return await asyncio.to_thread(self._find, url, s3_sse_kms, again, sha256)

    def _find(self, url: str, s3_sse_kms: bool, again: bool, sha256: str | None) -> Found:
        path = self._store.fetch(url, s3_sse_kms, again=again, sha256=sha256)
        unpacked = self._store.unpack(path, sha256)
        manifest = unpacked.manifest
        if manifest.runtime not in ("python", "python3"):
            raise ArchiveRefused(
                f"The archive {url} is for the runtime {manifest.runtime}; only python is served."
            )
        if manifest.config_file is None:
            return Found(url, unpacked, ModelConfig())
        path = unpacked.model_dir / manifest.config_file
        if not path.is_file():
            raise ArchiveRefused(f"The archive {url} names {manifest.config_file}, but lacks it.")
        try:
            with path.open("rb") as file:
                text = file.read(yaml_document.MAX_BYTES + 1)
        except OSError as error:
            raise ArchiveRefused(
                f"{manifest.config_file} of {url} cannot be read: {error}."
            ) from error
        if len(text) > yaml_document.MAX_BYTES:
            raise ArchiveRefused(
                f"{manifest.config_file} of {url} is larger than {yaml_document.MAX_BYTES} bytes."
            )
        yaml, warnings = model_config.parse(text)
        for warning in warnings:
            _log.warning("%s of %s: %s", manifest.config_file, url, warning)
        return Found(url, unpacked, yaml)

    def decide(
        self, found: Found, wish: Registration, at_startup: bool
    ) -> tuple[ModelRef, Settings]:
        """Name, version and settings of what is to be registered.

        Raises:
            InvalidInput: the archive and the wish together do not name a model or a handler.
        """
        manifest = found.unpacked.manifest
        name = wish.model_name or manifest.model_name
        if not name and at_startup:
            file_name = found.url.rstrip("/").rsplit("/", 1)[-1]
            name = name_from_file(file_name.removesuffix(".mar").removesuffix(".model"))
        if not name:
            raise ArchiveRefused("Model name is not defined.")
        ref = checked_ref(name, manifest.model_version)
        overrides = self._config.models.get(ref.name, {}).get(ref.version, ModelOverrides())
        sources = Sources(wish, found.yaml, overrides, self._config, at_startup, self._processors)
        settings = decide(sources)
        self._handler(found, settings)
        return ref, settings

    async def deploy(
        self, found: Found, ref: ModelRef, settings: Settings, at_startup: bool
    ) -> Deployment:
        """A deployment without workers; `scale` gives it some.

        Raises:
            LoadFailed: it is a parallel model, and there are not enough devices for one worker.
        """
        most_workers = self._devices.most_workers(settings)
        if most_workers == 0:
            raise LoadFailed(
                f"No enough gpu devices for model:{ref.name} "
                f"parallelLevel:{settings.parallel_level}"
            )
        handler = self._handler(found, settings)
        unpacked = found.unpacked
        environment = await self._environment(found, ref, settings)
        preload = await asyncio.to_thread(
            self._plugins.preload_modules, handler, unpacked.model_dir, unpacked.manifest
        )
        config = self._config
        headers = SequenceHeaders(
            config.header_key_sequence_id,
            config.header_key_sequence_start,
            config.header_key_sequence_end,
        )
        load = Load(
            model_name=ref.name,
            model_version=ref.version,
            model_dir=str(unpacked.model_dir),
            handler=handler,
            batch_size=settings.batch_size,
            gpu_id=None,
            decode_input=self._config.decode_input_request,
            limit_image_pixels=self._config.limit_max_image_pixels,
            max_response_bytes=self._config.max_response_bytes,
            config_file=unpacked.manifest.config_file,
            is_async=settings.async_communication,
            is_continuous=settings.continuous_batching,
            envelope=self._config.service_envelope,
            sequence_headers=(headers.id, headers.start, headers.end),
            metrics_config=str(config.metrics_config) if config.metrics_config else None,
            python_path=environment.path,
            is_idempotent=settings.idempotent,
            response_timeout_s=None
            if settings.async_communication
            else settings.response_timeout_s,
        )
        at_once = _IN_FLIGHT_ASYNC if settings.async_communication else 1
        round_size = settings.batch_size if settings.continuous_batching else None
        if round_size is not None and settings.sequence_batching:
            round_size *= 2  # as TorchServe does
        launcher = self._launcher(found, ref, settings, environment)
        plan = WorkerPlan(
            ref=ref,
            load=load,
            preload=preload,
            startup_timeout_s=settings.startup_timeout_s,
            response_timeout_s=None
            if settings.async_communication
            else settings.response_timeout_s,
            max_frame_bytes=(round_size or settings.batch_size)
            * (self._config.max_response_bytes + _ROOM_FOR_HEADERS_BYTES),
            python=environment.python,
            max_in_flight=at_once,
            next_devices=self._devices.chooser(settings),
            most_workers=most_workers,
            is_shown_own_devices=settings.parallel_type == "custom",
            launcher=launcher,
            confinement=self._confinement(found, settings, environment, launcher),
            # launchers of torch set the threads of what they start themselves
            threads_for=self._threads_for if launcher is None else lambda workers: None,
            sequence_headers=headers if settings.sequence_batching else None,
            round_size=round_size,
            may_retry=settings.idempotent and not settings.sequence_batching,
            wear=WearLimits(settings.recycle_after_requests, settings.recycle_above_mb),
            load_gate=self._load_gate,
        )
        origin = Origin(ref, found.url, at_startup)
        new_id = self._namer(settings)
        return Deployment(
            origin,
            settings,
            plan,
            self._supervisor,
            self._bus,
            new_id,
            self._shared,
            config.queue_discipline,
        )

    def _confinement(
        self, found: Found, settings: Settings, environment: Environment, launcher: Launcher | None
    ) -> Confinement:
        """How its workers are shut in.

        Raises:
            LoadFailed: strictly, which this machine cannot do.
        """
        has_ranks = launcher is not None and settings.parallel_type in IN_RANKS
        wish = confinement(
            self._config,
            found.yaml,
            found.unpacked.model_dir,
            environment.path,
            self._config.log_dir.absolute() / TORCHRUN_LOGS if has_ranks else None,
        )
        lacking = layers.missing_for(wish)
        if lacking:
            raise LoadFailed(f"sandbox=strict needs {' and '.join(lacking)}.")
        return wish

    def _threads_for(self, workers: int) -> int | None:
        return thread_share(self._cores, workers, self._supervisor.environ)

    async def _environment(self, found: Found, ref: ModelRef, settings: Settings) -> Environment:
        """Where the model's own packages are, if it brings some and may."""
        requirements = found.unpacked.manifest.requirements_file
        if requirements is None:
            return Environment()
        if not self._config.install_py_dep_per_model:
            _log.warning(
                "%s brings %s, which is not installed: install_py_dep_per_model is false",
                ref,
                requirements,
            )
            return Environment()
        unpacked = found.unpacked
        return await asyncio.to_thread(
            self._environments.prepare,
            ref.name,
            unpacked.model_dir,
            unpacked.digest,
            requirements,
            settings.use_venv,
        )

    def _launcher(
        self, found: Found, ref: ModelRef, settings: Settings, environment: Environment
    ) -> Launcher | None:
        """Who starts the workers, if they are not simply forked."""
        config = self._config
        if settings.parallel_type in IN_RANKS:
            run, ranks = found.yaml.torchrun or TorchRun(), max(1, settings.parallel_level)
            launch = TorchRunLaunch(
                run, ref.name, settings.parallel_type, ranks, config.log_dir.absolute()
            )
            return Launcher(launch, self._ports, environment.path)
        if not config.cpu_launcher_enable:
            return None
        try:
            split(config.cpu_launcher_args)
        except ValueError as error:
            _log.warning(
                "%s is started without the CPU launcher: cpu_launcher_args cannot be read: %s",
                ref,
                error,
            )
            return None
        cpu = CpuLaunch(config.cpu_launcher_args, settings.max_workers)
        if not is_installed(cpu.module, (*environment.path, *sys.path)):
            _log.warning(
                "%s is started without the CPU launcher (cpu_launcher_enable): "
                "there is no %s; install torch",
                ref,
                cpu.module,
            )
            return None
        return Launcher(cpu, self._ports, environment.path)

    def _namer(self, settings: Settings) -> Callable[[], str]:
        """What gives workers their names: port numbers, as TorchServe counts them."""
        if settings.parallel_type in IN_RANKS:
            return lambda: self._ports.new_id(max(1, settings.parallel_level))
        return lambda: str(next(self._ids))

    def _handler(self, found: Found, settings: Settings) -> str:
        handler = (
            settings.handler
            or found.unpacked.manifest.handler
            or self._config.default_service_handler
        )
        if not handler:
            raise InvalidInput(
                f"The archive {found.url} names no handler; "
                "give one with the parameter handler or set default_service_handler."
            )
        return handler
