"""The peers: what is installed for each, and how its constant-answer service is started.

Every peer has an environment of its own below one folder (`install.py`), batches of up to 32
where it can batch, one worker, no access log, and the shortest wait that it allows. TorchServe
stands there twice: as it comes, with an access log, which MarServe writes as well, and without.
All get the same small JSON body, but for PyTriton, which speaks the Open Inference Protocol alone.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from load import Target
from servers import Command, free_ports

HERE = Path(__file__).parent
BODY = b'{"instances": [[1.0, 2.0, 5.0]]}'
TENSOR_BODY = (
    b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 5.0]}]}'
)


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer. `service` takes the folder of its commands and free ports."""

    name: str
    folder: str
    packages: Sequence[str]
    service: Callable[[Path, Sequence[int]], Sequence[str]] | None
    path: str = "/"
    body: bytes = BODY
    environment: Mapping[str, str] = field(default_factory=dict)
    takes_system_python: bool = False
    """Its wheel brings a native part that wants the distribution's own Python."""

    def command(self, peers: Path) -> Command:
        """How it is started from its environment below `peers`."""
        assert self.service is not None
        ports = free_ports(3)
        commands = peers / self.folder / "bin"
        return Command(
            arguments=self.service(commands, ports),
            target=Target(f"http://127.0.0.1:{ports[0]}{self.path}", self.body),
            environment={
                "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(HERE),
                **self.environment,
            },
        )

    def is_installed(self, peers: Path) -> bool:
        """Whether its environment is there."""
        return (peers / self.folder / "bin" / "python").exists()

    def versions(self, peers: Path) -> dict[str, str]:
        """The versions of what was asked for."""
        code = "import sys, importlib.metadata as m\nfor n in sys.argv[1:]: print(n, m.version(n))"
        python = peers / self.folder / "bin" / "python"
        names = [_distribution(package) for package in self.packages]
        done = subprocess.run(
            [str(python), "-c", code, *names], capture_output=True, text=True, check=True
        )
        return dict(line.split() for line in done.stdout.splitlines())


def _distribution(package: str) -> str:
    for mark in "[=<>":
        package = package.partition(mark)[0]
    return package


def _script(name: str) -> Callable[[Path, Sequence[int]], Sequence[str]]:
    def service(commands: Path, ports: Sequence[int]) -> Sequence[str]:
        return [str(commands / "python"), str(HERE / name), *map(str, ports)]

    return service


def _mosec(commands: Path, ports: Sequence[int]) -> Sequence[str]:
    script = [str(commands / "python"), str(HERE / "constant_mosec.py")]
    return [*script, "--address", "127.0.0.1", "--port", str(ports[0]), "--log-level", "warning"]


def _bentoml(commands: Path, ports: Sequence[int]) -> Sequence[str]:
    serve = [str(commands / "bentoml"), "serve", "constant_bentoml:Constant"]
    return [*serve, "--host", "127.0.0.1", "--port", str(ports[0]), "--working-dir", str(HERE)]


def _fastapi(commands: Path, ports: Sequence[int]) -> Sequence[str]:
    serve = [str(commands / "uvicorn"), "constant_fastapi:app", "--port", str(ports[0])]
    return [*serve, "--loop", "uvloop", "--http", "httptools", "--no-access-log"]


TORCHSERVE_PACKAGES = (
    *("torchserve==0.12.0", "torch-model-archiver==0.12.0"),
    *("torch", "setuptools<80"),
)
# these two get the same archive as MarServe, through `servers.torchserve`
TORCHSERVE = Peer("TorchServe", "torchserve", TORCHSERVE_PACKAGES, service=None)
QUIET_TORCHSERVE = Peer("TorchServe, logs off", "torchserve", TORCHSERVE_PACKAGES, service=None)
PEERS = (
    TORCHSERVE,
    QUIET_TORCHSERVE,
    Peer("mosec", "mosec", ("mosec==0.9.8",), _mosec, "/inference"),
    Peer(
        "PyTriton",
        "pytriton",
        ("nvidia-pytriton==0.7.0", "numpy<2"),
        _script("constant_pytriton.py"),
        "/v2/models/constant/infer",
        TENSOR_BODY,
        takes_system_python=True,
    ),
    Peer(
        "LitServe", "litserve", ("litserve==0.2.19",), _script("constant_litserve.py"), "/predict"
    ),
    Peer(
        "BentoML",
        "bentoml",
        ("bentoml==1.4.39",),
        _bentoml,
        "/predict",
        environment={"BENTOML_DO_NOT_TRACK": "true"},
    ),
    Peer(
        "Ray Serve",
        "ray",
        ("ray[serve]==2.60.0",),
        _script("constant_ray.py"),
        environment={"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    ),
    Peer("FastAPI, no batching", "fastapi", ("fastapi", "uvicorn[standard]"), _fastapi, "/predict"),
)
