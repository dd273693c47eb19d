"""What the inference port says about the server: health, API documents, OIP metadata.

Every answer is a status and a JSON document. Runs no model.
"""

from __future__ import annotations

from marserve.directory import Directory
from marserve.health import Health, Readiness
from marserve.inference import Inference
from marserve.protocols import openapi
from marserve.servers.routes import Operation, Target

Page = tuple[int, object]


class About:
    """Answers the operations that are not inference. Runs on the event loop."""

    def __init__(
        self,
        inference: Inference,
        directory: Directory,
        health: Health,
        version: str,
        open_inference_protocol: bool = False,
    ) -> None:
        """`version`: the server's release."""
        self._inference = inference
        self._directory = directory
        self._health = health
        self._version = version
        self._open_inference = open_inference_protocol
        self._pages = {
            Operation.PING: self._ping,
            Operation.DESCRIBE_API: self._describe_api,
            Operation.DESCRIBE_MODEL: self._describe_model,
            Operation.LIVE: _live,
            Operation.READY: self._ready,
            Operation.OIP_SERVER: self._oip_server,
            Operation.OIP_LIVE: _oip_live,
            Operation.OIP_READY: self._oip_ready,
            Operation.OIP_VERSIONS: _oip_versions,
        }

    def page(self, target: Target) -> Page:
        """The answer to `target`.

        Raises:
            ModelNotFound, VersionNotFound: it is about a model that is not there.
        """
        return self._pages[target.operation](target)

    def _ping(self, _: Target) -> Page:
        healthy = self._inference.is_healthy()
        return 200 if healthy else 500, {"status": "Healthy" if healthy else "Unhealthy"}

    def _describe_api(self, _: Target) -> Page:
        return 200, openapi.inference_api(self._version, open_inference=self._open_inference)

    def _describe_model(self, target: Target) -> Page:
        self._directory.lookup(target.name, None)
        return 200, openapi.model_inference_api(target.name)

    def _ready(self, target: Target) -> Page:
        if target.name:
            return _readiness(self._health.version(target.name, target.version))
        return _readiness(self._health.server())

    def _oip_ready(self, _: Target) -> Page:
        is_ready = self._health.server().is_ready
        return 200 if is_ready else 503, {"ready": is_ready}

    def _oip_server(self, _: Target) -> Page:
        # the misspelt key is what clients of TorchServe know, the other one is the protocol's
        extensions = ["kserve", "kubeflow"]
        return 200, {
            "name": "marserve",
            "version": self._version,
            "extenstion": extensions,
            "extensions": extensions,
        }


def _readiness(readiness: Readiness) -> Page:
    return 200 if readiness.is_ready else 503, readiness.document()


def _live(_: Target) -> Page:
    return 200, {"status": "live"}


def _oip_live(_: Target) -> Page:
    return 200, {"live": True}


def _oip_versions(_: Target) -> Page:
    return 501, {"error": "Model versioning is not yet supported."}
