"""A real server in a process of its own, on ports of its own, and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running_server import Crowd, Server, end


@pytest.fixture
def crowd() -> Callable[[Callable[[int], Any], int], Crowd]:
    """Start `size` calls at once: `crowd(call, size).join()`."""
    return Crowd


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that is not started yet; whatever the test leaves of it is ended afterwards."""
    one = Server(tmp_path)
    yield one
    end(one)


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same, for all tests of a module that leave it as they found it."""
    one = Server(tmp_path_factory.mktemp("server"))
    yield one
    end(one)
