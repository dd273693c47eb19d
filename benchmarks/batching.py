"""Batching on a launch-bound model, over real sockets: MarServe, greedy batches, TorchServe.

    python benchmarks/batching.py [--seconds 3] [--rounds 3] [--peers FOLDER]

The handler sleeps 8 ms and 0.25 ms per row (`launch_cost_handler.py`): one worker, batch size 32,
batch delay 10 ms. Closed loop: 1, 8, 24 and 50 clients that ask again at once. Open loop: Poisson
arrivals at 5, 30, 60 and 90 % of what full batches serve (2000 requests/s). *Greedy* is MarServe
with `maxBatchDelay` 0: a batch leaves whenever the worker is free. TorchServe is taken from FOLDER
(see `peers/install.py`), and left out where there is none. The contenders take turns; medians of
the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from batching_load import Got, Offered, measure
from matplotlib.figure import Figure
from report import colour, plot, save
from servers import Model, Server, marserve, pack, torchserve

CLIENTS = (1, 8, 24, 50)
LOADS = (0.05, 0.30, 0.60, 0.90)
CAPACITY_PER_S = 2000.0
HANDLER = Path(__file__).parent / "launch_cost_handler.py"
OURS, GREEDY, PEER = "MarServe", "greedy", "TorchServe"
_CLOSED, _OPEN = "closed", "open"

Start = Callable[[Path], AbstractContextManager[Server]]
Cell = tuple[str, float]


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = _measure_all(Path(folder), options.seconds, options.rounds, options.peers)
    raw = {
        "seconds": options.seconds,
        "runs": [
            {"contender": name, "loop": cell[0], "load": cell[1], **got.raw()}
            for name, cell, got in runs
        ],
    }
    found = _medians(runs)
    save("batching", "Batching on a launch-bound model", raw, _tables(found), _picture(found))


def _measure_all(
    work: Path, seconds: float, rounds: int, peers: Path | None
) -> list[tuple[str, Cell, Got]]:
    store = work / "store"
    store.mkdir()
    pack(store, "launch", HANDLER)
    model = Model("launch", store, b"{}", workers=1, batch=32, delay_ms=10)
    contenders: dict[str, Start] = {
        OURS: lambda folder: marserve(folder, model),
        # 0 in `models` leaves it to the default, in TorchServe too
        GREEDY: lambda folder: marserve(folder, replace(model, delay_ms=0), "max_batch_delay=0\n"),
    }
    if peers is not None:
        contenders[PEER] = lambda folder: torchserve(folder, model, peers)
    runs = []
    for number in range(rounds):
        for name, start in contenders.items():
            with start(work / f"{name}-{number}") as server:
                for cell in _cells():
                    got = measure(server.target.url, _offered(cell, seconds, number))
                    print(number, name, *cell, got.raw(), flush=True)
                    runs.append((name, cell, got))
    return runs


def _cells() -> list[Cell]:
    return [(_CLOSED, float(c)) for c in CLIENTS] + [(_OPEN, load) for load in LOADS]


def _offered(cell: Cell, seconds: float, seed: int) -> Offered:
    loop, load = cell
    if loop == _CLOSED:
        return Offered(seconds, clients=int(load))
    return Offered(seconds, per_s=load * CAPACITY_PER_S, seed=seed)


def _medians(runs: list[tuple[str, Cell, Got]]) -> dict[str, dict[Cell, Got]]:
    found: dict[str, dict[Cell, Got]] = {}
    for name in dict.fromkeys(name for name, _, _ in runs):
        for cell in _cells():
            own = [got for who, what, got in runs if (who, what) == (name, cell)]
            found.setdefault(name, {})[cell] = Got(
                statistics.median(got.per_s for got in own),
                statistics.median(got.mean_ms for got in own),
                statistics.median(got.p99_ms for got in own),
            )
    return found


def _tables(found: dict[str, dict[Cell, Got]]) -> str:
    names = list(found)
    lines = ["Requests/s, and in brackets the mean latency in ms.", ""]
    lines += ["| clients | " + " | ".join(names) + " |", "| ---: |" + " ---: |" * len(names)]
    for clients in CLIENTS:
        got = [found[name][_CLOSED, float(clients)] for name in names]
        cells = (f"{one.per_s:,.0f} ({one.mean_ms:.1f})" for one in got)
        lines.append(f"| {clients} | " + " | ".join(cells) + " |")
    lines += ["", "Open loop: mean latency in ms, and in brackets the 99th percentile.", ""]
    lines += ["| load | " + " | ".join(names) + " |", "| ---: |" + " ---: |" * len(names)]
    for load in LOADS:
        got = [found[name][_OPEN, load] for name in names]
        cells = (f"{one.mean_ms:.1f} ({one.p99_ms:.1f})" for one in got)
        lines.append(f"| {load:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _picture(found: dict[str, dict[Cell, Got]]) -> Figure:
    figure, axes = plot(columns=2)
    width = 0.8 / len(found)
    places: list[tuple[Any, str, list[Cell], list[str]]] = [
        (axes[0], "closed loop: requests/s", _cells()[:4], [str(c) for c in CLIENTS]),
        (axes[1], "open loop: mean latency, ms", _cells()[4:], [f"{x:.0%}" for x in LOADS]),
    ]
    for axis, title, cells, labels in places:
        for place, (name, got) in enumerate(found.items()):
            heights = [got[c].per_s if c[0] == _CLOSED else got[c].mean_ms for c in cells]
            spots = [index + (place + 0.5) * width - 0.4 for index in range(len(cells))]
            axis.bar(spots, heights, width * 0.94, color=colour(place), label=name)
        axis.set_title(title)
        axis.set_xticks(range(len(cells)), labels)
        axis.grid(axis="x", visible=False)
    axes[0].set_xlabel("clients")
    axes[1].set_xlabel("share of what full batches serve")
    axes[0].legend()
    return figure


if __name__ == "__main__":
    main()
