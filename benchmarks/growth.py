"""Cost as work grows: connections, bodies, registered models, workers of one model.

    python benchmarks/growth.py [--seconds 2] [--only connections,bodies,models,workers]

Each table doubles or multiplies one thing and holds the rest. A slope is that of a straight line
in the log-log plot: 1 means that twice the work costs twice as much, less is better, and more than
1 would be super-linear. CPU time per request stands beside the rates, since the load generator has
the same cores. Kept in `results/growth.*`. Needs `wrk`. About two minutes.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from load import wrk
from peers.catalogue import BODY
from report import colour, plot, save
from servers import Model, marserve, pack

HERE = Path(__file__).parent
CONNECTIONS = (1, 4, 16, 64, 256, 1024)
BODY_BYTES = (1, 100, 10_000, 100_000, 1_000_000, 10_000_000)
MODELS = (1, 10, 100, 1000)
WORKERS = (1, 2, 4, 8)
STEEPEST = 1.1
"""What a slope may be before it counts as super-linear: measurements are not exact."""
LIMIT = "max_request_size=20000000\nmax_response_size=20000000\n"


@dataclass(frozen=True, slots=True)
class Growth:
    """One table: `columns` over `sizes`. `costs` are the columns that must not be super-linear."""

    title: str
    unit: str
    sizes: Sequence[int]
    columns: dict[str, list[float]]
    costs: Sequence[str]

    def slope(self, column: str) -> float:
        """Of the line from the first size to the last."""
        values = self.columns[column]
        return math.log(values[-1] / values[0]) / math.log(self.sizes[-1] / self.sizes[0])

    def last_slope(self, column: str) -> float:
        """Of the last step alone, where a super-linear part would show most."""
        values = self.columns[column]
        return math.log(values[-1] / values[-2]) / math.log(self.sizes[-1] / self.sizes[-2])


def main() -> int:
    """Measure, print, keep. Exit code 1 when anything is super-linear."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=2, help="length of one run of wrk")
    parser.add_argument("--only", default="connections,bodies,models,workers")
    options = parser.parse_args()
    growths: list[Growth] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("constant", "size", "waiting"):
            pack(work / "store", name, HERE / f"{name}_handler.py")
        for name in options.only.split(","):
            growths.append(TABLES[name](work, options.seconds))
            print(growths[-1], file=sys.stderr, flush=True)
    return _keep(growths, options.seconds)


# --- the four ways of growing ---------------------------------------------------------------------


def _connections(work: Path, seconds: int) -> Growth:
    columns: dict[str, list[float]] = {"p50 ms": [], "p99 ms": [], "requests/s": []}
    columns |= {"CPU µs per request": [], "failed": []}
    with marserve(work / "connections", Model("constant", work / "store", BODY)) as server:
        wrk(server.target, 16, 1, server.pid)
        for count in CONNECTIONS:
            figure = wrk(server.target, count, seconds, server.pid)
            values = (figure.p50_ms, figure.p99_ms, figure.per_s, figure.server_us, figure.failed)
            _append(columns, values)
    return Growth("Connections", "connections", CONNECTIONS, columns,
                  ("p50 ms", "CPU µs per request"))  # fmt: skip


def _bodies(work: Path, seconds: int) -> Growth:
    columns: dict[str, list[float]] = {"ms per request": [], "p99 ms": [], "MB/s": []}
    columns |= {"CPU µs per request": [], "failed": []}
    for size in BODY_BYTES:
        model = Model("size", work / "store", b"x" * size, "application/octet-stream", batch=4)
        with marserve(work / f"bodies-{size}", model, LIMIT) as server:
            wrk(server.target, 4, 1, server.pid)
            figure = wrk(server.target, 4, seconds, server.pid)
        values = (1000 / figure.per_s, figure.p99_ms, figure.per_s * size / 1e6)
        _append(columns, (*values, figure.server_us, figure.failed))
    return Growth("Bodies: so many bytes in, their number out, 4 connections", "bytes",
                  BODY_BYTES, columns, ("ms per request", "CPU µs per request"))  # fmt: skip


def _models(work: Path, seconds: int) -> Growth:
    columns: dict[str, list[float]] = {"seconds to register all": [], "p50 ms of one": []}
    columns |= {"requests/s of one": [], "CPU µs per request": [], "memory MB": []}
    columns |= {"ms to list a page": []}
    place = work / "models"
    with marserve(place, Model("constant", work / "store", BODY)) as server:
        management = _Management(place)
        took_s, registered = 0.0, 0
        wrk(server.target, 16, 1, server.pid)
        for count in MODELS:
            started = time.perf_counter()
            for number in range(registered, count):
                query = f"url=constant.mar&model_name=other{number}&initial_workers=0"
                management.ask("POST", f"/models?{query}")
            took_s += time.perf_counter() - started
            registered = count
            figure = wrk(server.target, 16, seconds, server.pid)
            started = time.perf_counter()
            management.ask("GET", "/models?limit=100")
            page_ms = (time.perf_counter() - started) * 1000
            values = (took_s, figure.p50_ms, figure.per_s, figure.server_us)
            _append(columns, (*values, _memory_mb(server.pid), page_ms))
        management.close()
    return Growth("Models beside the one asked, 16 connections", "models", MODELS, columns,
                  ("seconds to register all", "CPU µs per request", "memory MB"))  # fmt: skip


