"""What holding a batch back for returning clients is worth on a model with a fixed cost.

    python benchmarks/reunion.py [--seconds 4] [--rounds 2]

The handler sleeps 8 ms and 0.25 ms per row, as a small GPU model does; batch 32, one worker. `wrk`
drives it with `max_batch_delay` 0 (a batch leaves whenever the worker is free) and 100, in turns.
The last table is kept in `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "reunion.md"
CONNECTIONS = (1, 8, 24)
DELAYS_MS = (0, 100)
HANDLER = """
import time

class LaunchCost:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        time.sleep(0.008 + 0.00025 * len(data))
        return ["ok"] * len(data)
"""


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    per_s: dict[tuple[int, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "handler.py").write_text(HANDLER)
        _run(
            "marserve_archiver",
            *("--model-name", "gpu", "--version", "1.0"),
            *("--handler", str(work / "handler.py"), "--export-path", str(work / "store")),
        )
        for _ in range(options.rounds):
            for delay_ms in DELAYS_MS:
                config = _config(work, delay_ms)
                _run("marserve", "start", "--config", config, "--ncs", "--models", "gpu.mar")
                try:
                    for connections in CONNECTIONS:
                        figure = _wrk(work, connections, options.seconds)
                        per_s.setdefault((connections, delay_ms), []).append(figure)
                finally:
                    _run("marserve", "stop", "--config", config)
    lines = [
        "# Reunion: holding a batch back for clients that return",
        "",
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores. 8 ms per batch and 0.25 ms "
        f"per row, batch 32, one worker. Requests per second, median of {options.rounds} rounds of "
        f"{options.seconds} s.",
        "",
        "| connections | max_batch_delay 0 | max_batch_delay 100 | ratio |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for connections in CONNECTIONS:
        greedy, held = (statistics.median(per_s[connections, delay]) for delay in DELAYS_MS)
        lines.append(f"| {connections} | {greedy:,.0f} | {held:,.0f} | {held / greedy:.2f} |")
    table = "\n".join(lines) + "\n"
    print(table)
    RESULT.write_text(table)


def _config(work: Path, delay_ms: int) -> str:
    path = work / "config.properties"
    path.write_text(
        "".join(f"{port}_address=http://127.0.0.1:0\n" for port in ("inference", "management"))
        + f"enable_metrics_api=false\nmodel_store={work / 'store'}\nlog_dir={work / 'logs'}\n"
        + f"cache_dir={work / 'cache'}\ndefault_workers_per_model=1\n"
        + f"batch_size=32\nmax_batch_delay={delay_ms}\n"
    )
    return str(path)


def _wrk(work: Path, connections: int, seconds: int) -> float:
    address = json.loads((work / "logs" / "marserve.json").read_text())["addresses"]["inference"]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"{address}/predictions/gpu"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in text, text
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert found is not None, text
    return float(found[1])


def _run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
