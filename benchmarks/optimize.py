"""What `optimize` in model-config.yaml is worth: ResNet-18 in the handler that serves it.

    python benchmarks/optimize.py [--seconds 3] [--rounds 5] [--no-compile]

The built-in image_classifier is loaded as a worker loads it, once with each setting, and given
batches of eight JPEG files: preprocess, inference and postprocess, so decoding counts as well. All
take turns in every round; what counts is the ratio to the plain model inside a round, and of these
the median. Beside it stands what the server itself reports: the gain of the model alone and how far
its outputs are from the plain ones. Weights are random. `--no-compile` leaves out torch.compile,
which takes a C++ compiler and most of a minute.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import report
import torch
from resnet18 import PACKAGES, make_images
from resnet18_model import ResNet18

from marserve_handlers.contract import Context
from marserve_handlers.vision import ImageClassifier

HERE = Path(__file__).parent
BATCH = 8
BAR = 2.0
AUTO = "auto"
SETTINGS: dict[str, Any] = {
    "plain": None,
    "channels_last": {"memory_format": "channels_last"},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, channels_last": {"dtype": "bfloat16", "memory_format": "channels_last"},
    "compile": {"compile": True},
    "bfloat16, channels_last, compile": {
        "dtype": "bfloat16",
        "memory_format": "channels_last",
        "compile": True,
    },
    AUTO: "auto",
}


def main() -> int:
    """Measure, print, keep. Exit code 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3, help="length of one turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rates, reports = _measured(Path(folder), options)
    raw = {"batch": BATCH, "threads": torch.get_num_threads(), "rates": rates, "reports": reports}
    gain = _ratio(rates, AUTO)
    verdict = (
        f"`optimize: auto` makes the whole handler at least {BAR:g} times as fast: "
        f"{'reached' if gain >= BAR else 'missed'}, {gain:.2f} times."
    )
    table = f"{_table(rates, reports)}\n\n{verdict}"
    report.save("optimize", "The setting optimize", raw, table, _plot(rates), PACKAGES)
    return 0 if gain >= BAR else 1


def _measured(
    work: Path, options: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    make_images(work / "images")
    files = [path.read_bytes() for path in sorted((work / "images").iterdir())]
    model_dir = work / "model"
    model_dir.mkdir()
    (model_dir / "model.py").write_text((HERE / "resnet18_model.py").read_text())
    torch.manual_seed(0)
    torch.save(ResNet18().state_dict(), model_dir / "resnet18.pth")
    handlers, reports = {}, {}
    for name, setting in SETTINGS.items():
        if options.no_compile and "compile" in name:
            continue
        started = time.monotonic()
        handlers[name] = _loaded(model_dir, setting)
        found = handlers[name].optimization
        reports[name] = {} if found is None else found.facts()
        reports[name]["load_s"] = round(time.monotonic() - started, 2)
        print(f"{name}: {reports[name]}", file=sys.stderr)
    turns = itertools.cycle([files[at : at + BATCH] for at in range(0, len(files), BATCH)])
    rates: dict[str, list[float]] = {name: [] for name in handlers}
    for number in range(options.rounds):
        order = list(handlers) if number % 2 == 0 else list(handlers)[::-1]
        for name in order:
            rates[name].append(_rate(handlers[name], turns, options.seconds))
    return rates, reports


def _loaded(model_dir: Path, setting: Any) -> ImageClassifier:
    manifest = {"model": {"modelFile": "model.py", "serializedFile": "resnet18.pth"}}
    document = {} if setting is None else {"optimize": setting}
    context = Context("resnet18", str(model_dir), manifest, BATCH, model_yaml_config=document)
    handler = ImageClassifier()
    handler.initialize(context)
    return handler


def _rate(handler: ImageClassifier, turns: Iterator[list[bytes]], seconds: float) -> float:
    """Images per second."""
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        files = next(turns)
        ids = [str(number) for number in range(len(files))]
        handler.context.begin_batch(ids, [{}] * len(files))
        count += len(handler.handle([{"body": bytearray(file)} for file in files], handler.context))
    return count / (time.perf_counter() - started)


def _ratio(rates: dict[str, list[float]], name: str) -> float:
    pairs = zip(rates[name], rates["plain"], strict=True)
    return statistics.median(one / plain for one, plain in pairs)


def _table(rates: dict[str, list[float]], reports: dict[str, Any]) -> str:
    lines = [
        "| `optimize` | images/s | handler, times plain | model alone, times plain | "
        "relative error | same class | loaded in |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, figures in rates.items():
        found = reports[name]
        shown = name if name != AUTO else f"auto: {found['chosen']}"
        alone = f"{found['gain']:.2f}" if "gain" in found else ""
        error = f"{found['relative_error']:.2g}" if "gain" in found else ""
        same = f"{found['agreement']:.0%}" if "gain" in found else ""
        lines.append(
            f"| {shown} | {statistics.median(figures):.1f} | {_ratio(rates, name):.2f} | {alone} | "
            f"{error} | {same} | {found['load_s']} s |"
        )
    return "\n".join(lines)


def _plot(rates: dict[str, list[float]]) -> report.Figure:
    figure, [axes] = report.plot()
    names = list(rates)[::-1]
    colours = [report.colour(0 if name == AUTO else 1) for name in names]
    axes.barh(names, [_ratio(rates, name) for name in names], color=colours, height=0.6)
    axes.set_xlabel("times as many images per second as the plain model")
    axes.set_title("image_classifier with ResNet-18, batches of 8")
    return figure


if __name__ == "__main__":
    sys.exit(main())
