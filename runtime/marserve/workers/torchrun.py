"""How the processes of a parallel worker, and one under the CPU launcher, are started. Pure.

A launch is a command line that ends in a program of ours, and an environment. Torch's own tools
do the starting: `torch.distributed.run` makes the ranks of a model whose `parallelType` is pp, tp
or pptp; `torch.backends.xeon.run_cpu` binds one worker to cores.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from marserve.registry.model_config import TorchRun

IN_RANKS: Final = ("pp", "tp", "pptp")
"""The parallel types whose workers are several processes."""
_IN_STEP: Final = ("tp", "pptp")
TORCHRUN_LOGS: Final = "torchelastic_ts"
"""The folder in the log folder that torchrun writes to."""
_NO_RESTARTS: Final = "0"
_LOOPBACK: Final = "127.0.0.1"
_INTERFACES: Final = ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME")


@dataclass(frozen=True, slots=True)
class Start:
    """What is known only when a worker starts."""

    worker: str
    index: int
    """Its place among the workers of its version, from 0."""
    port: int
    """Free for its ranks to meet at."""
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TorchRunLaunch:
    """Ranks that torchrun starts."""

    run: TorchRun
    model_name: str
    parallel_type: str
    ranks: int
    """How many processes a worker is."""
    log_dir: PurePath
    meets: bool = field(default=True, init=False)
    """Whether its ranks meet at a port."""
    module: str = field(default="torch.distributed.run", init=False)
    """What starts them."""

    @property
    def is_in_step(self) -> bool:
        """Whether every rank runs every batch (tp, pptp), or rank 0 feeds the others (pp)."""
        return self.parallel_type in _IN_STEP

    def arguments(self, start: Start, program: Sequence[str]) -> list[str]:
        """Torchrun's options, then `program`."""
        run = self.run
        return [
            *("--nnodes", run.nnodes),
            *("--nproc-per-node", str(self.ranks)),
            *("--log-dir", str(self.log_dir / TORCHRUN_LOGS)),
            *(_meet_here(run, start.port) if self._is_alone else _meet_as_told(run)),
            *("--rdzv-id", f"{self.model_name}_{start.worker}"),
            # the server replaces a worker as a whole: a rank that comes back alone has no model
            *("--max-restarts", _NO_RESTARTS),
            "--no-python",
            *program,
        ]

    def environ(self, start: Start, inherited: Mapping[str, str]) -> dict[str, str]:
        """Threads, devices, and the loopback interface for what stays on this machine."""
        made = {"LOGLEVEL": "INFO", "OMP_NUM_THREADS": str(self.run.omp_threads)}
        if self._is_alone:
            # their traffic is nobody else's, and some of it is pickled
            made |= {name: "lo" for name in _INTERFACES if name not in inherited}
        return made | devices_environ(start.devices, inherited)

    @property
    def _is_alone(self) -> bool:
        """Whether all ranks are on this machine and nobody says where they are to meet."""
        run = self.run
        return run.nnodes == "1" and run.rdzv_backend == "c10d" and not run.rdzv_endpoint


@dataclass(frozen=True, slots=True)
class CpuLaunch:
    """One process, bound to its share of the cores."""

    args: str
    """`cpu_launcher_args`, as a shell would read them."""
    workers: int
    """How many share the machine."""
    ranks: int = field(default=1, init=False)
    is_in_step: bool = field(default=False, init=False)
    meets: bool = field(default=False, init=False)
    module: str = field(default="torch.backends.xeon.run_cpu", init=False)

    def arguments(self, start: Start, program: Sequence[str]) -> list[str]:
        """The launcher's options, then `program`."""
        share: list[str] = []
        if self.workers > 1:
            share = ["--ninstances", str(self.workers), "--rank", str(start.index % self.workers)]
        return [*split(self.args), *share, "--no-python", *program]

    def environ(self, start: Start, inherited: Mapping[str, str]) -> dict[str, str]:
        """Nothing of its own."""
        return {}


Launch = TorchRunLaunch | CpuLaunch
"""How one kind of worker is started: `python -m module`, followed by `arguments`."""


def split(args: str) -> list[str]:
    """`args` as a shell would cut them.

    Raises:
        ValueError: a quotation is not closed.
    """
    return shlex.split(args)


def devices_environ(devices: Sequence[int], inherited: Mapping[str, str]) -> dict[str, str]:
    """What makes exactly `devices` visible: numbers as the server counts them, from 0.

    Where the server itself sees only some devices, they are named as it knows them.
    """
    if not devices:
        return {}
    seen = [name.strip() for name in inherited.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if max(devices) < len(seen) and all(seen):
        names = [seen[device] for device in devices]
    else:
        names = [str(device) for device in devices]
    return {"CUDA_VISIBLE_DEVICES": ",".join(names)}


def _meet_here(run: TorchRun, port: int) -> list[str]:
    """A meeting of one machine's ranks.

    Not torchrun's c10d rendezvous, which is meant for machines that come and go: it unpickles
    what it finds in a store that the whole network can write to.
    """
    return [
        *("--rdzv-backend", "static"),
        *("--node-rank", "0"),
        *("--local-addr", _LOOPBACK),
        *("--master-addr", run.master_addr or _LOOPBACK),
        *("--master-port", str(port if run.master_port is None else run.master_port)),
    ]


def _meet_as_told(run: TorchRun) -> list[str]:
    options = ["--rdzv-backend", run.rdzv_backend]
    if run.rdzv_endpoint:
        options += ["--rdzv-endpoint", run.rdzv_endpoint]
    if run.rdzv_conf:
        options += ["--rdzv-conf", run.rdzv_conf]
    options += ["--node-rank", str(run.node_rank)]
    if run.master_addr:
        options += ["--master-addr", run.master_addr]
    if run.master_port is not None:
        options += ["--master-port", str(run.master_port)]
    return options
