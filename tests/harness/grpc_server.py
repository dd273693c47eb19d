"""A gRPC port over a real socket, in front of a data plane and a control plane that are played."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
import pytest
import uvloop
from grpc_client import INFERENCE, MANAGEMENT, OPEN_INFERENCE, Stub

from marserve.config import Config, load
from marserve.errors import MarServeError, ModelNotFound, VersionNotFound
from marserve.events import Bus, GrpcAnswered, GrpcCallsAnswered, RequestAnswered
from marserve.model_version import (
    Description,
    Settings,
    VersionState,
    WorkerDescription,
    WorkerState,
)
from marserve.protocols.management import Registered, Registration, Scaled
from marserve.refs import ModelRef
from marserve.request import Answer, Job, Request
from marserve.servers.grpc import GrpcPort, inference_port, management_port
from marserve.servers.reservation import reserved

T = TypeVar("T")
DEADLINE_S = 20.0


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a test on the server's kind of loop."""

    async def limited() -> T:
        async with asyncio.timeout(DEADLINE_S):
            return await coroutine

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(limited())


def configured(**settings: object) -> Config:
    """The defaults, and what is given."""
    given = {key: str(value) for key, value in settings.items()}
    return load(None, given, {"HOME": "/home/me"}, Path("/nowhere")).config


class PlayedInference:
    """A data plane whose models are functions of the request.

    A model returns the answer, raises a MarServeError (as a worker's failure), or gives None: then
    the test answers the job, which is in `jobs`. `refuses` has what is not even taken.
    """

    def __init__(self) -> None:
        self.models: dict[str, Callable[[Request], bytes | Answer | None]] = {
            "echo": lambda request: b"".join(part[2] for part in request.parts),
            "quiet": lambda request: None,
        }
        self.refuses: dict[str, MarServeError] = {}
        self.asked: list[tuple[str, str | None, Request]] = []
        self.jobs: asyncio.Queue[Job] = asyncio.Queue()
        self.told: list[RequestAnswered] = []
        self.healthy = True
        self.ready = True

    def start(self, job: Job, name: str, version: str | None) -> None:
        if name in self.refuses:
            raise self.refuses[name]
        if name not in self.models:
            raise ModelNotFound(name)
        if version not in (None, "1.0"):
            raise VersionNotFound(name, version)
        self.asked.append((name, version, job.request))
        asyncio.get_running_loop().call_soon(self._answer, name, job)

    def answered(self, event: RequestAnswered) -> None:
        self.told.append(event)

    def is_healthy(self) -> bool:
        return self.healthy

    def _answer(self, name: str, job: Job) -> None:
        try:
            answer = self.models[name](job.request)
        except MarServeError as error:
            job.resolve(error)
            return
        if answer is None:
            self.jobs.put_nowait(job)
        else:
            job.resolve(answer if isinstance(answer, Answer) else Answer(answer))


class PlayedPlane:
    """A control plane with model a (1.0 with a worker, 2.0 without); it remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.raises: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.finished = 0

    async def register(self, wish: Registration) -> Registered:
        await self._done("register", wish)
        return Registered(ModelRef("a", "1.0"), wish.initial_workers or 0, wish.synchronous)

    async def scale(
        self,
        name: str,
        version: str | None,
        min_workers: int,
        max_workers: int | None,
        synchronous: bool,
    ) -> Scaled:
        await self._done("scale", name, version, min_workers, max_workers, synchronous)
        return Scaled(
            ModelRef(name, version or "1.0"), min_workers, synchronous, version is not None
        )

    async def set_default(self, name: str, version: str) -> None:
        await self._done("set_default", name, version)

    async def unregister(self, name: str, version: str | None) -> None:
        await self._done("unregister", name, version)

    async def describe(
        self, name: str, version: str | None, *, customized: bool = False
    ) -> tuple[Description, ...]:
        await self._done("describe", name, version, *(["customized"] if customized else []))
        if name != "a":
            raise ModelNotFound(name)
        both = described("a", "1.0", True, 1), described("a", "2.0", False, 0)
        if version == "all":
            return both
        chosen = [one for one in both if one.ref.version == (version or "1.0")]
        if not chosen:
            raise VersionNotFound(name, str(version))
        return tuple(chosen)

    async def models(self) -> tuple[Description, ...]:
        await self._done("models")
        return tuple(described(f"m{n:03}", "1.0", True, 0) for n in range(150))

    async def ready(self, name: str) -> bool:
        raise NotImplementedError

    async def _done(self, *call: Any) -> None:
        self.calls.append(call)
        if self.gate is not None:
            await self.gate.wait()
        if self.raises is not None:
            raise self.raises
        self.finished += 1


def described(name: str, version: str, is_default: bool, workers: int) -> Description:
    known: dict[str, Any] = {
        "ref": ModelRef(name, version),
        "url": f"{name}.mar",
        "is_default": is_default,
        "state": VersionState.READY,
        "settings": Settings(min_workers=workers, max_workers=workers),
        "loaded_at_startup": False,
        "workers": tuple(worker(str(9000 + n)) for n in range(workers)),
        "pending_requests": 0,
        "last_error": None,
    }
    return Description(**known)


def worker(worker_id: str) -> WorkerDescription:
    values: dict[str, Any] = {
        "id": worker_id,
        "state": WorkerState.READY,
        "pid": 4711,
        "started_at": 0.0,
        "memory_bytes": 0,
        "restarts": 0,
        "last_error": None,
    }
    fields = {field.name for field in dataclasses.fields(WorkerDescription)}
    return WorkerDescription(**{k: v for k, v in values.items() if k in fields})


class Served:
    """One port that answers, what stands behind it, and what it told the bus."""

    def __init__(self, port: GrpcPort, data: PlayedInference, plane: PlayedPlane, bus: Bus) -> None:
        self.port = port
        self.data = data
        self.plane = plane
        self.calls: list[GrpcAnswered] = []
        self.predictions = data.told
        bus.subscribe(GrpcCallsAnswered, lambda event: self.calls.extend(event.calls))
        self.channel = grpc.aio.insecure_channel(port.address)

    @property
    def inference(self) -> Any:
        return Stub(self.channel, INFERENCE)

    @property
    def management(self) -> Any:
        return Stub(self.channel, MANAGEMENT)

    @property
    def open_inference(self) -> Any:
        return Stub(self.channel, OPEN_INFERENCE)

    async def codes(self, count: int) -> list[int]:
        """The outcomes of the first `count` calls, as the bus was told."""
        while len(self.calls) < count:
            await asyncio.sleep(0.001)
        return [event.code for event in self.calls]


@asynccontextmanager
async def serving(
    kind: str = "inference", *, config: Config | None = None, **named: Any
) -> AsyncIterator[Served]:
    """An inference or management port on loopback, stopped at the end."""
    bus = Bus()
    data, plane = PlayedInference(), PlayedPlane()
    sock = reserved(f"grpc_{kind}", "127.0.0.1", 0)
    config = config or configured()
    clock = time.monotonic
    if kind == "inference":
        port = inference_port(sock, data, lambda: data.ready, plane, bus, clock, config, **named)  # type: ignore[arg-type]
    else:
        port = management_port(sock, plane, bus, clock, config, **named)
    await port.start()
    served = Served(port, data, plane, bus)
    try:
        yield served
    finally:
        await served.channel.close()
        await port.stop(0.0)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    """The status of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""
