"""From an archive in the model store to a deployment. Blocking work runs in threads."""

from __future__ import annotations

import asyncio
import itertools
import logging
from dataclasses import dataclass

import psutil

from marserve.config import Config, ModelOverrides
from marserve.deployment import Deployment, Origin
from marserve.errors import ArchiveRefused, InvalidInput
from marserve.events import Bus
from marserve.model_version import Settings
from marserve.plugins import Plugins
from marserve.protocols.management import Registration
from marserve.refs import ModelRef, checked_ref, name_from_file
from marserve.registry import model_config
from marserve.registry.model_config import ModelConfig
from marserve.registry.precedence import Sources, decide
from marserve.registry.store import ModelStore, Unpacked
from marserve.workers.messages import Load
from marserve.workers.supervisor import Supervisor
from marserve.workers.worker import WorkerPlan

_log = logging.getLogger("marserve.registry")
_FIRST_WORKER_ID = 9000
_ROOM_FOR_HEADERS_BYTES = 1 << 20


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
        bus: Bus,
    ) -> None:
        self._config = config
        self._store = store
        self._plugins = plugins
        self._supervisor = supervisor
        self._bus = bus
        self._ids = itertools.count(_FIRST_WORKER_ID)

    async def find(self, url: str) -> Found:
        """The archive that `url` names, verified and unpacked.

        Raises:
            StoreMissing, ArchiveNotFound, ArchiveRefused, InvalidInput: it cannot be used.
        """
        return await asyncio.to_thread(self._find, url)

    def _find(self, url: str) -> Found:
        unpacked = self._store.unpack(self._store.find(url))
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
                text = file.read(model_config.MAX_BYTES + 1)
        except OSError as error:
            raise ArchiveRefused(
                f"{manifest.config_file} of {url} cannot be read: {error}."
            ) from error
        if len(text) > model_config.MAX_BYTES:
            raise ArchiveRefused(
                f"{manifest.config_file} of {url} is larger than {model_config.MAX_BYTES} bytes."
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
            name = name_from_file(found.url.rsplit("/", 1)[-1].split(".", 1)[0])
        if not name:
            raise InvalidInput("Model name is not defined.")
        ref = checked_ref(name, manifest.model_version)
        overrides = self._config.models.get(ref.name, {}).get(ref.version, ModelOverrides())
        cores = psutil.cpu_count() or 1
        settings = decide(Sources(wish, found.yaml, overrides, self._config, at_startup, cores))
        self._handler(found, settings)
        return ref, settings

    async def deploy(
        self, found: Found, ref: ModelRef, settings: Settings, at_startup: bool
    ) -> Deployment:
        """A deployment without workers; `scale` gives it some."""
        handler = self._handler(found, settings)
        unpacked = found.unpacked
        preload = await asyncio.to_thread(
            self._plugins.preload_modules, handler, unpacked.model_dir, unpacked.manifest
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
        )
        plan = WorkerPlan(
            ref=ref,
            load=load,
            preload=preload,
            startup_timeout_s=settings.startup_timeout_s,
            response_timeout_s=settings.response_timeout_s,
            max_frame_bytes=settings.batch_size * self._config.max_response_bytes
            + _ROOM_FOR_HEADERS_BYTES * settings.batch_size,
        )
        origin = Origin(ref, found.url, at_startup)
        return Deployment(origin, settings, plan, self._supervisor, self._bus, self._new_worker_id)

    def _new_worker_id(self) -> str:
        return str(next(self._ids))

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
