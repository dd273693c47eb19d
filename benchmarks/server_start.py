"""How long until the server answers, and what registered models cost that have no worker.

    python benchmarks/server_start.py [--starts 10] [--models 100] [--rounds 5] [--seconds 3]

Three questions. *Start*: seconds from `marserve serve` as a command to the first 200 of `/ping`,
from `marserve start` to its prompt, and for comparison from `python -c 'import asyncio, uvloop'` to
its end, in turns. *Registered models*: what each of 100 versions without a worker adds to the
server's memory, how long registering them and starting again with them takes. *A hot model*: the
p99 of one model with one worker, 16 connections of `wrk`, in a server that has 100 others and in
one that has none, in turns. Kept in `results/server_start.*`. Exit code 1 when a bar is missed.
Needs `wrk`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from control import HERE, Control, controlled, memory_mib
from load import Target, wrk
from report import colour, plot, save
from servers import free_ports, pack

START_BAR_S = 1.0
MEMORY_BAR_MIB = 1.0
P99_BAR = 1.1
CONNECTIONS = 16
PING = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
POLL_S = 0.002
PATIENCE_S = 60
STARTS = {
    "serve": "`marserve serve` until `/ping` says 200",
    "start": "`marserve start` until its prompt",
    "bare": "`python -c 'import asyncio, uvloop'`",
}


def main() -> int:
    """Measure, print, keep. Exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        starts = _starts(work / "starts", options.starts)
        store = work / "store"
        _pack(store, options.models)
        registered = _registered(work / "registered", store, options.models)
        p99s = _hot(work, store, options)
    per_model = registered["mib_per_model"]
    ratios = [beside / alone for alone, beside in zip(*p99s.values(), strict=True)]
    serve_s, ratio = statistics.median(starts["serve"]), statistics.median(ratios)
    is_kept = serve_s < START_BAR_S and per_model < MEMORY_BAR_MIB and ratio <= P99_BAR
    raw = {
        "options": vars(options),
        "start_s": starts,
        "registered": registered,
        "p99_ms": p99s,
        "bars": {"start_s": START_BAR_S, "mib_per_model": MEMORY_BAR_MIB, "p99": P99_BAR},
    }
    table = "\n\n".join(
        [
            _start_table(starts),
            _model_table(options.models, registered, p99s, ratio),
            f"The bars are {START_BAR_S:g} s to the first answer, {MEMORY_BAR_MIB:g} MiB for a "
            f"model and {P99_BAR:g} times the p99: {'kept' if is_kept else 'missed'}. "
            f"{options.starts} starts; {options.rounds} rounds of {options.seconds} s.",
        ]
    )
    save("server_start", "Server start, and models without workers", raw, table, _figure(raw))
    return 0 if is_kept else 1


# --- start ----------------------------------------------------------------------------------------


def _starts(work: Path, count: int) -> dict[str, list[float]]:
    work.mkdir()
    took: dict[str, list[float]] = {name: [] for name in STARTS}
    for number in range(count + 1):
        found = {"serve": _serve(work), "start": _start(work), "bare": _bare()}
        if number:  # the first one reads everything from the disk
            for name, seconds in found.items():
                took[name].append(seconds)
    return took


def _serve(work: Path) -> float:
    config, port = _config(work)
    run = [sys.executable, "-m", "marserve", "serve", "--ncs", "--config", str(config)]
    started = time.perf_counter()
    with subprocess.Popen(run, stdout=subprocess.DEVNULL) as process:
        try:
            while not _is_healthy(port):
                if process.poll() is not None or time.perf_counter() - started > PATIENCE_S:
                    raise RuntimeError("marserve serve does not answer")
                time.sleep(POLL_S)
            return time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGTERM)


def _start(work: Path) -> float:
    config, port = _config(work)
    run = [sys.executable, "-m", "marserve"]
    where = ["--config", str(config)]
    started = time.perf_counter()
    subprocess.run([*run, "start", "--ncs", *where], check=True, stdout=subprocess.DEVNULL)
    took_s = time.perf_counter() - started
    if not _is_healthy(port):
        raise RuntimeError("marserve start has returned, but /ping does not answer 200")
    subprocess.run([*run, "stop", *where], check=True, stdout=subprocess.DEVNULL)
    return took_s


def _bare() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import asyncio, uvloop"], check=True)
    return time.perf_counter() - started


def _config(work: Path) -> tuple[Path, int]:
    (port,) = free_ports(1)
    (work / "store").mkdir(exist_ok=True)
    config = work / "config.properties"
    config.write_text(
        f"inference_address=http://127.0.0.1:{port}\n"
        "management_address=http://127.0.0.1:0\nmetrics_address=http://127.0.0.1:0\n"
        "grpc_inference_port=0\ngrpc_management_port=0\n"
        f"model_store={work / 'store'}\nlog_dir={work / 'logs'}\ncache_dir={work / 'cache'}\n"
    )
    return config, port


