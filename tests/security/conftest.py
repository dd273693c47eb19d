"""Real servers that several proofs share: one as it comes, one that asks for keys everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running_server import Server, end


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that is not started yet; whatever the test leaves of it is ended afterwards."""
    one = Server(tmp_path)
    yield one
    end(one)


@pytest.fixture(scope="session")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as it comes, on loopback, with the models `echo` and `hostile`."""
    one = Server(tmp_path_factory.mktemp("open"))
    one.pack("echo", "echo.py")
    one.pack("hostile", "hostile.py")
    one.start(load_models="echo.mar,hostile.mar")
    yield one
    end(one)


@pytest.fixture(scope="session")
def keyed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for a key on every port, with the model `echo` and a short-lived past.

    Everything that can be served is: the Open Inference Protocol, too.
    """
    one = Server(tmp_path_factory.mktemp("keyed"))
    one.pack("echo", "echo.py")
    one.start(
        load_models="echo.mar",
        disable_token_authorization="false",
        token_for_metrics="true",
        ts_open_inference_protocol="true",
    )
    yield one
    end(one)


@pytest.fixture(scope="session")
def key_of(keyed_server: Server) -> Callable[[str], str]:
    """The keys of `keyed_server` by name: inference, management, API."""
    entries = json.loads((keyed_server.root / "key_file.json").read_text())
    return lambda name: str(entries[name]["key"])
