"""Servers as a benchmark needs them: started with one archive or service, ready, and ended.

    with running(Command(...), work) as server: ...
    with marserve(work, Model(archive)) as server: ...
    with torchserve(work, Model(archive)) as server: ...

Every server gets free ports on loopback and a session of its own; all its processes are gone when
the block is left. TorchServe is taken from the folder of `peers/install.py`.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import machine_lock
import psutil
from load import Target

QUEUE = 2048  # more than any benchmark's connections: nobody is refused for want of room
STOP_S = 15
STEP_S = 0.1
LOG_TAIL = 3000
QUIET_LOG4J = Path(__file__).parent / "peers" / "torchserve_quiet_log4j2.xml"


@dataclass(frozen=True, slots=True)
class Command:
    """How a server is started in the foreground, and what shows that it is ready."""

    arguments: Sequence[str]
    target: Target
    environment: Mapping[str, str] = field(default_factory=dict)
    start_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready. `pid` leads all its processes."""

    pid: int
    target: Target


@dataclass(frozen=True, slots=True)
class Model:
    """An archive and how it is served. `target.url` is filled in by the server."""

    name: str
    store: Path
    body: bytes
    content_type: str = "application/json"
    workers: int = 1
    batch: int = 32
    delay_ms: int = 1


class DidNotStart(Exception):
    """The server ended, or did not answer in time; the message has the end of its log."""


@contextmanager
def running(command: Command, work: Path) -> Iterator[Server]:
    """Start, wait for the first good answer, and end with all descendants.

    Raises:
        DidNotStart: with the end of what the server printed.
        machine_lock.Busy: chaos or another benchmark runs on this machine.
    """
    machine_lock.hold(Path(sys.argv[0]).name)
    work.mkdir(parents=True, exist_ok=True)
    log = work / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*map(str, command.arguments)],
            env=os.environ | dict(command.environment),
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=work,
            start_new_session=True,
        )
    try:
        _wait_until_it_answers(process, command, log)
        yield Server(process.pid, command.target)
    finally:
        _end(process)


def pack(store: Path, name: str, handler: Path, *more: str) -> None:
    """Make `store/NAME.mar` with our archiver, whose archives TorchServe reads as well."""
    command = [sys.executable, "-m", "marserve_archiver", "--model-name", name, "--force"]
    command += ["--version", "1.0", "--handler", str(handler), "--export-path", str(store), *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def marserve(work: Path, model: Model, extra: str = "") -> Iterator[Server]:
    """MarServe in the background, as an operator starts it, with `model` loaded.

    Args:
        work: configuration, logs and cache go there.
        model: what is served.
        extra: more lines for config.properties.
    """
    logs = work / "logs"
    config = _properties(work, model, f"log_dir={logs}\ncache_dir={work / 'cache'}\n{extra}")
    run = [sys.executable, "-m", "marserve"]
    _checked([*run, "start", "--ncs", "--config", str(config)])
    try:
        facts = json.loads((logs / "marserve.json").read_text())
        url = f"{facts['addresses']['inference']}/predictions/{model.name}"
        target = Target(url, model.body, model.content_type)
        status, text = _asked(target)
        if status != 200:
            raise DidNotStart(f"It answered {status}: {text.decode(errors='replace')}")
        yield Server(facts["pid"], target)
    finally:
        _checked([*run, "stop", "--config", str(config)])


@contextmanager
def torchserve(work: Path, model: Model, peers: Path, is_quiet: bool = False) -> Iterator[Server]:
    """TorchServe with the same archive.

    Args:
        work: configuration and logs go there.
        model: what is served.
        peers: the folder of `peers/install.py`.
        is_quiet: it writes no access, metrics and model logs; by default it does, as we do.
    """
    work.mkdir(parents=True, exist_ok=True)
    commands = peers / "torchserve" / "bin"
    config = _properties(work, model, "disable_token_authorization=true\n")
    address = _read(config, "inference_address")
    command = Command(
        arguments=[
            *(str(commands / "torchserve"), "--start", "--foreground", "--ncs"),
            *("--ts-config", str(config)),
            *(("--log-config", str(QUIET_LOG4J)) if is_quiet else ()),
        ],
        target=Target(f"{address}/predictions/{model.name}", model.body, model.content_type),
        environment={
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "LOG_LOCATION": str(work / "logs"),
            "METRICS_LOCATION": str(work / "logs"),
            "TEMP": str(work),
            "TMPDIR": str(work),
        },
    )
    with running(command, work) as server:
        yield server


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _properties(work: Path, model: Model, extra: str) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    settings = {
        "marName": f"{model.name}.mar",
        "minWorkers": model.workers,
        "maxWorkers": model.workers,
        "batchSize": model.batch,
        "maxBatchDelay": model.delay_ms,
    }
    names = ("inference_address", "management_address", "metrics_address")
    ports = free_ports(len(names) + 2)
    lines = [f"{name}=http://127.0.0.1:{port}" for name, port in zip(names, ports, strict=False)]
    lines += [f"grpc_inference_port={ports[-2]}", f"grpc_management_port={ports[-1]}"]
    lines += [f"model_store={model.store}", f"load_models={model.name}.mar"]
    lines += ["disable_system_metrics=true", f"job_queue_size={QUEUE}"]
    lines += [f"models={json.dumps({model.name: {'1.0': settings}})}"]
    path = work / "config.properties"
    path.write_text("\n".join(lines) + f"\n{extra}")
    return path


def _read(config: Path, key: str) -> str:
    for line in config.read_text().splitlines():
        name, _, value = line.partition("=")
        if name == key:
            return value
    raise KeyError(key)


def _checked(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DidNotStart(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def _wait_until_it_answers(process: subprocess.Popen[bytes], command: Command, log: Path) -> None:
    deadline = time.monotonic() + command.start_s
    last = b""
    while time.monotonic() < deadline and process.poll() is None:
        try:
            status, last = _asked(command.target)
        except (OSError, http.client.HTTPException):
            status = 0
        if 200 <= status < 300:
            return
        time.sleep(STEP_S)
    tail = log.read_text(errors="replace")[-LOG_TAIL:]
    raise DidNotStart(f"{' '.join(command.arguments)}\n{last.decode(errors='replace')}\n{tail}")


def _asked(target: Target) -> tuple[int, bytes]:
    parts = urlsplit(target.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("POST", parts.path, target.body, {"Content-Type": target.content_type})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask politely, then insist. Descendants may have left the session, so each is ended by id."""
    family: list[psutil.Process] = []
    if process.poll() is None:
        leader = psutil.Process(process.pid)
        family = [leader, *leader.children(recursive=True)]
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    _, alive = psutil.wait_procs(family, timeout=3)
    for one in alive:
        one.kill()
    psutil.wait_procs(alive, timeout=STOP_S)
