"""The servers that contract tests can ask: ours, and the real TorchServe."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psutil
from contract import Case, Response, Story, ask, complaints
from running_server import DEADLINE_S, Server, end

Members = Mapping[str, str | bytes]
_PORTS = ("inference", "management", "metrics", "grpc_inference", "grpc_management")
_COMMON = {
    "disable_token_authorization": "true",
    "enable_model_api": "true",
    "default_workers_per_model": 1,
    "disable_system_metrics": "true",
}


class Target:
    """A server that is not started yet. `root` is a folder of its own, `store` its model store."""

    is_torchserve = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self._server = Server(root)
        self.store = self._server.store

    # --- archives ---

    def pack(
        self,
        name: str,
        handler: str,
        version: str = "1.0",
        file_name: str | None = None,
        **flags: str,
    ) -> str:
        """Pack a handler of tests/fixtures/handlers, a path, or a built-in one; the file name.

        `flags` are the archiver's: `config_file=str(path)`, `extra_files=…`.
        """
        return self._server.pack(name, handler, version, file_name, **flags)

    def archive(self, file_name: str, members: Members, form: str = "zip") -> str:
        """Write an archive with exactly these members into the store; its file name.

        `form`: zip (deflated), zip-store, tgz (names as given: the top folder is yours), or
        directory. Nothing is checked: hostile names are welcome.
        """
        contents = {name: _bytes(content) for name, content in members.items()}
        path = self.store / file_name
        if form == "directory":
            for name, content in contents.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)
        elif form == "tgz":
            with tarfile.open(path, "w:gz") as tar:
                for name, content in contents.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        else:
            method = zipfile.ZIP_STORED if form == "zip-store" else zipfile.ZIP_DEFLATED
            with zipfile.ZipFile(path, "w", method) as archive:
                for name, content in contents.items():
                    archive.writestr(name, content)
        return file_name

    # --- life ---

    def start(self, *arguments: str, **settings: object) -> Target:
        """Start it with these keys of config.properties; returns when its models are up.

        Addresses are chosen; tokens are off and the model API is on unless `settings` say
        otherwise; models get one worker.
        """
        ours = {"grpc_inference_port": 0, "grpc_management_port": 0}
        self._server.start(*arguments, **(_COMMON | ours | settings))
        assert self._server.failed is None, self._server.failed
        return self

    def end(self) -> None:
        """Stop it, with everything it has started."""
        end(self._server)

    def output(self) -> str:
        """What it has printed so far."""
        return self._server.output()

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._server.process is not None
        return self._server.process.pid

    # --- asking ---

    def address(self, port: str) -> tuple[str, int]:
        """Host and number of inference, management, metrics, grpc_inference, grpc_management."""
        return self._server.address(port)

    def call(self, case: Case | str, port: str = "management") -> Response:
        """The answer to one case, or to a bare request such as `GET /models`."""
        case = Case(case, 200, port=port) if isinstance(case, str) else case
        response = ask(self.address(case.port), case, DEADLINE_S)
        assert response is not None, f"{case}: no answer"
        return response

    def check(self, case: Case | Story) -> None:
        """Fail unless the answer is the one that the case expects of this kind of server."""
        if isinstance(case, Story):
            for one in case.cases:
                self.check(one)
            return
        for step in case.before:
            self._step(step)
        try:
            self._check(case)
        finally:
            for step in case.after:
                self._step(step)

    def exchange(self, port: str, request: bytes, patience_s: float = DEADLINE_S) -> bytes:
        """Send bytes as they are; what comes back until the server closes or `patience_s` pass."""
        received = b""
        with self.raw(port) as connection:
            connection.sendall(request)
            end_at = time.monotonic() + patience_s
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                while True:
                    connection.settimeout(max(0.001, end_at - time.monotonic()))
                    piece = connection.recv(65536)
                    if not piece:
                        break
                    received += piece
        return received

    def raw(self, port: str) -> socket.socket:
        """A connection."""
        return socket.create_connection(self.address(port), timeout=DEADLINE_S)

    def wait_until(self, is_true: object) -> None:
        """Ask again until the answer is yes."""
        Server.wait_until(is_true)  # type: ignore[arg-type]

    def wait_until_ready(self, name: str) -> None:
        """Until every worker of the model's versions serves."""

        def ready() -> bool:
            versions = self.call(f"GET /models/{quote(name, safe='')}/all").json()
            workers = [worker for version in versions for worker in version["workers"]]
            return all(worker["status"] == "READY" for worker in workers)

        self.wait_until(ready)

    def _step(self, step: Case | str) -> None:
        if isinstance(step, Case):
            self.check(step)
            return
        response = self.call(step)
        assert response.status < 400, f"{step}: {response}"

    def _check(self, case: Case) -> None:
        end_at = time.monotonic() + case.within_s
        while found := self._complaints(case):
            if time.monotonic() >= end_at:
                raise AssertionError("\n".join([f"{case} [{self._who}]", *found]))
            time.sleep(0.02)

    def _complaints(self, case: Case) -> list[str]:
        patience_s = case.patience_s if case.expects_no_answer else DEADLINE_S
        return complaints(case, ask(self.address(case.port), case, patience_s))

    @property
    def _who(self) -> str:
        return "TorchServe" if self.is_torchserve else "MarServe"


