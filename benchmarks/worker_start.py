"""How long another torch worker of a loaded model takes until it is ready.

    python benchmarks/worker_start.py [--rounds 10]

Serves the digits example and ResNet-50 (98 MiB of weights), each with one worker, then asks for a
second one and waits until it serves (`PUT …?min_worker=2&synchronous=true`), over and over, the
models and a fresh interpreter's `import torch` in turns. Kept in `results/worker_start.*`.
Exit code 1 when the bar is missed. Needs torch and torchvision.
"""

from __future__ import annotations

import argparse
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from control import HERE, RESNET50, Control, controlled, pack_resnet50
from report import colour, plot, save
from servers import pack

DIGITS = HERE.parent / "examples" / "digits"
BAR_S = 0.4
NAMES = {
    "digits": "second worker of the digits model",
    RESNET50: "second worker of ResNet-50",
    "four": "second to fourth worker of ResNet-50, together",
    "import": "a fresh interpreter, `import torch` alone",
}
BARRED = ("digits", RESNET50)


def main() -> int:
    """Measure, print, keep. Exit code 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    took: dict[str, list[float]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        store = work / "store"
        pack_resnet50(work, store)
        _pack_digits(work, store)
        with controlled(work, store, ["digits.mar", "resnet50.mar"]) as control:
            for _ in range(rounds):
                took["digits"].append(_scaled(control, "digits", 2))
                took[RESNET50].append(_scaled(control, RESNET50, 2))
                took["four"].append(_scaled(control, RESNET50, 4))
                took["import"].append(_import_torch())
    worst = max(statistics.median(took[name]) for name in BARRED)
    verdict = f"The bar is {BAR_S:g} s: {'kept' if worst <= BAR_S else 'missed'}."
    raw = {"rounds": rounds, "bar_s": BAR_S, "seconds": took}
    figure, (axes,) = plot(height=2.8)
    places = range(len(took))
    axes.boxplot(list(took.values()), orientation="horizontal", positions=list(places), widths=0.5)
    axes.set_yticks(list(places), [NAMES[name].replace("`", "") for name in took])
    axes.axvline(BAR_S, color=colour(1), linestyle="--", label=f"bar: {BAR_S:g} s")
    axes.set_xscale("log")
    axes.set_xlabel("seconds from request to ready")
    axes.invert_yaxis()
    axes.legend()
    table = f"{_table(took)}\n{verdict} {rounds} rounds."
    save("worker_start", "Another torch worker", raw, table, figure, ("torch", "torchvision"))
    return 0 if worst <= BAR_S else 1


def _pack_digits(work: Path, store: Path) -> None:
    runpy.run_path(str(DIGITS / "train.py"))["train"](work, lambda _: None)
    model = ("--model-file", str(DIGITS / "model.py"))
    weights = ("--serialized-file", str(work / "digits.pth"))
    pack(store, "digits", DIGITS / "digits_handler.py", *model, *weights)


def _scaled(control: Control, model: str, workers: int) -> float:
    took_s = control.scale(model, workers)
    control.scale(model, 1)
    control.wait_for_workers(model, 1)
    return took_s


def _import_torch() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - started


def _table(took: dict[str, list[float]]) -> str:
    lines = ["| from request to ready | median s | worst s |", "| --- | ---: | ---: |"]
    for name, seconds in took.items():
        lines.append(f"| {NAMES[name]} | {statistics.median(seconds):.3f} | {max(seconds):.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