def _is_healthy(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(PING)
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


# --- registered models ----------------------------------------------------------------------------


def _pack(store: Path, count: int) -> None:
    """A hot archive and `count` others, each with contents of its own."""
    handler = store.parent / "handler.py"
    store.mkdir()
    shutil.copy(HERE / "constant_handler.py", handler)
    pack(store, "hot", handler)
    for number in range(count):
        notes = store.parent / "notes.txt"
        notes.write_text(f"model {number}\n")
        pack(store, f"cold{number:03}", handler, "--extra-files", str(notes))


def _registered(work: Path, store: Path, count: int) -> dict[str, Any]:
    """What the models add to the server's memory, and how long they take."""
    with controlled(work, store, keeps=True) as control:
        control.ask(
            "POST", "/models?url=cold000.mar&initial_workers=0"
        )  # what the first one brings
        before = memory_mib(control.pid)
        started = time.perf_counter()
        for number in range(1, count):
            control.ask("POST", f"/models?url=cold{number:03}.mar&initial_workers=0")
        register_s = time.perf_counter() - started
        after = memory_mib(control.pid)
    started = time.perf_counter()
    with controlled(work, store, keeps=True) as control:
        again_s = time.perf_counter() - started
        found = len(control.ask("GET", "/models?limit=1000")["models"])
    if found != count:
        raise RuntimeError(f"{found} of {count} models are there after the restart")
    return {
        "mib_per_model": (after["pss"] - before["pss"]) / (count - 1),
        "before_mib": before,
        "after_mib": after,
        "register_s": register_s,
        "start_again_s": again_s,
    }


# --- a hot model ----------------------------------------------------------------------------------


def _hot(work: Path, store: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    p99s: dict[str, list[float]] = {"alone": [], "beside": []}
    with (
        controlled(work / "alone", store, ["hot.mar"]) as alone,
        controlled(work / "beside", store, ["hot.mar"]) as beside,
    ):
        for number in range(options.models):
            beside.ask("POST", f"/models?url=cold{number:03}.mar&initial_workers=0")
        for control in (alone, beside):
            _p99_ms(control, 1)
        for number in range(options.rounds):
            order = [("alone", alone), ("beside", beside)]
            for name, control in order if number % 2 else order[::-1]:
                p99s[name].append(_p99_ms(control, options.seconds))
    return p99s


def _p99_ms(control: Control, seconds: int) -> float:
    target = Target(f"{control.inference}/predictions/hot", json.dumps({"x": 1}).encode())
    figure = wrk(target, CONNECTIONS, seconds, control.pid)
    if figure.failed:
        raise RuntimeError(f"{figure.failed} requests failed")
    return figure.p99_ms


# --- what is kept ---------------------------------------------------------------------------------


def _start_table(starts: dict[str, list[float]]) -> str:
    bare_s = statistics.median(starts["bare"])
    lines = ["| | median s | worst s | times bare |", "| --- | ---: | ---: | ---: |"]
    for name, seconds in starts.items():
        middle = statistics.median(seconds)
        lines.append(
            f"| {STARTS[name]} | {middle:.2f} | {max(seconds):.2f} | {middle / bare_s:.1f} |"
        )
    return "\n".join(lines)


def _model_table(
    count: int, registered: dict[str, Any], p99s: dict[str, list[float]], ratio: float
) -> str:
    alone, beside = (statistics.median(p99s[name]) for name in ("alone", "beside"))
    rows = {
        "memory of the server for each": f"{registered['mib_per_model'] * 1024:.0f} KiB",
        "registering them, one after the other": f"{registered['register_s']:.1f} s",
        "`marserve start` with them again": f"{registered['start_again_s']:.1f} s",
        "p99 of a hot model alone": f"{alone:.2f} ms",
        "p99 of a hot model beside them": f"{beside:.2f} ms",
        "ratio of the two (median of rounds)": f"{ratio:.2f}",
    }
    lines = [f"| {count} registered models without workers | |", "| --- | ---: |"]
    return "\n".join([*lines, *(f"| {text} | {value} |" for text, value in rows.items())])


def _figure(raw: dict[str, Any]) -> Any:
    figure, (left, right) = plot(columns=2, height=3)
    places = range(len(STARTS))
    values = [raw["start_s"][name] for name in STARTS]
    left.boxplot(values, orientation="horizontal", positions=list(places), widths=0.5)
    left.set_yticks(list(places), [text.replace("`", "") for text in STARTS.values()])
    left.axvline(START_BAR_S, color=colour(1), linestyle="--", label=f"bar: {START_BAR_S:g} s")
    left.set_xlim(left=0)
    left.set_xlabel("seconds")
    left.invert_yaxis()
    left.legend()
    for place, (name, p99s) in enumerate(raw["p99_ms"].items()):
        text = "alone" if name == "alone" else f"beside {raw['options']['models']} others"
        right.plot(range(1, len(p99s) + 1), p99s, marker="o", color=colour(place), label=text)
    right.set_ylim(bottom=0)
    right.set_xlabel("round")
    right.set_ylabel("p99 of the hot model, ms")
    right.legend()
    return figure


if __name__ == "__main__":
    sys.exit(main())
