"""One run of load: what is asked, `wrk` asking it, and the figures that come back.

`wrk` drives a server with one thread over a fixed number of connections, each of which sends its
next request when the last one is answered. Answers other than 2xx and errors of sockets count as
failures. Beside the rates stands the CPU time of server and load generator per request, which
does not depend on who else has the cores.
"""

from __future__ import annotations

import re
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True, slots=True)
class Target:
    """What is sent, and where to."""

    url: str
    body: bytes
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Figure:
    """What one run showed. Only good answers count in `per_s`; the percentiles are of all.

    `server_us` and `load_us` are CPU time per answer.
    """

    per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    requests: int
    failed: int
    server_us: float
    load_us: float

    def raw(self) -> dict[str, Any]:
        """For a result file, rounded to what means something."""
        return {key: round(value, 4) for key, value in asdict(self).items()}


def wrk(
    target: Target, connections: int, seconds: float, pid: int, threads: int = 1, delay_ms: int = 0
) -> Figure:
    """Drive `target` for some seconds.

    Args:
        target: answered with 2xx when all is well.
        connections: that are open, and so the most requests under way.
        seconds: of load; `wrk` counts in whole ones.
        pid: of the server, whose CPU time counts with that of its descendants.
        threads: of the load generator.
        delay_ms: what each connection waits before it asks again.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["wrk", f"-t{min(threads, connections)}", f"-c{connections}", "--latency"]
        command += [f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
        command += ["-s", str(_script(target, Path(folder), delay_ms)), target.url]
        server_before, load_before = cpu_s(pid), _children_cpu_s()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        server_s, load_s = cpu_s(pid) - server_before, _children_cpu_s() - load_before
    return _figure(done.stdout, server_s, load_s)


def median(runs: Iterable[Figure]) -> Figure:
    """Each figure's median over the runs; requests and failures are summed."""
    all_runs = [asdict(run) for run in runs]
    middle: dict[str, Any] = {
        key: statistics.median(run[key] for run in all_runs) for key in all_runs[0]
    }
    for key in ("requests", "failed"):
        middle[key] = sum(run[key] for run in all_runs)
    return Figure(**middle)


def cpu_s(pid: int) -> float:
    """CPU time that a process and its living descendants have used so far, in seconds."""
    total = 0.0
    process = psutil.Process(pid)
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _script(target: Target, folder: Path, delay_ms: int) -> Path:
    # the body comes from a file, so that it may be any bytes
    body, script = folder / "body", folder / "post.lua"
    body.write_bytes(target.body)
    script.write_text(
        f"local file = io.open('{body}', 'rb')\n"
        "wrk.method = 'POST'\nwrk.body = file:read('*a')\nfile:close()\n"
        f"wrk.headers['Content-Type'] = '{target.content_type}'\n"
        + (f"function delay() return {delay_ms} end\n" if delay_ms else "")
    )
    return script


def _figure(text: str, server_s: float, load_s: float) -> Figure:
    total = re.search(r"(\d+) requests in ", text)
    per_s = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert total is not None, text
    assert per_s is not None, text
    requests = int(total[1])
    good = 1 - _refused(text) / max(requests, 1)
    return Figure(
        per_s=float(per_s[1]) * good,
        p50_ms=_quantile(text, "50%"),
        p90_ms=_quantile(text, "90%"),
        p99_ms=_quantile(text, "99%"),
        requests=requests,
        failed=_failures(text),
        server_us=server_s / max(requests, 1) * 1e6,
        load_us=load_s / max(requests, 1) * 1e6,
    )


def _refused(text: str) -> int:
    return sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))


def _failures(text: str) -> int:
    errors = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    return _refused(text) + (sum(map(int, errors.groups())) if errors else 0)


def _quantile(text: str, name: str) -> float:
    found = re.search(rf"{name}\s+([\d.]+)(us|ms|s|m)\b", text)
    assert found is not None, text
    return float(found[1]) * UNITS_MS[found[2]]


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
