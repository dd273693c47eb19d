"""Readiness: honest about what is missing, for the server and for one version."""

from dataclasses import dataclass

import pytest

from marserve.directory import Directory
from marserve.errors import ModelNotFound, VersionNotFound
from marserve.health import Health, NotReady, Readiness
from marserve.refs import ModelRef


@dataclass(frozen=True)
class Settings:
    min_workers: int


@dataclass(frozen=True)
class Described:
    ref: ModelRef
    settings: Settings
    last_error: str | None


class Deployment:
    def __init__(self, name, ready, wanted=1, version="1.0", last_error=None):
        self.ref = ModelRef(name, version)
        self.ready_workers = ready
        self.settings = Settings(wanted)
        self._last_error = last_error

    def describe(self, is_default):
        return Described(self.ref, self.settings, self._last_error)


def health(*deployments, is_started=True):
    directory = Directory()
    for deployment in deployments:
        directory.open(deployment)
        directory.set_default(deployment.ref)
    return Health(directory, lambda: is_started)


@pytest.mark.parametrize(
    ("deployments", "is_started", "expected"),
    [
        ([], True, Readiness(True)),
        ([], False, Readiness(False)),
        ([Deployment("m", 1)], True, Readiness(True)),
        ([Deployment("m", 1, wanted=4)], True, Readiness(True)),
        ([Deployment("m", 0, wanted=0)], True, Readiness(True)),
        (
            [Deployment("m", 1), Deployment("n", 0)],
            True,
            Readiness(True, (NotReady("n", "1.0", 1, None),)),
        ),
        ([Deployment("m", 0), Deployment("m", 1, version="2.0")], True, Readiness(True)),
        (
            [Deployment("m", 0, 3, last_error="no such file")],
            True,
            Readiness(True, (NotReady("m", "1.0", 3, "no such file"),)),
        ),
    ],
)
def test_a_server_is_ready_once_every_default_version_can_answer(deployments, is_started, expected):
    assert health(*deployments, is_started=is_started).server() == expected
    assert expected.is_ready == (is_started and not expected.missing)


def test_a_version_is_ready_once_it_can_answer():
    one = health(Deployment("m", 0, 0), Deployment("m", 2, version="2.0"), is_started=False)

    assert one.version("m", None).is_ready
    assert one.version("m", "2.0").is_ready
    assert one.version("m", "1.0") == Readiness(True, (NotReady("m", "1.0", 0, None),))
    with pytest.raises(ModelNotFound):
        one.version("n", None)
    with pytest.raises(VersionNotFound):
        one.version("m", "3.0")


def test_the_answer_says_what_is_missing():
    missing = (NotReady("m", "1.0", 2, None), NotReady("n", "2.0", 1, "broken"))

    assert Readiness(True).document() == {"status": "ready"}
    assert Readiness(False, missing).document() == {
        "status": "not ready",
        "reason": "The server is still loading its models.",
    }
    assert Readiness(True, missing).document() == {
        "status": "not ready",
        "reason": "Models have no worker that is ready.",
        "models": [
            {"model": "m", "version": "1.0", "ready_workers": 0, "wanted_workers": 2},
            {
                "model": "n",
                "version": "2.0",
                "ready_workers": 0,
                "wanted_workers": 1,
                "last_error": "broken",
            },
        ],
    }
