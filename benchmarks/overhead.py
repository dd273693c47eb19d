"""What the server itself costs: MarServe against TorchServe, the same archive, the same machine.

    python benchmarks/overhead.py [--seconds 5] [--rounds 3] [--peer-env DIR]

A constant-answer handler (batch 32, delay 1 ms, one worker) is driven by `wrk` with a small JSON
body at 1, 16 and 64 connections. The two servers take turns in every round; the table has the
median of the rounds. TorchServe 0.12.0 lives in an environment of its own (`--peer-env`, made on
first use; needs Java 17), never in the product's. The last table is kept in `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
RESULT = HERE / "results" / "overhead.md"
CONNECTIONS = (1, 16, 64)
BAR = 3.0
PORT = 18080
BATCH, DELAY_MS = 32, 1
BODY = '{"instances": [[1.0, 2.0, 5.0]]}'
PEER_PACKAGES = ("torchserve==0.12.0", "torch-model-archiver==0.12.0", "torch", "setuptools<80")
START_S = 180


@dataclass(frozen=True, slots=True)
class Figure:
    """One run of wrk."""

    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def main() -> int:
    """Measure, print, keep. Exit code 1 when the bar is missed."""
    options = _options()
    for tool in ("wrk", "java"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is needed (Debian packages wrk, openjdk-17-jre-headless).")
    peer = _peer(Path(options.peer_env))
    figures: dict[tuple[str, int], list[Figure]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        _pack(work / "store")
        servers: dict[str, Callable[[], Iterator[None]]] = {
            "TorchServe 0.12.0": lambda: _torchserve(peer, work),
            "MarServe": lambda: _marserve(work),
        }
        for number in range(options.rounds):
            for name, start in servers.items():
                with contextmanager(start)():
                    _wrk(16, 2, work)  # warm: the JVM compiles, caches fill
                    for connections in CONNECTIONS:
                        figure = _wrk(connections, options.seconds, work)
                        figures.setdefault((name, connections), []).append(figure)
                        run = f"round {number + 1}  {name:18} c={connections:<3}"
                        _say(f"{run} {figure.per_s:9.0f}/s")
    table, worst = _table(figures, options)
    print(table)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(table)
    return 0 if worst >= BAR else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5, help="length of one run of wrk")
    parser.add_argument("--rounds", type=int, default=3)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument("--peer-env", default=str(cache / "marserve-benchmarks" / "torchserve"))
    return parser.parse_args()


def _peer(env: Path) -> Path:
    """The folder of TorchServe's commands; the environment is made when it is not there."""
    commands = env / "bin"
    if not (commands / "torchserve").exists():
        _say(f"making an environment for TorchServe in {env} (several GB, some minutes)")
        subprocess.run([sys.executable, "-m", "venv", str(env)], check=True)
        subprocess.run([str(commands / "pip"), "install", "-q", *PEER_PACKAGES], check=True)
    return commands


def _pack(store: Path) -> None:
    handler = HERE / "constant_handler.py"
    command = [sys.executable, "-m", "marserve_archiver", "--model-name", "constant"]
    command += ["--version", "1.0", "--handler", str(handler), "--export-path", str(store)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _config(work: Path, name: str, extra: str) -> Path:
    models = {"constant": {"1.0": {"marName": "constant.mar", "minWorkers": 1, "maxWorkers": 1,
                                   "batchSize": BATCH, "maxBatchDelay": DELAY_MS}}}  # fmt: skip
    path = work / f"{name}.properties"
    path.write_text(
        f"inference_address=http://127.0.0.1:{PORT}\n"
        f"management_address=http://127.0.0.1:{PORT + 1}\n"
        f"metrics_address=http://127.0.0.1:{PORT + 2}\n"
        f"model_store={work / 'store'}\nload_models=constant.mar\ndisable_system_metrics=true\n"
        f"models={json.dumps(models)}\n{extra}"
    )
    return path


def _torchserve(commands: Path, work: Path) -> Iterator[None]:
    config = _config(work, "torchserve", "disable_token_authorization=true\n")
    command = [str(commands / "torchserve"), "--start", "--foreground", "--ncs"]
    command += ["--ts-config", str(config)]
    environment = os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "LOG_LOCATION": str(work / "ts-logs"),
        "METRICS_LOCATION": str(work / "ts-logs"),
        "TEMP": str(work),
        "TMPDIR": str(work),
    }
    yield from _running(command, environment, work)


def _marserve(work: Path) -> Iterator[None]:
    extra = f"log_dir={work / 'logs'}\ncache_dir={work / 'cache'}\n"
    command = [sys.executable, "-m", "marserve", "serve", "--ncs"]
    command += ["--config", str(_config(work, "marserve", extra))]
    yield from _running(command, dict(os.environ), work)


def _running(command: list[str], environment: dict[str, str], work: Path) -> Iterator[None]:
    log = work / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, cwd=work, start_new_session=True
        )
    try:
        _wait_until_it_predicts(process, log)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_it_predicts(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
        try:
            connection.request("POST", "/predictions/constant", BODY)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    sys.exit(f"The server did not answer.\n{log.read_text()[-3000:]}")


def _wrk(connections: int, seconds: int, work: Path) -> Figure:
    script = work / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{BODY}'\n"
        "wrk.headers['Content-Type'] = 'application/json'\n"
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    command.append(f"http://127.0.0.1:{PORT}/predictions/constant")
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    failed = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    errors = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    failed += sum(map(int, errors.groups())) if errors else 0
    per_s = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert per_s is not None, text
    return Figure(float(per_s[1]), _quantile(text, "50%"), _quantile(text, "99%"), failed)


def _quantile(text: str, name: str) -> float:
    found = re.search(rf"{name}\s+([\d.]+)(us|ms|s)\b", text)
    assert found is not None, text
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def _table(
    figures: dict[tuple[str, int], list[Figure]], options: argparse.Namespace
) -> tuple[str, float]:
    names = list(dict.fromkeys(name for name, _ in figures))
    lines = [
        "# Overhead: a constant answer",
        "",
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores shared by server, worker "
        f"and load generator, Python {platform.python_version()}. Batch {BATCH}, "
        f"delay {DELAY_MS} ms, one worker, the same archive. "
        f"Median of {options.rounds} rounds of {options.seconds} s.",
        "",
        "| connections | server | requests/s | p50 ms | p99 ms | failed | times TorchServe |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    worst = float("inf")
    for connections in CONNECTIONS:
        base = statistics.median(f.per_s for f in figures[names[0], connections])
        for name in names:
            runs = figures[name, connections]
            per_s = statistics.median(f.per_s for f in runs)
            p50 = statistics.median(f.p50_ms for f in runs)
            p99 = statistics.median(f.p99_ms for f in runs)
            failed = sum(f.failed for f in runs)
            lines.append(
                f"| {connections} | {name} | {per_s:,.0f} | {p50:.2f} | {p99:.2f} | {failed} "
                f"| {per_s / base:.1f} |"
            )
        worst = min(worst, per_s / base)
    lines += [
        "",
        f"The bar is {BAR:g} times at every number of connections; the least is {worst:.1f}.",
    ]
    return "\n".join(lines) + "\n", worst


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
