"""What further workers of one torch model cost in memory.

    python benchmarks/memory.py [--rounds 3]

Serves ResNet-50 with one worker and scales it to four. Memory is proportional set size (each page
counts by its share among the processes that have it), summed over server, zygote and workers; a
further worker costs a third of what the sum grows by. The first worker has answered before it is
looked at, so its weights are in memory. Looked at when the others are ready, right after all have
answered, and when they have rested for two seconds. Kept in `results/memory.*`.
Exit code 1 when the bar is missed. Needs torch and torchvision.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from control import RESNET50, Control, controlled, memory_mib, pack_resnet50
from PIL import Image
from report import colour, plot, save

WORKERS = (1, 4)
BAR = 0.2
MOMENTS = {"ready": "ready", "answered": "right after answers", "rested": "two seconds later"}
BARRED = ("ready", "rested")
REST_S = 2.5


def main() -> int:
    """Measure, print, keep. Exit code 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        weights_mib = pack_resnet50(work, work / "store") / 2**20
        runs = [_round(work, work / f"round-{number}") for number in range(rounds)]
    return _kept(runs, weights_mib)


def _kept(runs: list[dict[int, dict[str, Any]]], weights_mib: float) -> int:
    first, last = WORKERS
    further = {
        moment: [(run[last][moment]["pss"] - run[first][moment]["pss"]) / 3 for run in runs]
        for moment in MOMENTS
    }
    shares = {moment: statistics.median(found) / weights_mib for moment, found in further.items()}
    lines = ["| | MiB per further worker | of the weights |", "| --- | ---: | ---: |"]
    for moment, text in MOMENTS.items():
        median = statistics.median(further[moment])
        lines.append(f"| {text} | {median:.1f} | {shares[moment]:.0%} |")
    words = [
        f"{'kept' if shares[moment] < BAR else 'missed'} when they "
        f"{'are ready' if moment == 'ready' else 'rest'}"
        for moment in BARRED
    ]
    verdict = (
        f"\nThe weights have {weights_mib:.1f} MiB. The bar is {BAR:.0%} of them for each further "
        f"worker: {', '.join(words)}. What workers have right after an answer is activations and "
        f"the scratch memory of their kernels. {len(runs)} rounds."
    )
    raw = {"weights_mib": weights_mib, "bar": BAR, "mib_per_further_worker": further, "runs": runs}
    table = "\n".join(lines) + "\n" + verdict
    save("memory", "Workers that share weights", raw, table, _figure(runs, weights_mib), ("torch",))
    return 0 if all(shares[moment] < BAR for moment in BARRED) else 1


def _round(archives: Path, work: Path) -> dict[int, dict[str, Any]]:
    found = {}
    models = ["resnet50.mar"]
    with controlled(work, archives / "store", models) as control:
        for count in WORKERS:
            control.scale(RESNET50, count)
            if count == WORKERS[0]:  # who never computed has not touched its weights yet
                _answers(control, count)
                time.sleep(REST_S)
            found[count] = {"ready": _memory(control)}
            _answers(control, count)
            found[count]["answered"] = _memory(control)
            time.sleep(REST_S)
            found[count]["rested"] = _memory(control)
    return found


def _memory(control: Control) -> dict[str, Any]:
    workers = [memory_mib(pid) for pid in control.workers(RESNET50)]
    everybody = sum(memory_mib(pid)["pss"] for pid in control.family())
    return {"pss": everybody, "workers": workers}


def _answers(control: Control, workers: int) -> None:
    """Let each worker answer some requests: as many at a time as there are workers."""
    file = io.BytesIO()
    Image.new("RGB", (320, 240), (90, 120, 60)).save(file, "JPEG")
    request = urllib.request.Request(
        f"{control.inference}/predictions/{RESNET50}",
        file.getvalue(),
        {"Content-Type": "image/jpeg"},
    )

    def ask(_: int) -> None:
        for _ in range(8):
            urllib.request.urlopen(request, timeout=60).read()

    with ThreadPoolExecutor(workers) as callers:
        list(callers.map(ask, range(workers)))


def _figure(runs: list[dict[int, dict[str, Any]]], weights_mib: float) -> Any:
    figure, (axes,) = plot()
    for place, (moment, text) in enumerate(MOMENTS.items()):
        sums = [statistics.median(run[count][moment]["pss"] for run in runs) for count in WORKERS]
        axes.plot(WORKERS, sums, marker="o", color=colour(place), label=text)
        base = sums[0]
    own = [base + weights_mib * (count - 1) for count in WORKERS]
    axes.plot(WORKERS, own, linestyle="--", color="#8a8a8a", label="each with weights of its own")
    axes.set_xticks(WORKERS)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("workers of ResNet-50")
    axes.set_ylabel("all processes, PSS in MiB")
    axes.legend()
    return figure


if __name__ == "__main__":
    sys.exit(main())