class TorchServe(Target):
    """The real one, from the environment in the folder `home`."""

    is_torchserve = True

    def __init__(self, root: Path, home: Path) -> None:
        super().__init__(root)
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers: dict[str, int] = {}

    def start(self, *arguments: str, **settings: object) -> Target:
        """See `Target.start`; a port is chosen by opening and closing it just before."""
        self._numbers = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        temp, logs = self.root / "temp", self.root / "logs"
        temp.mkdir(exist_ok=True)
        values = _COMMON | {"model_store": self.store}
        for port, number in self._numbers.items():
            is_grpc = port.startswith("grpc")
            key = f"{port}_port" if is_grpc else f"{port}_address"
            values[key] = number if is_grpc else f"http://127.0.0.1:{number}"
        config = self.root / "config.properties"
        lines = [f"{key}={value}\n" for key, value in (values | settings).items()]
        config.write_text("".join(lines))
        programs = self._home / "bin"
        environ = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TEMP": str(temp),
            "TMPDIR": str(temp),
            "LOG_LOCATION": str(logs),
            "METRICS_LOCATION": str(logs),
        }
        with (self.root / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(programs / "python", programs / "torchserve", "--start", "--foreground"),
                    *("--ncs", "--ts-config", config, *arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.root,
                env=environ,
                start_new_session=True,
            )
        self.wait_until(self._is_up)
        for model in self._startup_models():
            self.wait_until_ready(model)
        return self

    def end(self) -> None:
        """Stop it, with everything it has started."""
        if self._process is None:
            return
        children = []
        if self._process.poll() is None:
            children = psutil.Process(self._process.pid).children(recursive=True)
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(DEADLINE_S)
        _, alive = psutil.wait_procs(children, timeout=10)
        for child in alive:
            child.kill()
        shutil.rmtree(self.root / "temp", ignore_errors=True)

    def output(self) -> str:
        """What it has printed so far."""
        return (self.root / "output.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The Java process."""
        assert self._process is not None
        return int(psutil.Process(self._process.pid).children()[0].pid)

    def address(self, port: str) -> tuple[str, int]:
        """Host and number of a port."""
        return "127.0.0.1", self._numbers[port]

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.output()
        return "Model server started." in self.output()

    def _startup_models(self) -> list[str]:
        try:
            response = self.call("GET /models")
        except (OSError, http.client.HTTPException):  # a module that speaks TLS waits by itself
            return []
        if response.status != 200:  # tokens are on: the same
            return []
        return [model["modelName"] for model in response.json()["models"]]

    def _complaints(self, case: Case) -> list[str]:
        if case.differs is None:
            return super()._complaints(case)
        theirs = case.as_torchserve()
        patience_s = theirs.patience_s if theirs.expects_no_answer else DEADLINE_S
        response = ask(self.address(case.port), case, patience_s)
        found = complaints(theirs, response)
        if not found and not complaints(case, response):
            found = ["it answers as ours does: there is no difference"]
        return found and ["(where we differ)", *found]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [one.getsockname()[1] for one in sockets]


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
