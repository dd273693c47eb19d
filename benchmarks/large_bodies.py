"""Large bodies: how much longer 1 MB takes through MarServe than through a bare echo.

    python benchmarks/large_bodies.py [--seconds 4] [--rounds 3] [--megabytes 1]

16 connections of `wrk` send a binary tensor; the handler answers with the same bytes, or with
their number. Beside MarServe stand two servers that do nothing else (`bare_echo.py`): one that
answers from the process that reads, and one with a second process behind a socketpair, which is
the way that a request takes. The contenders take turns; the figure is the ratio of the times per
request. Kept in `results/large_bodies.*`. Needs `wrk`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from load import Figure, Target, median, wrk
from report import colour, plot, save
from servers import Command, Model, Server, free_ports, marserve, pack, running

HERE = Path(__file__).parent
CONNECTIONS = 16
BAR = 1.5
ANSWERS = {"same": "the same bytes", "small": "their number"}
OURS, DIRECT, HOP = "MarServe", "bare echo", "bare echo behind a socketpair"
Start = Callable[[], AbstractContextManager[Server]]
Runs = dict[tuple[str, str], list[Figure]]


def main() -> int:
    """Measure, print, keep. Exit code 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=4, help="length of one run of wrk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=4, help="batch size of the model")
    options = parser.parse_args()
    body = os.urandom(int(options.megabytes * 2**20))
    runs: Runs = {}
    with tempfile.TemporaryDirectory() as folder:
        starts = _contenders(Path(folder), body, options.batch)
        for _ in range(options.rounds):
            for (name, answer), start in starts.items():
                with start() as server:
                    wrk(server.target, CONNECTIONS, 1, server.pid)
                    figure = wrk(server.target, CONNECTIONS, options.seconds, server.pid)
                runs.setdefault((name, answer), []).append(figure)
                print(f"{name:30} {answer:6} {figure}", file=sys.stderr, flush=True)
    return _keep(runs, options)


def _contenders(work: Path, body: bytes, batch: int) -> dict[tuple[str, str], Start]:
    store = work / "store"
    pack(store, "same", HERE / "echo_handler.py")
    pack(store, "small", HERE / "size_handler.py")

    def ours(answer: str) -> AbstractContextManager[Server]:
        model = Model(answer, store, body, "application/octet-stream", batch=batch)
        return marserve(work / answer, model)

    def bare(way: str, answer: str) -> AbstractContextManager[Server]:
        port = free_ports(1)[0]
        script = str(HERE / "bare_echo.py")
        target = Target(f"http://127.0.0.1:{port}/", body, "application/octet-stream")
        return running(
            Command([sys.executable, script, str(port), way, answer], target, start_s=10), work
        )

    starts: dict[tuple[str, str], Start] = {}
    for answer in ANSWERS:
        starts[OURS, answer] = lambda answer=answer: ours(answer)  # type: ignore[misc]
        for name, way in ((DIRECT, "direct"), (HOP, "hop")):
            starts[name, answer] = lambda way=way, answer=answer: bare(way, answer)  # type: ignore[misc]
    return starts


def _keep(runs: Runs, options: argparse.Namespace) -> int:
    middles = {key: median(figures) for key, figures in runs.items()}
    lines = [
        f"{CONNECTIONS} connections, {options.megabytes:g} MB in, batch {options.batch}, one "
        f"worker; load generator on the same cores. Median of {options.rounds} rounds of "
        f"{options.seconds} s. Time per request is what one connection waits, divided by the "
        "connections. CPU is that of the server with its processes.",
        "",
        "| answer | server | requests/s | ms per request | p99 ms | CPU ms per request | failed "
        "| MarServe takes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ratios = {}
    for (name, answer), figure in middles.items():
        ratio = figure.per_s / middles[OURS, answer].per_s
        ratios[name, answer] = ratio
        lines.append(
            f"| {ANSWERS[answer]} | {name} | {figure.per_s:,.0f} | {1000 / figure.per_s:.2f} "
            f"| {figure.p99_ms:.1f} | {figure.server_us / 1000:.2f} | {figure.failed} "
            f"| {ratio:.2f} times as long |"
        )
    worst = max(ratios[HOP, answer] for answer in ANSWERS)
    verdict = "met" if worst <= BAR else "missed"
    lines += [
        "",
        f"The bar, {BAR:g} times the time through a bare echo over the same sockets, is {verdict}: "
        f"at most {worst:.2f} times behind a socketpair; against an echo without a second process "
        f"{max(ratios[DIRECT, answer] for answer in ANSWERS):.2f} times.",
    ]
    picture, axes = plot(columns=2)
    for axis, answer in zip(axes, ANSWERS, strict=True):
        names = [name for name, kind in middles if kind == answer]
        times = [1000 / middles[name, answer].per_s for name in names]
        axis.barh(names, times, color=[colour(place) for place in range(len(names))])
        axis.invert_yaxis()
        axis.set_title(f"{options.megabytes:g} MB in, {ANSWERS[answer]} out")
        axis.set_xlabel("ms per request")
    raw = {
        "options": vars(options),
        "connections": CONNECTIONS,
        "runs": [
            {"server": name, "answer": answer, **one.raw()}
            for (name, answer), figures in runs.items()
            for one in figures
        ],
    }
    save("large_bodies", "Large bodies", raw, "\n".join(lines), picture, ["uvloop", "httptools"])
    return 0 if worst <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
