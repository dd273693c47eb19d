"""The Open Inference Protocol over gRPC, under TorchServe's package name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, TypeVar

from marserve.errors import MarServeError, VersionNotFound
from marserve.model_version import Description, WorkerState
from marserve.protocols import grpc_open_inference as tensors
from marserve.protocols.grpc_status import CallRefused, Plane, failure
from marserve.protocols.pb.open_inference_grpc_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)
from marserve.servers.grpc_inference import Predictor
from marserve.servers.grpc_methods import Peer

Describe: TypeAlias = Callable[[str, str | None], Awaitable[tuple[Description, ...]]]
"""`ControlPlane.describe`."""

_T = TypeVar("_T")
_ALL_VERSIONS = "all"
_EXTENSIONS = ("kserve", "kubeflow")
_LARGE_BYTES = 256 * 1024
"""From here on, tensors are translated in a thread, so that the loop goes on meanwhile."""


class OpenInferenceService:
    """One coroutine per method.

    Args:
        predictor: answers the requests.
        is_ready: whether every model could answer now.
        describe: tells of a model's versions.
        server_version: the server's release.
    """

    def __init__(
        self,
        predictor: Predictor,
        is_ready: Callable[[], bool],
        describe: Describe,
        server_version: str,
    ) -> None:
        self._predictor = predictor
        self._is_ready = is_ready
        self._describe = describe
        self._server_version = server_version

    async def server_live(self, _request: ServerLiveRequest, _peer: Peer) -> ServerLiveResponse:
        """Yes."""
        return ServerLiveResponse(live=True)

    async def server_ready(self, _request: ServerReadyRequest, _peer: Peer) -> ServerReadyResponse:
        """Whether every model could answer now."""
        return ServerReadyResponse(ready=self._is_ready())

    async def model_ready(self, request: ModelReadyRequest, _peer: Peer) -> ModelReadyResponse:
        """Whether a worker is there for this model."""
        _, chosen = await self._versions(request.name, request.version)
        ready = any(worker.state is WorkerState.READY for worker in chosen.workers)
        return ModelReadyResponse(ready=ready)

    async def server_metadata(
        self, _request: ServerMetadataRequest, _peer: Peer
    ) -> ServerMetadataResponse:
        """What this server is."""
        return ServerMetadataResponse(
            name="marserve", version=self._server_version, extensions=_EXTENSIONS
        )

    async def model_metadata(
        self, request: ModelMetadataRequest, _peer: Peer
    ) -> ModelMetadataResponse:
        """The versions of a model; what its tensors are, only its handler knows."""
        versions, _ = await self._versions(request.name, request.version)
        return ModelMetadataResponse(
            name=request.name, versions=[version.ref.version for version in versions]
        )

    async def model_infer(self, request: ModelInferRequest, peer: Peer) -> ModelInferResponse:
        """One request as JSON to the handler, its JSON as tensors to the client."""
        size_bytes = request.ByteSize()
        body = await _translated(size_bytes, partial(tensors.body, request))
        part = ("body", "application/json", body)
        answer = await self._predictor.predict(
            peer, request.model_name, request.model_version, [part]
        )
        return await _translated(len(answer.body), partial(tensors.response, request, answer.body))

    async def _versions(
        self, name: str, version: str
    ) -> tuple[tuple[Description, ...], Description]:
        """All versions of a model, and the one that is asked for (empty: the default one)."""
        try:
            versions = await self._describe(name, _ALL_VERSIONS)
            for one in versions:
                if one.ref.version == version or (not version and one.is_default):
                    return versions, one
            raise VersionNotFound(name, version)
        except MarServeError as error:
            raise CallRefused(failure(error, Plane.CONTROL)) from error


async def _translated(size_bytes: int, translate: Callable[[], _T]) -> _T:
    return translate() if size_bytes < _LARGE_BYTES else await asyncio.to_thread(translate)
