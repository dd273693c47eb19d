"""How batches are formed, ours and six others', side by side in a simulation.

    python benchmarks/simulate_batching.py [--requests 10000] [--seeds 5]

Ours is `marserve.batching.window`, the very object that the server runs; the others are the small
models of `batching_peers.py`, in the world of `batching_simulator.py`: batch size 32, batch delay
10 ms, ±3 % noise. Mean latency where requests come at random (a share of what full batches serve),
and requests/s where clients ask again about 0.4 ms after each answer, with one worker and with two;
and a sweep over curves, numbers of clients and think times that go
far beyond those cells. The rule was chosen with both in view, so neither is a blind test.

A cell counts as lost when we are behind the best by more than the noise: two standard errors of
the difference over the seeds. Every algorithm meets the same arrivals.
"""

from __future__ import annotations

import argparse
import random
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from batching_peers import (
    Cork,
    FirstReunion,
    Frozen,
    Greedy,
    Item,
    Policy,
    WindowIdle,
    WindowOldest,
)
from batching_simulator import DELAY_S, SIZE, Curve, Load, Think, at_once, simulate
from matplotlib.figure import Figure
from report import colour, plot, save

from marserve.batching.window import Limits, Window


class Ours:
    """The server's own rule."""

    def __init__(self, size: int, delay_s: float, workers: int) -> None:
        self._window: Window[Item] = Window(Limits(size, delay_s))

    def add(self, item: Item, now: float) -> None:
        """See `Policy`."""
        self._window.add(item, now)

    def due_at(self, now: float, idle: int) -> float | None:
        """See `Policy`."""
        return self._window.due_at(now, idle)

    def take(self, now: float) -> list[Item]:
        """See `Policy`."""
        return self._window.take(now)

    def answered(self, size: int, took_s: float, now: float) -> None:
        """See `Policy`."""
        self._window.answered(size, took_s, now)


POLICIES: dict[str, type[Ours] | type[Greedy]] = {
    "MarServe": Ours,
    "greedy": Greedy,
    "window-idle": WindowIdle,
    "window-oldest": WindowOldest,
    "frozen": Frozen,
    "CORK": Cork,
    "first reunion": FirstReunion,
}
CURVES = {
    "GPU-like": Curve("GPU-like", 0.008, 0.00025),
    "mid": Curve("mid", 0.004, 0.001),
    "CPU-like": Curve("CPU-like", 0.0005, 0.005),
}
OPEN = (("GPU-like", 0.05, 0.3, 0.6, 0.9), ("mid", 0.05, 0.6, 0.9), ("CPU-like", 0.3, 0.6, 0.9))
CLOSED = (("GPU-like", 1, 8, 24, 50), ("mid", 8, 24), ("CPU-like", 8))
SWEEP_CURVES = {
    **CURVES,
    "30 ms + 0.1 n": Curve("", 0.030, 0.0001),
    "2 ms + 0.02 n": Curve("", 0.002, 0.00002),
    "3 ms + 3 n": Curve("", 0.003, 0.003),
}
SWEEP_CLIENTS = (1, 2, 3, 4, 8, 16, 24, 32, 40, 50, 100)


def _some_think(rng: random.Random) -> float:
    """Most return at once, some read first."""
    return at_once(rng) if rng.random() < 0.7 else rng.expovariate(1 / 0.03)


THINKS: dict[str, Think] = {
    "at once": at_once,
    "1 to 5 ms": lambda rng: rng.uniform(0.001, 0.005),
    "about 2 ms": lambda rng: 0.0003 + rng.expovariate(1 / 0.002),
    "about 10 ms": lambda rng: 0.0003 + rng.expovariate(1 / 0.010),
    "about 50 ms": lambda rng: 0.0003 + rng.expovariate(1 / 0.050),
    "some at once": _some_think,
}


@dataclass(frozen=True)
class Cell:
    """One load on one curve."""

    curve: str
    workers: int
    clients: int = 0
    load: float = 0.0
    think: str = "at once"

    @property
    def is_open(self) -> bool:
        """Whether latency counts, and not throughput."""
        return not self.clients


