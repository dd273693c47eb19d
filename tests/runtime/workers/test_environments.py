"""Installing the packages of a model, as far as no index is needed for it."""

import os

import pytest

from marserve.errors import DependenciesFailed
from marserve.workers.environments import Environments


def test_a_server_that_stops_begins_no_installation_and_leaves_nothing(tmp_path):
    model, cache = tmp_path / "model", tmp_path / "cache"
    model.mkdir()
    cache.mkdir()
    (model / "requirements.txt").touch()
    environments = Environments(cache, os.environ)
    environments.close()

    with pytest.raises(DependenciesFailed, match="the server stops"):
        environments.prepare("m", model, "digest", "requirements.txt", use_venv=False)

    assert list(cache.iterdir()) == []
