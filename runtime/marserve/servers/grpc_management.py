"""TorchServe's management service over gRPC, in front of the same control plane as HTTP's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from marserve.errors import DeadlineExceeded, NoWorkers, VersionNotFound
from marserve.protocols import grpc_management as messages
from marserve.protocols import management as wire
from marserve.protocols.grpc_status import (
    MODEL_API_DISABLED,
    NO_CUSTOM_DESCRIPTION,
    CallRefused,
    Plane,
    bad_reply,
    failure,
    not_ended,
)
from marserve.protocols.pb.management_pb2 import (
    DescribeModelRequest,
    ListModelsRequest,
    ManagementResponse,
    RegisterModelRequest,
    ScaleWorkerRequest,
    SetDefaultRequest,
    UnregisterModelRequest,
)
from marserve.servers.control_plane import ControlPlane
from marserve.servers.grpc_methods import Peer

_T = TypeVar("_T")


class ManagementService:
    """One coroutine per method.

    Args:
        plane: carries out what is asked.
        enable_model_api: whether models may be registered and unregistered.
    """

    def __init__(self, plane: ControlPlane, enable_model_api: bool) -> None:
        self._plane = plane
        self._enable_model_api = enable_model_api
        self._running: set[asyncio.Task[Any]] = set()

    async def describe(self, request: DescribeModelRequest, _peer: Peer) -> ManagementResponse:
        """What is known of a model, as JSON."""
        name = messages.required("model_name", request.model_name)
        version = request.model_version or None
        if not wire.wants_customized({"customized": request.customized}, version):
            return messages.document(
                wire.describe_answer(await self._plane.describe(name, version))
            )
        try:
            versions = await self._plane.describe(name, version, customized=True)
        except NoWorkers as error:
            raise CallRefused(NO_CUSTOM_DESCRIPTION) from error
        except DeadlineExceeded as error:
            raise CallRefused(bad_reply(wire.NOT_DESCRIBED)) from error
        return messages.document(wire.describe_answer(versions))

    async def list_models(self, request: ListModelsRequest, _peer: Peer) -> ManagementResponse:
        """One page of the models, as JSON."""
        page = messages.page(request)
        return messages.document(wire.list_answer(await self._plane.models(), page))

    async def register(self, request: RegisterModelRequest, _peer: Peer) -> ManagementResponse:
        """Register an archive."""
        self._check_model_api()
        wish = messages.registration(request)
        registered = await self._to_its_end(self._plane.register(wish))
        return messages.sentence(wire.registered_answer(registered))

    async def scale(self, request: ScaleWorkerRequest, _peer: Peer) -> ManagementResponse:
        """Want another number of workers."""
        name = messages.required("model_name", request.model_name)
        wish = messages.scaling(request)
        scaled = await self._to_its_end(
            self._plane.scale(
                name, wish.version, wish.min_workers, wish.max_workers, wish.synchronous
            )
        )
        return messages.sentence(wire.scaled_answer(scaled))

    async def set_default(self, request: SetDefaultRequest, _peer: Peer) -> ManagementResponse:
        """Let the bare name mean a version."""
        name = messages.required("model_name", request.model_name)
        version = messages.required("model_version", request.model_version)
        try:
            await self._to_its_end(self._plane.set_default(name, version))
        except VersionNotFound as error:
            told = failure(error, Plane.CONTROL)
            raise CallRefused(replace(told, message=wire.no_such_default(name, version))) from error
        return messages.sentence(wire.default_set_answer(name, version))

    async def unregister(self, request: UnregisterModelRequest, _peer: Peer) -> ManagementResponse:
        """Take a version out of service."""
        self._check_model_api()
        name = messages.required("model_name", request.model_name)
        try:
            await self._to_its_end(self._plane.unregister(name, request.model_version or None))
        except DeadlineExceeded as error:
            raise CallRefused(not_ended(wire.not_unregistered(name))) from error
        return messages.sentence(wire.unregistered_answer(name))

    async def finished(self) -> None:
        """Wait for the changes that clients began and did not wait for."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _check_model_api(self) -> None:
        if not self._enable_model_api:
            raise CallRefused(MODEL_API_DISABLED)

    async def _to_its_end(self, change: Coroutine[Any, Any, _T]) -> _T:
        """Carry out a change even if the client goes away: half of one is worse than either."""
        task = asyncio.ensure_future(change)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)