def main() -> None:
    """Simulate, print, keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    cells = [
        *(Cell(c, w, load=x) for w in (1, 2) for c, *loads in OPEN for x in loads),
        *(Cell(c, w, clients=k) for w in (1, 2) for c, *counts in CLOSED for k in counts),
    ]
    sweep = [
        Cell(curve, workers, clients=clients, think=think)
        for workers in (1, 2)
        for curve in SWEEP_CURVES
        for think in THINKS
        for clients in SWEEP_CLIENTS
    ]
    jobs = [(cell, options.requests, options.seeds) for cell in cells]
    jobs += [(cell, options.requests // 3, 2) for cell in sweep]
    with ProcessPoolExecutor() as pool:
        found = dict(zip(cells + sweep, pool.map(_figures, jobs, chunksize=4), strict=True))
    raw = {
        "requests": options.requests,
        "seeds": options.seeds,
        "cells": [{**cell.__dict__, "figures": found[cell]} for cell in cells],
        "sweep": [{**cell.__dict__, "figures": found[cell]} for cell in sweep],
    }
    text = "\n".join([*_tables(cells, found), *_verdict(cells, found), *_sweep(sweep, found)])
    title = "How batches are formed: a simulation"
    save("simulate_batching", title, raw, text, _picture(cells, sweep, found))


def _figures(job: tuple[Cell, int, int]) -> dict[str, list[float]]:
    """One figure per seed of each algorithm: mean ms (open loop) or requests/s."""
    cell, requests, seeds = job
    curve = SWEEP_CURVES[cell.curve]
    load = Load(cell.clients, THINKS[cell.think], cell.load * cell.workers * curve.per_s(SIZE))
    found = {}
    for name, make in POLICIES.items():
        figures = []
        for seed in range(seeds):
            policy: Policy = make(SIZE, DELAY_S, cell.workers)
            got = simulate(policy, curve, load, seed, requests, cell.workers)
            figures.append(round(got.mean_ms if cell.is_open else got.per_s, 3))
        found[name] = figures
    return found


Found = dict[Cell, dict[str, list[float]]]


def _tables(cells: list[Cell], found: Found) -> list[str]:
    names = list(POLICIES)
    lines = []
    for workers in (1, 2):
        for is_open, what in ((True, "Mean latency in ms"), (False, "Requests/s")):
            lines += [f"**{what}, {'one worker' if workers == 1 else 'two workers'}**", ""]
            head = "load" if is_open else "clients"
            lines += [f"| curve | {head} | " + " | ".join(names) + " |"]
            lines += ["| --- | ---: |" + " ---: |" * len(names)]
            for cell in cells:
                if (cell.workers, cell.is_open) == (workers, is_open):
                    lines.append(_row(cell, found[cell]))
            lines.append("")
    return lines


def _row(cell: Cell, figures: dict[str, list[float]]) -> str:
    means = {name: statistics.fmean(own) for name, own in figures.items()}
    shown = []
    for name, mean in means.items():
        text = f"{mean:,.1f}" if cell.is_open else f"{mean:,.0f}"
        is_best = _behind(cell, figures, name)[0] <= 0.0 or name == _best(cell, figures)
        shown.append(f"**{text}**" if is_best else text)
    load = f"{cell.load:.0%}" if cell.is_open else str(cell.clients)
    return f"| {cell.curve} | {load} | " + " | ".join(shown) + " |"


def _best(cell: Cell, figures: dict[str, list[float]]) -> str:
    pick = min if cell.is_open else max
    return pick(figures, key=lambda name: statistics.fmean(figures[name]))


def _behind(
    cell: Cell, figures: dict[str, list[float]], name: str = "MarServe"
) -> tuple[float, float]:
    """By what share `name` is behind the best beyond the noise (0: not), and without it."""
    best = figures[_best(cell, figures)]
    sign = 1.0 if cell.is_open else -1.0
    gaps = [sign * (own - other) for own, other in zip(figures[name], best, strict=True)]
    mean = statistics.fmean(gaps)
    noise = 2.0 * statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
    whole = statistics.fmean(best)
    return max(0.0, mean - noise) / whole, mean / whole


def _verdict(cells: list[Cell], found: Found) -> list[str]:
    lines = []
    for workers, words in ((1, "One worker"), (2, "Two workers")):
        own = [cell for cell in cells if cell.workers == workers]
        lost = [cell for cell in own if _behind(cell, found[cell])[0] > 0.0]
        line = f"{words}: as good as the best in {len(own) - len(lost)} of {len(own)} cells"
        for cell in lost:
            load = f"{cell.load:.0%}" if cell.is_open else f"{cell.clients} clients"
            share = _behind(cell, found[cell])[1]
            line += f"; {cell.curve} {load}: {share:.2%} behind {_best(cell, found[cell])}"
        lines += [line + ".", ""]
    return lines


def _sweep(sweep: list[Cell], found: Found) -> list[str]:
    lines = [
        "**Sweep**: requests/s against the best of the others in each of "
        f"{len(sweep) // 2} closed loops ({len(SWEEP_CURVES)} curves, {len(THINKS)} think times, "
        f"{SWEEP_CLIENTS[0]} to {SWEEP_CLIENTS[-1]} clients), and against greedy alone.",
        "",
        "| workers | | least | 5 % | median | 95 % | most |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for workers in (1, 2):
        for against, shares in _shares([c for c in sweep if c.workers == workers], found).items():
            marks = (0.0, 0.05, 0.5, 0.95, 1.0)
            cut = " | ".join(f"{shares[int(mark * (len(shares) - 1))]:.3f}" for mark in marks)
            lines.append(f"| {workers} | against {against} | {cut} |")
    return lines


def _shares(sweep: list[Cell], found: Found) -> dict[str, list[float]]:
    shares: dict[str, list[float]] = {"the best": [], "greedy": []}
    for cell in sweep:
        means = {name: statistics.fmean(own) for name, own in found[cell].items()}
        ours = means.pop("MarServe")
        shares["the best"].append(ours / max(means.values()))
        shares["greedy"].append(ours / means["greedy"])
    return {against: sorted(own) for against, own in shares.items()}


def _picture(cells: list[Cell], sweep: list[Cell], found: Found) -> Figure:
    figure, axes = plot(columns=2, rows=2)
    for axis, is_open in ((axes[0], True), (axes[1], False)):
        own = [c for c in cells if c.workers == 1 and c.is_open == is_open]
        for place, name in enumerate(POLICIES):
            ratios = []
            for cell in own:
                best = statistics.fmean(found[cell][_best(cell, found[cell])])
                mean = statistics.fmean(found[cell][name])
                ratios.append(best / mean if is_open else mean / best)
            marker = "o" if place == 0 else "."
            axis.plot(
                range(len(own)), ratios, marker, color=colour(place), label=name, zorder=9 - place
            )
        load = [f"{c.load:.0%}" if is_open else str(c.clients) for c in own]
        labels = [f"{c.curve.split('-')[0]} {x}" for c, x in zip(own, load, strict=True)]
        axis.set_xticks(range(len(own)), labels, rotation=60)
        axis.set_ylim(0, 1.05)
        axis.set_title(
            "open loop: best latency ÷ own" if is_open else "closed loop: own rate ÷ best"
        )
    axes[1].legend(fontsize=7.5, loc="lower right")
    for axis, workers in ((axes[2], 1), (axes[3], 2)):
        chosen = [c for c in sweep if c.workers == workers]
        for place, (against, shares) in enumerate(_shares(chosen, found).items()):
            steps = [100.0 * index / (len(shares) - 1) for index in range(len(shares))]
            axis.plot(steps, shares, color=colour(place), label=f"against {against}")
        axis.axhline(1.0, color="#999999", linewidth=0.8)
        axis.set_title(f"sweep, {workers} worker{'s' if workers > 1 else ''}: own rate ÷ other")
        axis.set_xlabel("share of the cells, %")
    axes[2].legend()
    return figure


if __name__ == "__main__":
    main()
