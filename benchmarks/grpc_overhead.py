"""What the server itself costs over gRPC: MarServe and TorchServe answering a constant.

    python benchmarks/peers/install.py torchserve
    python benchmarks/grpc_overhead.py [--seconds 3] [--rounds 3]

The constant handler of `overhead.py` (batches of up to 32, one worker, the same archive) is asked
through `Predictions` by `h2load`, which is not the bottleneck: a client of Python or Java would be.
Each connection has one call under way, at 1 to 256 of them; and four connections have 16 and 64
calls each, as channels of real clients share one. The servers take turns in every round; the
tables have medians.

`h2load` sees HTTP statuses only. So before each series a client of the `grpcio` package looks at
answers and their gRPC status, and a run of a fixed number of calls must bring back exactly as many
bytes of messages as that many right answers have. Kept in `results/grpc_overhead.*`. Needs
`h2load` (Debian package nghttp2-client), and Java 17 for TorchServe.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from load import UNITS_MS
from peers.catalogue import BODY, QUIET_TORCHSERVE, TORCHSERVE
from peers.place import add_option
from report import colour, plot, save
from servers import Model, Server, marserve, pack, torchserve

from marserve.protocols.pb.inference_pb2 import PredictionResponse, PredictionsRequest

HERE = Path(__file__).parent
NAME = "grpc_overhead"
OURS = "MarServe"
METHOD = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
BAR = 3.0
WARM_S = 1
CHECKED = 3000
PREFIX_BYTES = 5
Run = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """How the calls under way are spread."""

    connections: int
    calls: int
    """On each connection at one time."""

    def __str__(self) -> str:
        return f"{self.connections} x {self.calls}"


LOADS = (Load(1, 1), Load(16, 1), Load(64, 1), Load(256, 1), Load(4, 16), Load(4, 64))


def main() -> int:
    """Measure, print, keep. Exit code 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=3, help="length of one run of h2load")
    parser.add_argument("--rounds", type=int, default=3)
    add_option(parser)
    options = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("h2load is needed (Debian package nghttp2-client).")
    if not TORCHSERVE.is_installed(options.peers):
        sys.exit(f"TorchServe is not in {options.peers}; run benchmarks/peers/install.py.")
    runs = _measured(options)
    return _keep(runs, options)


def _measured(options: argparse.Namespace) -> list[Run]:
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pack(work / "store", "constant", HERE / "constant_handler.py")
        model = Model("constant", work / "store", BODY)
        body = work / "message"
        message = PredictionsRequest(model_name="constant", input={"body": BODY})
        body.write_bytes(_prefixed(message.SerializeToString()))
        starts: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {
            OURS: lambda place: marserve(place, model),
            TORCHSERVE.name: lambda place: torchserve(place, model, options.peers),
            QUIET_TORCHSERVE.name: lambda place: torchserve(place, model, options.peers, True),
        }
        for number in range(options.rounds):
            for name, start in starts.items():
                place = work / f"{number}-{name}"
                with start(place):
                    address = f"127.0.0.1:{_port(place)}"
                    _check(address, message, body)
                    for load in LOADS:
                        figures = _h2load(address, load, body, seconds=options.seconds)
                        key = {"server": name, "round": number + 1, "load": str(load)}
                        runs.append(key | figures)
                        print(key | figures, file=sys.stderr, flush=True)
    return runs


def _port(place: Path) -> str:
    found = re.search(r"grpc_inference_port=(\d+)", (place / "config.properties").read_text())
    assert found is not None
    return found[1]


def _prefixed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _check(address: str, message: PredictionsRequest, body: Path) -> None:
    """Whether the answers are right: some are looked at, some thousands are counted by bytes."""
    wanted = PredictionResponse(prediction=b"ok")
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            METHOD, PredictionsRequest.SerializeToString, PredictionResponse.FromString
        )
        _wait_for(channel)
        answers = [call.future(message, timeout=20) for _ in range(100)]
        assert all(answer.result() == wanted for answer in answers)
    size = PREFIX_BYTES + wanted.ByteSize()
    for load in (Load(16, 1), Load(4, 16)):
        figures = _h2load(address, load, body, calls=CHECKED)
        assert figures["message_bytes"] == CHECKED * size, figures
    _h2load(address, Load(16, 1), body, seconds=2)  # compilers and caches


