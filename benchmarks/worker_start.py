"""How long a second torch worker of a loaded model takes until it is ready.

    python benchmarks/worker_start.py [--rounds 10]

Serves the digits model with one worker, then asks for a second one and waits until it serves
(`PUT …?min_worker=2&synchronous=true`), over and over. Beside it stands what a fresh interpreter
needs for `import torch` alone. The last table is kept in `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
DIGITS = HERE.parent / "examples" / "digits"
RESULT = HERE / "results" / "worker_start.md"
BAR_S = 0.6


def main() -> int:
    """Measure, print, keep. Exit code 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        config = _prepared(work)
        _run("marserve", "start", "--config", str(config), "--ncs", "--models", "digits.mar")
        try:
            ready_s = [_second_worker(work) for _ in range(rounds)]
        finally:
            _run("marserve", "stop", "--config", str(config))
    import_s = [_import_torch() for _ in range(3)]
    table = _table(ready_s, import_s)
    print(table)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(table)
    return 0 if statistics.median(ready_s) <= BAR_S else 1


def _prepared(work: Path) -> Path:
    runpy.run_path(str(DIGITS / "train.py"))["train"](work, lambda _: None)
    _run(
        "marserve_archiver",
        *("--model-name", "digits", "--version", "1.0"),
        *("--model-file", str(DIGITS / "model.py"), "--handler", str(DIGITS / "digits_handler.py")),
        *("--serialized-file", str(work / "digits.pth"), "--export-path", str(work / "store")),
    )
    config = work / "config.properties"
    ports = ("inference", "management", "metrics")
    config.write_text(
        "".join(f"{port}_address=http://127.0.0.1:0\n" for port in ports)
        + f"model_store={work / 'store'}\nlog_dir={work / 'logs'}\ncache_dir={work / 'cache'}\n"
        + "default_workers_per_model=1\n"
    )
    return config


def _second_worker(work: Path) -> float:
    addresses = json.loads((work / "logs" / "marserve.json").read_text())["addresses"]
    connection = http.client.HTTPConnection(urlsplit(addresses["management"]).netloc, timeout=60)

    def scale(count: int) -> float:
        started = time.perf_counter()
        connection.request("PUT", f"/models/digits?min_worker={count}&synchronous=true")
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return time.perf_counter() - started

    took_s = scale(2)
    scale(1)
    connection.close()
    return took_s


def _import_torch() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - started


def _table(ready_s: list[float], import_s: list[float]) -> str:
    return (
        "# A second torch worker\n\n"
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {len(ready_s)} rounds.\n\n"
        "| | median s | worst s |\n| --- | ---: | ---: |\n"
        f"| second worker of the digits model, from request to ready "
        f"| {statistics.median(ready_s):.3f} | {max(ready_s):.3f} |\n"
        f"| a fresh interpreter, `import torch` alone "
        f"| {statistics.median(import_s):.3f} | {max(import_s):.3f} |\n\n"
        f"The bar is {BAR_S:g} s.\n"
    )


def _run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
