"""A real server in a process of its own, on ports of its own, and clients for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil

from marserve_archiver.cli import main as archiver

HANDLERS = Path(__file__).parents[1] / "fixtures" / "handlers"
DEADLINE_S = 60.0


class Reply(NamedTuple):
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """One `marserve serve` process. `root` holds its store, its logs and its cache."""

    program: tuple[str, ...] = (sys.executable, "-m", "marserve")
    """What is started; a test may put a wrapper around it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        self.store.mkdir(parents=True, exist_ok=True)
        self.addresses: dict[str, str] = {}
        self.problems: list[str] = []
        self.failed: str | None = None
        self.process: subprocess.Popen[bytes] | None = None

    # --- archives ---

    def pack(
        self,
        name: str,
        handler: str,
        version: str = "1.0",
        file_name: str | None = None,
        **flags: str,
    ) -> str:
        """Pack a handler of tests/fixtures/handlers (or one that is built in); its file name."""
        path = HANDLERS / handler
        argv = ["--model-name", name, "--version", version, "--force"]
        argv += ["--handler", str(path) if path.exists() else handler]
        argv += ["--export-path", str(self.root / "packed")]
        for flag, value in flags.items():
            argv += ["--" + flag.replace("_", "-"), value]
        assert archiver(argv) == 0
        target = self.store / (file_name or f"{name}.mar")
        (self.root / "packed" / f"{name}.mar").replace(target)
        return target.name

    # --- life ---

    def start(self, *arguments: str, **settings: object) -> Server:
        """Start it and wait until it is ready; `failed` says why it is not."""
        defaults = {
            "inference_address": "http://127.0.0.1:0",
            "management_address": "http://127.0.0.1:0",
            "metrics_address": "http://127.0.0.1:0",
            "grpc_inference_port": 0,
            "grpc_management_port": 0,
            "model_store": self.store,
            "log_dir": self.root / "logs",
            "cache_dir": self.root / "cache",
            "default_workers_per_model": 1,
            "disable_system_metrics": "true",
        }
        lines = [f"{key}={value}\n" for key, value in (defaults | settings).items()]
        config = self.root / "config.properties"
        config.write_text("".join(lines))
        return self.start_with(config, *arguments)

    def start_with(self, config: Path, *arguments: str) -> Server:
        read_fd, write_fd = os.pipe()
        with (self.root / "output.log").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(*self.program, "serve", "--config", str(config)),
                    *("--ready-fd", str(write_fd), *arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[write_fd],
                cwd=self.root,
            )
        os.close(write_fd)
        with os.fdopen(read_fd) as pipe:
            line = pipe.readline()
        report = json.loads(line) if line else {"failed": self.output()}
        self.failed = report.get("failed")
        self.addresses = report.get("addresses", {})
        self.problems = report.get("problems", [])
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        assert self.process is not None
        code = self.process.wait(DEADLINE_S)
        self.process = None
        return code

    def output(self) -> str:
        return (self.root / "output.log").read_text(errors="replace")

    # --- calls ---

    def call(
        self,
        method: str,
        port: str,
        target: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        connection = self.connect(port)
        try:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def connect(self, port: str = "inference") -> http.client.HTTPConnection:
        host, number = self.address(port)
        return http.client.HTTPConnection(host, number, timeout=DEADLINE_S)

    def raw(self, port: str = "inference") -> socket.socket:
        return socket.create_connection(self.address(port), timeout=DEADLINE_S)

    def address(self, port: str) -> tuple[str, int]:
        parts = urlsplit(self.addresses[port])
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def predict(self, name: str, body: bytes = b"x", **headers: str) -> Reply:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.call("POST", "inference", f"/predictions/{name}", body, named)

    def manage(self, method: str, target: str) -> Reply:
        return self.call(method, "management", target)

    def metrics(self) -> dict[str, float]:
        """Every sample of the metrics port by its name and labels."""
        text = self.call("GET", "metrics", "/metrics").body.decode()
        samples = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in samples}

    def workers(self, name: str, version: str = "") -> list[dict[str, Any]]:
        reply = self.manage("GET", f"/models/{name}/{version}".rstrip("/"))
        assert reply.status == 200, reply
        workers: list[dict[str, Any]] = reply.json()[0]["workers"]
        return workers

    def pids(self, name: str) -> list[int]:
        return [worker["pid"] for worker in self.workers(name)]

    # --- waiting ---

    def block(self, name: str, gate: Path) -> Crowd:
        """Occupy a worker of a model with the moody handler until `gate` exists."""
        started = gate.with_name(gate.name + ".started")
        started.unlink(missing_ok=True)
        crowd = Crowd(lambda _: self.predict(name, f"wait {gate}".encode()), 1)
        self.wait_until(started.exists)
        return crowd

    def pending(self, name: str) -> int:
        """How many requests wait for a worker."""
        described = self.manage("GET", f"/models/{name}").json()[0]
        waiting: int = described["jobQueueStatus"]["pendingRequests"]
        return waiting

    @staticmethod
    def wait_until(is_true: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
        """Ask again until the answer is yes."""
        end = time.monotonic() + deadline_s
        while not is_true():
            assert time.monotonic() < end, f"not true within {deadline_s} s"
            time.sleep(0.02)

    def children(self) -> list[psutil.Process]:
        """Zygotes, workers and what they have started."""
        return [child for child in self._family() if not _is_warden(child)]

    def wardens(self) -> list[psutil.Process]:
        """The process that clears up after the server; none for the moment it is replaced."""
        return [child for child in self._family() if _is_warden(child)]

    def _family(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not reaped yet does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_warden(process: psutil.Process) -> bool:
    try:
        by_name = process.name() == "marserve-warden"
        return by_name or "marserve.workers.warden" in " ".join(process.cmdline())
    except psutil.Error:
        return False


class Crowd:
    """Clients that call at the same time, each in a thread."""

    def __init__(self, call: Callable[[int], Any], size: int) -> None:
        self.replies: list[Any] = [None] * size
        self._call = call
        self._threads = [threading.Thread(target=self._one, args=(i,)) for i in range(size)]
        for thread in self._threads:
            thread.start()

    def _one(self, index: int) -> None:
        self.replies[index] = self._call(index)

    def join(self) -> list[Any]:
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
        return self.replies


def end(server: Server) -> None:
    """Stop it, and whatever a failed test left of it; nothing may outlive it."""
    if server.process is None:
        return
    children = server.children() if server.process.poll() is None else []
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.stop()
    left = [child for child in children if child.is_running()]
    if server.process is not None:
        server.stop(signal.SIGKILL)
    for child in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    assert left == [], f"processes outlived the server: {left}"
