"""What the server itself costs: MarServe and its peers answering a constant.

    python benchmarks/peers/install.py
    python benchmarks/overhead.py [--only mosec,torchserve] [--seconds 4] [--rounds 3] [--merge]

A handler that returns a constant (batches of up to 32, one worker) is driven by `wrk` with a small
JSON body at 1, 16, 64 and 256 connections. All servers take turns in every round; the tables have
medians. TorchServe gets the same archive as MarServe. A plain FastAPI function without batching
stands beside them for comparison.

All peers take longer than one may want to wait: `--only` names some (folders of
`peers/catalogue.py`), and `--merge` keeps what earlier runs found about the others. A ratio is
always one of figures that were taken in turns. Kept in `results/overhead.*`. Needs `wrk`, and
Java 17 for TorchServe.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from load import Figure, median, wrk
from peers.catalogue import BODY, PEERS, QUIET_TORCHSERVE, TORCHSERVE, Peer
from peers.place import add_option
from report import RESULTS, colour, plot, save
from servers import Model, Server, marserve, pack, running, torchserve

HERE = Path(__file__).parent
NAME = "overhead"
CONNECTIONS = (1, 16, 64, 256)
BASELINES = ("FastAPI, no batching",)
TORCHSERVE_BARS = {1: 8.0, 16: 8.0, 64: 5.0}
OURS = "MarServe"
WARM_S = 2
Run = dict[str, Any]
Key = tuple[str, int]


def main() -> int:
    """Measure, print, keep. Exit code 1 when a bar is missed."""
    options = _options()
    wanted = options.only.split(",") if options.only else [peer.folder for peer in PEERS]
    peers = [peer for peer in PEERS if peer.folder in wanted]
    for peer in peers:
        if not peer.is_installed(options.peers):
            sys.exit(f"{peer.name} is not in {options.peers}; run benchmarks/peers/install.py.")
    session = {
        "started": time.strftime("%Y-%m-%d %H:%M"),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "versions": {peer.name: peer.versions(options.peers) for peer in peers},
        "runs": _measured(peers, options),
    }
    sessions = [session]
    if options.merge and (RESULTS / f"{NAME}.json").exists():
        earlier = json.loads((RESULTS / f"{NAME}.json").read_text())["data"]["sessions"]
        sessions = _merged(earlier, session)
    return _keep(sessions)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=4, help="length of one run of wrk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="peers, separated by commas")
    parser.add_argument("--merge", action="store_true", help="keep earlier figures of others")
    add_option(parser)
    return parser.parse_args()


# --- measuring ------------------------------------------------------------------------------------


def _measured(peers: list[Peer], options: argparse.Namespace) -> list[Run]:
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pack(work / "store", "constant", HERE / "constant_handler.py")
        model = Model("constant", work / "store", BODY)
        starts: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {
            OURS: lambda place: marserve(place, model)
        }
        for peer in peers:
            starts[peer.name] = _start(peer, model, options.peers)
        for number in range(options.rounds):
            for name, start in starts.items():
                with start(work / f"{len(runs)}") as server:
                    wrk(server.target, 16, WARM_S, server.pid)  # compilers and caches
                    for connections in CONNECTIONS:
                        figure = wrk(server.target, connections, options.seconds, server.pid)
                        key = {"server": name, "round": number + 1, "connections": connections}
                        runs.append(key | figure.raw())
                        _say(f"{name:22} c={connections:<3} {figure.per_s:9.0f}/s "
                             f"p99 {figure.p99_ms:8.2f} ms  {figure.failed} failed")  # fmt: skip
    return runs


def _start(
    peer: Peer, model: Model, peers: Path
) -> Callable[[Path], AbstractContextManager[Server]]:
    if peer in (TORCHSERVE, QUIET_TORCHSERVE):
        return lambda place: torchserve(place, model, peers, peer is QUIET_TORCHSERVE)
    return lambda place: running(peer.command(peers), place)


def _merged(earlier: list[dict[str, Any]], session: dict[str, Any]) -> list[dict[str, Any]]:
    """The earlier sessions without the peers that have been measured anew."""
    anew = set(session["versions"])
    kept = []
    for old in earlier:
        versions = {name: v for name, v in old["versions"].items() if name not in anew}
        if versions:
            runs = [run for run in old["runs"] if run["server"] not in anew]
            kept.append(old | {"versions": versions, "runs": runs})
    return [session, *kept]


# --- what it shows --------------------------------------------------------------------------------


class Findings:
    """Medians per server and number of connections, each beside ours of the same session."""

    def __init__(self, sessions: list[dict[str, Any]]) -> None:
        self.peers: list[str] = []
        self._figures: dict[Key, Figure] = {}
        self._ours: dict[Key, Figure] = {}
        for session in sessions:
            figures = _medians(session["runs"])
            for (name, connections), figure in figures.items():
                if name == OURS:
                    self._figures.setdefault((OURS, connections), figure)
                    continue
                if name not in self.peers:
                    self.peers.append(name)
                self._figures[name, connections] = figure
                self._ours[name, connections] = figures[OURS, connections]

    def figure(self, name: str, connections: int) -> Figure:
        """The medians of one server; ours are those of the newest session."""
        return self._figures[name, connections]

    def times(self, name: str, connections: int) -> float:
        """How many times as many requests per second we answer."""
        theirs = self._figures[name, connections].per_s
        return self._ours[name, connections].per_s / max(theirs, 1e-9)

    def p99_ratio(self, name: str, connections: int) -> float:
        """Our p99 in theirs: at most 1 is no worse."""
        theirs = self._figures[name, connections].p99_ms
        return self._ours[name, connections].p99_ms / theirs


def _medians(runs: list[Run]) -> dict[Key, Figure]:
    grouped: dict[Key, list[Figure]] = {}
    for run in runs:
        fields = {key: run[key] for key in Figure.__dataclass_fields__}
        grouped.setdefault((run["server"], run["connections"]), []).append(Figure(**fields))
    return {key: median(figures) for key, figures in grouped.items()}


def _keep(sessions: list[dict[str, Any]]) -> int:
    found = Findings(sessions)
    verdicts, is_met = _verdicts(found)
    lines = [
        f"One worker, batches of up to 32, a small JSON body; `wrk` with one thread on the same "
        f"cores. Medians of {sessions[0]['rounds']} rounds of {sessions[0]['seconds']} s, servers "
        "in turns.",
    ]
    names = [OURS, *found.peers]
    tables: dict[str, Callable[[str, int], str]] = {
        "Requests per second": lambda name, c: f"{found.figure(name, c).per_s:,.0f}",
        "Milliseconds at the 99th percentile": lambda name, c: (
            f"{found.figure(name, c).p99_ms:.2f}"
        ),
        "CPU of the server per request, µs": lambda name, c: (
            f"{found.figure(name, c).server_us:,.0f}"
        ),
        "Failed requests": lambda name, c: f"{found.figure(name, c).failed:,}",
    }
    for title, cell in tables.items():
        lines += _table(title, names, cell)
    lines += _table("MarServe answers so many times as many", found.peers,
                    lambda name, c: f"{found.times(name, c):.2f}")  # fmt: skip
    lines += ["", *verdicts, "", *_versions(sessions)]
    save(NAME, "Overhead: a constant answer", {"sessions": sessions}, "\n".join(lines),
         _picture(found, names))  # fmt: skip
    return 0 if is_met else 1


def _table(title: str, names: list[str], cell: Callable[[str, int], str]) -> list[str]:
    head = " | ".join(f"{connections} conn." for connections in CONNECTIONS)
    rows = [f"| {name} | {' | '.join(cell(name, c) for c in CONNECTIONS)} |" for name in names]
    return ["", f"## {title}", "", f"| | {head} |", "| --- |" + " ---: |" * len(CONNECTIONS), *rows]


def _verdicts(found: Findings) -> tuple[list[str], bool]:
    peers = [name for name in found.peers if name not in BASELINES]
    slower = [
        f"{found.times(name, c):.2f} times {name} at {c}"
        for name in peers
        for c in CONNECTIONS
        if found.times(name, c) <= 1
    ]
    later = []
    for c in CONNECTIONS:
        best = max(peers, key=lambda name: found.p99_ratio(name, c))
        if found.p99_ratio(best, c) > 1:
            later.append(f"{found.p99_ratio(best, c):.2f} times that of {best} at {c}")
    lines = [
        f"- More requests per second than every peer at every point: {_verdict(slower)}",
        f"- p99 no worse than the best of them: {_verdict(later)}",
    ]
    missed = bool(slower or later)
    if TORCHSERVE.name in peers:
        ratios = {c: found.times(TORCHSERVE.name, c) for c in CONNECTIONS}
        short = [f"{ratios[c]:.1f} at {c}" for c, bar in TORCHSERVE_BARS.items() if ratios[c] < bar]
        told = ", ".join(f"{ratio:.1f} at {c}" for c, ratio in ratios.items())
        bars = ", ".join(f"{bar:g} at {c}" for c, bar in TORCHSERVE_BARS.items())
        lines.append(f"- Times TorchServe ({told}), wanted {bars}: {_verdict(short)}")
        missed |= bool(short)
    return lines, not missed


def _verdict(exceptions: list[str]) -> str:
    return f"missed ({'; '.join(exceptions)})." if exceptions else "met."


def _versions(sessions: list[dict[str, Any]]) -> list[str]:
    lines = []
    for session in sessions:
        told = [
            " ".join(f"{name} {version}" for name, version in versions.items())
            for versions in session["versions"].values()
        ]
        lines.append(f"Measured {session['started']}: {', '.join(told)}.")
    return lines


def _picture(found: Findings, names: list[str]) -> Any:
    picture, (rates, tails) = plot(columns=2, height=4.2)
    for place, name in enumerate(names):
        style = "--" if name in BASELINES else "-"
        for axis, attribute in ((rates, "per_s"), (tails, "p99_ms")):
            values = [getattr(found.figure(name, c), attribute) for c in CONNECTIONS]
            axis.plot(CONNECTIONS, values, f"o{style}", color=colour(place), label=name)
    for axis, title in ((rates, "requests per second"), (tails, "p99, ms")):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(CONNECTIONS, [str(c) for c in CONNECTIONS])
        axis.set_xlabel("connections")
        axis.set_title(title)
    tails.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return picture


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
