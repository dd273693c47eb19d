"""A server that is restarted while it serves: `marserve restart`, and who takes over."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import psutil
from running_server import DEADLINE_S, Server


class Successor:
    """A server process that is nobody's child here; as much of Popen as `Server` needs."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.pid = pid

    def poll(self) -> int | None:
        return None if self._process.is_running() else 0

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float | None = None) -> int:
        try:
            return self._process.wait(timeout) or 0
        except psutil.TimeoutExpired as error:
            raise subprocess.TimeoutExpired("marserve", timeout or 0.0) from error


@dataclass(frozen=True, slots=True)
class Restarted:
    """How one restart went."""

    code: int
    said: str
    took_s: float
    former_code: int | None
    """The exit code of the process before; None: it still runs."""


def restart(server: Server, *arguments: str) -> Restarted:
    """Run `marserve restart`; `server.process` is the one that serves afterwards."""
    former: Any = server.process
    began = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "marserve", "restart"),
            *("--config", str(server.root / "config.properties"), *arguments),
        ],
        cwd=server.root,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    took_s = time.monotonic() - began
    said = done.stdout + done.stderr
    if done.returncode != 0:
        return Restarted(done.returncode, said, took_s, former.poll())
    former_code = former.wait(DEADLINE_S)
    found = json.loads((server.root / "logs" / "marserve.json").read_text())
    server.process = Successor(found["pid"])  # type: ignore[assignment]  # it is like a Popen
    server.addresses = found["addresses"]
    return Restarted(0, said, took_s, former_code)
