"""An echo server whose clients, handlers and counters are all on record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.echo import EchoServer
from running_server import end


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[EchoServer]:
    """Not started yet; whatever the test leaves of it is ended afterwards."""
    one = EchoServer(tmp_path)
    yield one
    end(one.server)