def _wait_for(channel: grpc.Channel) -> None:
    grpc.channel_ready_future(channel).result(timeout=30)


def _h2load(address: str, load: Load, body: Path, seconds: int = 0, calls: int = 0) -> Run:
    command = ["h2load", "-t1", f"-c{load.connections}", f"-m{load.calls}", f"-d{body}"]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    command += [f"-D{seconds}", f"--warm-up-time={WARM_S}"] if seconds else [f"-n{calls}"]
    command.append(f"http://{address}{METHOD}")
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {
        "per_s": float(_found(r"([\d.]+) req/s", text)[1]),
        "mean_ms": _mean_ms(text),
        "failed": sum(map(int, _found(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)[1:])),
        "message_bytes": int(_found(r"\((\d+)\) data", text)[1]),
    }


def _mean_ms(text: str) -> float:
    found = _found(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)\b", text)
    return round(float(found[1]) * UNITS_MS[found[2]], 4)


def _found(pattern: str, text: str) -> list[str]:
    found = re.search(pattern, text)
    assert found is not None, text
    return [found[0], *found.groups()]


# --- what it shows --------------------------------------------------------------------------------


def _keep(runs: list[Run], options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(run["server"] for run in runs))

    def middle(name: str, load: Load, key: str) -> float:
        found = [r[key] for r in runs if r["server"] == name and r["load"] == str(load)]
        return statistics.median(found)

    def times(load: Load, name: str) -> float:
        return middle(OURS, load, "per_s") / middle(name, load, "per_s")

    failed = {name: sum(r["failed"] for r in runs if r["server"] == name) for name in names}
    lines = [
        "One worker, batches of up to 32, a small message; `h2load` with one thread on the same "
        f"cores. Medians of {options.rounds} rounds of {options.seconds} s, servers in turns. "
        "Connections x calls under way on each.",
        "",
        "| | " + " | ".join(map(str, LOADS)) + " | failed |",
        "| --- |" + " ---: |" * (len(LOADS) + 1),
    ]
    for name in names:
        rates = [f"{middle(name, load, 'per_s'):,.0f}" for load in LOADS]
        lines.append(f"| {name}, calls per second | {' | '.join(rates)} | {failed[name]} |")
    for name in names:
        means = [f"{middle(name, load, 'mean_ms'):.2f}" for load in LOADS]
        lines.append(f"| {name}, mean ms | {' | '.join(means)} | |")
    for name in names[1:]:
        ratios = [f"{times(load, name):.1f}" for load in LOADS]
        lines.append(f"| MarServe, times {name} | {' | '.join(ratios)} | |")
    least = min(times(load, TORCHSERVE.name) for load in LOADS)
    is_met = least >= BAR and not failed[OURS]
    lines += ["", f"At least {BAR:g} times TorchServe at every point: "
              f"{'met' if is_met else 'missed'} (the least is {least:.2f})."]  # fmt: skip
    versions = TORCHSERVE.versions(options.peers)
    lines += ["", "Measured beside " + ", ".join(f"{n} {v}" for n, v in versions.items()) + "."]
    raw = {
        "started": time.strftime("%Y-%m-%d %H:%M"),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "versions": versions,
        "runs": runs,
    }
    picture = _picture(names, middle)
    save(NAME, "Overhead over gRPC: a constant answer", raw, "\n".join(lines), picture,
         ["protobuf", "hpack", "uvloop"])  # fmt: skip
    return 0 if is_met else 1


def _picture(names: list[str], middle: Callable[[str, Load, str], float]) -> Any:
    picture, (axis,) = plot()
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        at = [number + width * (place - (len(names) - 1) / 2) for number in range(len(LOADS))]
        values = [middle(name, load, "per_s") for load in LOADS]
        bars = axis.bar(at, values, width, color=colour(place), label=name)
        axis.bar_label(bars, [f"{value / 1000:.1f}k" for value in values], fontsize=7, padding=1)
    axis.set_xticks(range(len(LOADS)), [str(load) for load in LOADS])
    axis.set_xlabel("connections x calls under way on each")
    axis.set_title("gRPC calls per second")
    axis.legend(fontsize=8, loc="upper left")
    return picture


if __name__ == "__main__":
    sys.exit(main())
