"""Tries the sandbox out: a process that shuts itself in as a worker would, and tells what holds.

`tried` starts it and reads what it says. What a kernel offers and what holds in a container can
differ; so nothing is reported that was not seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from marserve.workers import sandbox
from marserve.workers.messages import Confinement
from marserve.workers.supervisor import PACKAGE_ROOTS

_BOOT = "import sys; sys.path += sys.argv[3:]; from marserve.workers.probe import main; main()"
_PATIENCE_S = 20.0


def tried(mode: str) -> Mapping[str, bool]:
    """Whether each of these was denied to a process shut in like this; empty: it could not start.

    Keys: files, reading, network, signals, memory, privileges, calls.
    """
    with tempfile.TemporaryDirectory(prefix=".marserve-probe-", dir=_outside()) as folder:
        Path(folder, "file").write_text("x")
        command = [sys.executable, "-P", "-c", _BOOT, mode, folder, *PACKAGE_ROOTS]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=_PATIENCE_S, check=True, text=True
            )
            found: dict[str, bool] = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            return {}
    return found


def _outside() -> str | None:
    """A folder that no worker may write; None: only that for temporary files is at hand."""
    home = Path.home()
    return str(home) if os.access(home, os.W_OK) else None


# --- runs in the probe ---


def main() -> None:
    """Shut this process in and print what it cannot do any more."""
    mode, folder = sys.argv[1], Path(sys.argv[2])
    parent = os.getppid()
    sandbox.confine(Confinement(mode=mode, has_network=mode != "strict"))
    status = Path("/proc/self/status").read_text()
    told = {
        "files": _is_denied(lambda: (folder / "new").touch()),
        "reading": _is_denied((folder / "file").read_text),
        "network": _is_denied(lambda: socket.socket().bind(("127.0.0.1", 0))),
        "signals": _is_denied(lambda: os.kill(parent, signal.SIGCONT)),
        "memory": _is_denied(lambda: Path(f"/proc/{parent}/mem").open("rb").close()),
        "privileges": "NoNewPrivs:\t1" in status,
        "calls": "Seccomp:\t2" in status,
    }
    print(json.dumps(told))  # noqa: T201  to the one who started it


def _is_denied(attempt: Callable[[], object]) -> bool:
    with contextlib.suppress(FileNotFoundError):
        try:
            attempt()
        except PermissionError:
            return True
    return False
