"""Whether it pays to read HTTP in several processes, before one that owns queues and workers.

    python benchmarks/front_processes.py [--seconds 3] [--rounds 3]

A handler that returns a constant (batch 32, one worker) is driven by `wrk` at 16, 64 and 256
connections through four arrangements that take turns in every round:

    in process    the server as it is: one process reads HTTP and owns queues and workers
    1 front       a front process reads HTTP, the server gets frames (`front_process.py`)
    2 fronts      two of them share a port with SO_REUSEPORT
    2 servers     two whole servers, half of the connections each: nothing is shared

Few cores cannot show the rates of many, as everybody shares them. What each process spends per
request can: a process can have one core, so it is at its end after 1 s / (CPU time per request).
The CPU times, the mean batch and the rates they lead to are kept in `results/front_processes.*`.
Needs `wrk`, psutil and matplotlib.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
from load import Target, cpu_s, wrk
from matplotlib.figure import Figure
from report import colour, plot, save
from servers import Model, free_ports, marserve, pack

from marserve.bench.account import Account, read

HERE = Path(__file__).parent
PARTS = HERE / "front_process.py"
CONNECTIONS = (16, 64, 256)
MODEL = "constant"
BODY = b'{"instances": [[1.0, 2.0, 5.0]]}'
IN_PROCESS, ONE, TWO, SERVERS = "in process", "1 front", "2 fronts", "2 servers"


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A way to serve; `targets` share the connections. Processes by what they do."""

    name: str
    targets: tuple[Target, ...]
    cores: tuple[int, ...]
    fronts: tuple[int, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of `wrk`; CPU times are microseconds per request, over all processes of a kind."""

    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int
    batch: float
    core_us: float
    front_us: float
    worker_us: float


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runs: dict[tuple[str, int], list[Run]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        pack(work / "store", MODEL, HERE / "constant_handler.py")
        model = Model(MODEL, work / "store", BODY)
        arrangements = [
            *stack.enter_context(_prototype(work / "prototype", model)),
            stack.enter_context(_whole_servers(work, model)),
        ]
        for arrangement in arrangements:
            _measure(arrangement, 16, 1)  # warm
        for number in range(options.rounds):
            for connections in CONNECTIONS:
                for arrangement in arrangements:
                    run = _measure(arrangement, connections, options.seconds)
                    runs.setdefault((arrangement.name, connections), []).append(run)
                    print(
                        f"{number + 1} {arrangement.name:10} c={connections:<3} {run}", flush=True
                    )
    _keep(runs, options)


# --- the arrangements ---


@contextmanager
def _prototype(work: Path, model: Model) -> Iterator[list[Arrangement]]:
    """The first three: one core process serves all of them, one at a time."""
    config, inference, metrics = _config(work, model)
    pairs = [socket.socketpair() for _ in range(3)]
    with ExitStack() as stack:
        ends = [core_end for core_end, _ in pairs]
        core = _started(stack, ["core", str(config), *(str(end.fileno()) for end in ends)], ends)
        ports = [_shared_port(stack), _shared_port(stack)]
        fronts = []
        for index, (port, (_, end)) in enumerate(
            zip((ports[0], ports[1], ports[1]), pairs, strict=True)
        ):
            arguments = ["front", str(port), str(end.fileno()), str(work / f"front-{index}")]
            fronts.append(_started(stack, arguments, [end]))
        for core_end, front_end in pairs:
            core_end.close()
            front_end.close()
        targets = [_target(port) for port in (inference, *ports)]
        for target in targets:
            _wait(target)
        shown = f"http://127.0.0.1:{metrics}/metrics"
        yield [
            Arrangement(IN_PROCESS, (targets[0],), (core,), (), (shown,)),
            Arrangement(ONE, (targets[1],), (core,), (fronts[0],), (shown,)),
            Arrangement(TWO, (targets[2],), (core,), tuple(fronts[1:]), (shown,)),
        ]


@contextmanager
def _whole_servers(work: Path, model: Model) -> Iterator[Arrangement]:
    with ExitStack() as stack:
        folders = [work / "server-1", work / "server-2"]
        servers = [stack.enter_context(marserve(folder, model)) for folder in folders]
        facts = [json.loads((one / "logs" / "marserve.json").read_text()) for one in folders]
        yield Arrangement(
            SERVERS,
            tuple(server.target for server in servers),
            tuple(server.pid for server in servers),
            (),
            tuple(f"{one['addresses']['metrics']}/metrics" for one in facts),
        )


def _started(stack: ExitStack, arguments: list[str], keep: Sequence[socket.socket]) -> int:
    process = subprocess.Popen(
        [sys.executable, str(PARTS), *arguments],
        pass_fds=[one.fileno() for one in keep],
        stdout=subprocess.DEVNULL,
    )
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)
    return process.pid


def _shared_port(stack: ExitStack) -> int:
    """A port that several processes can listen on; this socket only holds it."""
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    number: int = sock.getsockname()[1]
    return number


def _config(work: Path, model: Model) -> tuple[Path, int, int]:
    """The configuration of the core, its own inference port and its metrics port."""
    work.mkdir(parents=True)
    inference, management, metrics, *grpc = free_ports(5)
    settings = {"marName": f"{MODEL}.mar", "minWorkers": 1, "maxWorkers": 1}
    settings |= {"batchSize": model.batch, "maxBatchDelay": model.delay_ms}
    path = work / "config.properties"
    path.write_text(
        f"inference_address=http://127.0.0.1:{inference}\n"
        f"management_address=http://127.0.0.1:{management}\n"
        f"metrics_address=http://127.0.0.1:{metrics}\n"
        f"grpc_inference_port={grpc[0]}\ngrpc_management_port={grpc[1]}\n"
        f"model_store={model.store}\nload_models={MODEL}.mar\n"
        f"log_dir={work / 'logs'}\ncache_dir={work / 'cache'}\n"
        "disable_system_metrics=true\njob_queue_size=2048\n"
        f"models={json.dumps({MODEL: {'1.0': settings}})}\n"
    )
    return path, inference, metrics


def _target(port: int) -> Target:
    return Target(f"http://127.0.0.1:{port}/predictions/{MODEL}", BODY)


def _wait(target: Target) -> None:
    """Until it answers with 2xx, or for a minute."""
    end_at = time.monotonic() + 60
    request = Request(target.url, target.body, {"Content-Type": target.content_type})
    while True:
        try:
            with urlopen(request, timeout=10):
                return
        except OSError:
            if time.monotonic() > end_at:
                raise
            time.sleep(0.1)


# --- one run ---


def _measure(arrangement: Arrangement, connections: int, seconds: int) -> Run:
    before, used_before = _accounts(arrangement), _used(arrangement)
    share = connections // len(arrangement.targets)
    with ThreadPoolExecutor() as pool:
        found = list(
            pool.map(
                lambda target: wrk(target, share, seconds, arrangement.cores[0]),
                arrangement.targets,
            )
        )
    used, after = _used(arrangement), _accounts(arrangement)
    requests = sum(one.requests for one in found)
    core_us, front_us, worker_us = (
        (now - then) / requests * 1e6 for now, then in zip(used, used_before, strict=True)
    )
    return Run(
        per_s=sum(one.per_s for one in found),
        p50_ms=statistics.mean(one.p50_ms for one in found),
        p99_ms=max(one.p99_ms for one in found),
        failed=sum(one.failed for one in found),
        batch=after.since(before).batch_size,
        core_us=core_us,
        front_us=front_us,
        worker_us=worker_us,
    )


def _used(arrangement: Arrangement) -> tuple[float, float, float]:
    """CPU seconds of cores, fronts and workers so far."""
    alone = [sum(psutil.Process(pid).cpu_times()[:2]) for pid in arrangement.cores]
    families = sum(cpu_s(pid) for pid in arrangement.cores)
    fronts = sum(cpu_s(pid) for pid in arrangement.fronts)
    return sum(alone), fronts, families - sum(alone)


def _accounts(arrangement: Arrangement) -> Account:
    """What the servers of an arrangement have counted so far, together."""
    total = Account()
    for url in arrangement.metrics:
        with urlopen(url, timeout=10) as answer:
            one = read(answer.read().decode(), MODEL, None)
        assert one is not None
        total = Account(*(a + b for a, b in zip(astuple(total), astuple(one), strict=True)))
    return total


# --- what it comes to ---


def _limits(run: Run) -> tuple[float, float]:
    """Requests/s at which the core, and one front, have used up a core of the machine."""
    front = 1e6 / run.front_us if run.front_us else float("inf")
    return 1e6 / run.core_us, front


def _keep(runs: dict[tuple[str, int], list[Run]], options: argparse.Namespace) -> None:
    middle = {key: _median(several) for key, several in runs.items()}
    lines = [
        f"A constant answer, batch 32, one worker; medians of {options.rounds} rounds of "
        f"{options.seconds} s. CPU is microseconds per request in all processes of a kind; the "
        "last columns are the rates at which a process would have a core to itself and no more "
        "of it: of what owns queues and workers, of one front, of one worker. For two servers "
        "the first is the sum of both.",
        "",
        "| connections | arrangement | requests/s here | p50 ms | p99 ms | batch | core µs "
        "| front µs | worker µs | core's limit | a front's limit | a worker's limit |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (name, connections), run in sorted(middle.items(), key=lambda item: item[0][1]):
        core, front = _limits(run)
        core *= 2 if name == SERVERS else 1
        shown = f"{front:,.0f}" if run.front_us else "-"
        lines.append(
            f"| {connections} | {name} | {run.per_s:,.0f} | {run.p50_ms:.2f} | {run.p99_ms:.2f} "
            f"| {run.batch:.1f} | {run.core_us:.1f} | {run.front_us:.1f} | {run.worker_us:.1f} "
            f"| {core:,.0f} | {shown} | {1e6 / run.worker_us:,.0f} |"
        )
    lines += ["", *_verdict(middle)]
    raw = {
        "seconds": options.seconds,
        "rounds": options.rounds,
        "runs": [
            {"arrangement": name, "connections": connections, **asdict(run)}
            for (name, connections), several in runs.items()
            for run in several
        ],
    }
    save("front_processes", "Several front processes", raw, "\n".join(lines), _plot(middle))


def _median(runs: Sequence[Run]) -> Run:
    figures = [astuple(run) for run in runs]
    return Run(*(statistics.median(column) for column in zip(*figures, strict=True)))


def _verdict(middle: dict[tuple[str, int], Run]) -> list[str]:
    most = CONNECTIONS[-1]
    now, one, two = (middle[name, most] for name in (IN_PROCESS, ONE, TWO))
    core, front = _limits(two)
    return [
        f"At {most} connections the server as it is could answer {1e6 / now.core_us:,.0f}/s with "
        f"enough workers and clients. With fronts the core is at its end at {core:,.0f}/s, "
        f"{core * now.core_us / 1e6:.1f} times as much, which takes {core / front:.1f} fronts; a "
        f"request then costs {two.core_us + two.front_us:.1f} µs of CPU time besides its worker, "
        f"{(two.core_us + two.front_us) / now.core_us:.1f} times as much as now. On these few "
        f"cores, one front answers {one.per_s / now.per_s:.2f} times and two answer "
        f"{two.per_s / now.per_s:.2f} times as many requests as no front.",
    ]


def _plot(middle: dict[tuple[str, int], Run]) -> Figure:
    figure, axes = plot(columns=2)
    names = (IN_PROCESS, ONE, TWO, SERVERS)
    for place, name in enumerate(names):
        axes[0].plot(
            [str(connections) for connections in CONNECTIONS],
            [middle[name, connections].per_s for connections in CONNECTIONS],
            marker="o",
            label=name,
            color=colour(place),
        )
    axes[0].set(title="Requests/s on this machine", xlabel="connections", ylim=(0, None))
    axes[0].legend()
    runs = [middle[name, CONNECTIONS[-1]] for name in names]
    below = [0.0] * len(runs)
    for place, (label, heights) in enumerate(
        {
            "owner of queues and workers": [run.core_us for run in runs],
            "fronts": [run.front_us for run in runs],
            "worker": [run.worker_us for run in runs],
        }.items()
    ):
        axes[1].bar(names, heights, 0.6, below, label=label, color=colour(place))
        below = [a + b for a, b in zip(below, heights, strict=True)]
    title = f"CPU µs per request, {CONNECTIONS[-1]} connections"
    axes[1].set(title=title, ylim=(0, max(below) * 1.35))
    axes[1].legend(loc="upper left")
    return figure


if __name__ == "__main__":
    main()