def _workers(work: Path, seconds: int) -> Growth:
    columns: dict[str, list[float]] = {"requests/s, waiting 5 ms": [], "p99 ms, waiting": []}
    columns |= {"requests/s, constant": [], "CPU µs per request": [], "memory MB": []}
    for count in WORKERS:
        waiting = Model("waiting", work / "store", BODY, workers=count, batch=1)
        with marserve(work / f"waiting-{count}", waiting) as server:
            slow = wrk(server.target, 64, seconds, server.pid)
        constant = Model("constant", work / "store", BODY, workers=count)
        with marserve(work / f"constant-{count}", constant) as server:
            wrk(server.target, 64, 1, server.pid)
            fast = wrk(server.target, 64, seconds, server.pid)
            memory_mb = _memory_mb(server.pid)
        _append(columns, (slow.per_s, slow.p99_ms, fast.per_s, fast.server_us, memory_mb))
    return Growth("Workers of one model, 64 connections", "workers", WORKERS, columns,
                  ("CPU µs per request", "memory MB"))  # fmt: skip


TABLES: dict[str, Callable[[Path, int], Growth]] = {
    "connections": _connections,
    "bodies": _bodies,
    "models": _models,
    "workers": _workers,
}


class _Management:
    """The management port of the server whose folder is `place`."""

    def __init__(self, place: Path) -> None:
        facts = json.loads((place / "logs" / "marserve.json").read_text())
        address = urlsplit(facts["addresses"]["management"]).netloc
        self._connection = http.client.HTTPConnection(address, timeout=60)

    def ask(self, method: str, path: str) -> None:
        """Ask, and insist on a good answer."""
        self._connection.request(method, path)
        response = self._connection.getresponse()
        text = response.read()
        assert response.status == 200, text

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _memory_mb(pid: int) -> float:
    """Of all processes together; what they share is counted once."""
    leader = psutil.Process(pid)
    family = [leader, *leader.children(recursive=True)]
    return sum(float(one.memory_full_info().pss) for one in family) / 1e6


def _append(columns: dict[str, list[float]], values: Sequence[float]) -> None:
    for column, value in zip(columns.values(), values, strict=True):
        column.append(float(value))


# --- what it shows --------------------------------------------------------------------------------


def _keep(growths: list[Growth], seconds: int) -> int:
    lines = [f"One worker unless it says otherwise; runs of {seconds} s."]
    steep: list[str] = []
    for growth in growths:
        lines += _table(growth)
        for cost in growth.costs:
            if max(growth.slope(cost), growth.last_slope(cost)) > STEEPEST:
                steep.append(f"{cost} over {growth.unit}")
    told = f"super-linear: {', '.join(steep)}" if steep else "nothing is super-linear"
    lines += ["", f"Verdict: {told} (steeper than {STEEPEST:g})."]
    picture, axes = plot(columns=2, rows=-(-len(growths) // 2))
    for axis in axes[len(growths) :]:
        axis.set_visible(False)
    for axis, growth in zip(axes, growths, strict=False):
        for place, (name, values) in enumerate(growth.columns.items()):
            if min(values) > 0:
                axis.plot(growth.sizes, values, "o-", color=colour(place), label=name)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel(growth.unit)
        axis.set_title(growth.title)
        axis.legend(fontsize=7.5)
    raw = {
        "seconds": seconds,
        "tables": [
            {"title": growth.title, growth.unit: list(growth.sizes)}
            | {name: [round(v, 4) for v in values] for name, values in growth.columns.items()}
            for growth in growths
        ],
    }
    save("growth", "Cost as work grows", raw, "\n".join(lines), picture)
    return 1 if steep else 0


def _table(growth: Growth) -> list[str]:
    names = list(growth.columns)
    lines = ["", f"## {growth.title}", "", f"| {growth.unit} | {' | '.join(names)} |"]
    lines.append("| ---: |" + " ---: |" * len(names))
    for index, size in enumerate(growth.sizes):
        cells = " | ".join(_number(growth.columns[name][index]) for name in names)
        lines.append(f"| {size:,} | {cells} |")
    slopes = "; ".join(
        f"{cost} {growth.slope(cost):.2f} (last step {growth.last_slope(cost):.2f})"
        for cost in growth.costs
    )
    return [*lines, "", f"Slopes: {slopes}."]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
