"""Whether the server, or one version, can answer now, and if not, what is missing for that.

Stricter than TorchServe's `/ping`, which calls a model healthy while its workers are still loading
or dying. A version is ready once one worker is; the server is ready once it has started and the
default version of each model is ready, but for those that are to have no worker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from marserve.deployment import Deployment
from marserve.directory import Directory


@dataclass(frozen=True, slots=True)
class NotReady:
    """A version that cannot answer."""

    model: str
    version: str
    wanted_workers: int
    last_error: str | None
    """Why workers are missing, where that is known."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What `/healthz/ready` has to say."""

    is_started: bool
    missing: tuple[NotReady, ...] = ()
    is_stopping: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether nothing is missing."""
        return self.is_started and not self.missing and not self.is_stopping

    def document(self) -> dict[str, object]:
        """The body of the answer."""
        if self.is_ready:
            return {"status": "ready"}
        if self.is_stopping:
            return {"status": "not ready", "reason": "The server is being stopped."}
        if not self.is_started:
            return {"status": "not ready", "reason": "The server is still loading its models."}
        return {
            "status": "not ready",
            "reason": "Models have no worker that is ready.",
            "models": [_shown(one) for one in self.missing],
        }


class Health:
    """Asks the deployments. Runs on the event loop."""

    def __init__(
        self,
        directory: Directory,
        is_started: Callable[[], bool],
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """What it asks besides the deployments.

        Args:
            directory: has the deployments.
            is_started: whether the models of the start are up, or have failed for good.
            is_stopping: whether the server has been told to stop.
        """
        self._directory = directory
        self._is_started = is_started
        self._is_stopping = is_stopping

    def server(self) -> Readiness:
        """Whether every model can answer that is to have workers."""
        defaults = self._directory.defaults()
        missing = [_missing(one) for one in defaults if one.settings.min_workers > 0]
        missing += [
            NotReady(ref.name, ref.version, 1, cause)
            for ref, cause in self._directory.broken_defaults()
        ]
        return Readiness(
            self._is_started(),
            tuple(one for one in missing if one is not None),
            self._is_stopping(),
        )

    def version(self, name: str, version: str | None) -> Readiness:
        """Whether this version (None: the default one) can answer.

        Raises:
            ModelNotFound, VersionNotFound: there is none such.
        """
        missing = _missing(self._directory.lookup(name, version))
        return Readiness(True, () if missing is None else (missing,), self._is_stopping())


def _missing(deployment: Deployment) -> NotReady | None:
    if deployment.ready_workers > 0:
        return None
    described = deployment.describe(is_default=True)
    return NotReady(
        described.ref.name,
        described.ref.version,
        described.settings.min_workers,
        described.last_error,
    )


def _shown(one: NotReady) -> dict[str, object]:
    shown: dict[str, object] = {
        "model": one.model,
        "version": one.version,
        "ready_workers": 0,
        "wanted_workers": one.wanted_workers,
    }
    if one.last_error:
        shown["last_error"] = one.last_error
    return shown
