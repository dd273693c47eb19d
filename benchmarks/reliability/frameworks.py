"""SEC-34: handlers on torch, ONNX Runtime and scikit-learn run unchanged while they are shut in.

In all modes: threads, loader processes that share memory, weights mapped from a file, joblib's
processes; and CUDA where there is a GPU.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

from budget import Budget
from outcome import Outcome
from standalone import standalone

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

from running_server import Server

MODES = ("off", "default", "strict")
EXPECTED: dict[str, object] = {
    "torch_threads": 200.0,
    "torch_loader": 28.0,
    "torch_file": 3.0,
    "onnx_session": [[2.0, 2.0]],
    "sklearn_jobs": 2,
}


def run(budget: Budget) -> list[Outcome]:
    """Every framework that is installed, in every mode, once; `n` is not asked."""
    wanted = {word: told for word, told in EXPECTED.items() if _has(word)}
    if _has_gpu():
        wanted["gpu"] = 4.0
    wrong, tried = [], 0
    for mode in MODES:
        # in the home: a folder for temporary files may be written in any mode but strict
        with tempfile.TemporaryDirectory(prefix=".marserve-frameworks-", dir=Path.home()) as root:
            server = Server(Path(root))
            server.pack("frameworks", "frameworks.py")
            server.start(load_models="frameworks.mar", sandbox=mode)
            for word, told in wanted.items():
                reply = server.predict("frameworks", word.encode())
                tried += 1
                if reply.status != 200 or reply.json() != told:
                    wrong.append(f"{word} in {mode}: {reply.status} {reply.body[:80]!r}")
                if budget.is_over:
                    break
            server.stop()
    return [
        Outcome(
            "handlers on frameworks that fail when they are shut in",
            tried,
            "0",
            "; ".join(wrong) or "0",
            not wrong,
            f"SEC-34; {', '.join(wanted)}; modes {', '.join(MODES)}",
            failures=len(wrong),
            unit="run",
        )
    ]


def _has(word: str) -> bool:
    package = {"torch": "torch", "onnx": "onnxruntime", "sklearn": "sklearn"}[
        word.partition("_")[0]
    ]
    return importlib.util.find_spec(package) is not None


def _has_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


if __name__ == "__main__":
    standalone(run)
