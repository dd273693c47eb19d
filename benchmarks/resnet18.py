"""A real model behind the server: ResNet-18 on JPEG files, against a bare loop around it.

    python benchmarks/resnet18.py [--seconds 4] [--rounds 7] [--clients 24]

The built-in image_classifier with random weights, 224 x 224 JPEG files, batches of 8, all cores of
the machine; each client sends the next file when its last one is answered. Against it runs a loop
of PyTorch in a process of its own, with as many threads, that decodes the same files and asks the
same model: as people write it, and with its decoding on a pool of threads. The same again with
`optimize: auto`, against a loop that is optimised in the same way by hand. All take short turns in
every round; what counts is the ratio inside a round, and of these the median.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import report
import torch
from closed_loop import drive
from PIL import Image
from resnet18_model import ResNet18
from servers import Model, Server, marserve, pack

HERE = Path(__file__).parent
BATCH, FILES, SIDE = 8, 48, 224
BAR = 0.95
LOOP, POOL, OURS = "bare loop", "bare loop, decoding on a pool", "MarServe"
AUTO = "optimize: auto"
KINDS = ("plain", AUTO)
PACKAGES = ("torch", "torchvision", "pillow", "numpy")


def main() -> int:
    """Measure, print, keep. Exit code 1 when the bar is missed."""
    options = _options()
    threads = len(os.sched_getaffinity(0))
    rates: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        contenders = _contenders(stack, work, threads, options.clients)
        for _, _, run in contenders:
            run(2.0)  # warm
        for number in range(options.rounds):
            order = contenders if number % 2 == 0 else contenders[::-1]
            for kind, name, run in order:
                rates[kind].setdefault(name, []).append(run(options.seconds))
                last = f"{rates[kind][name][-1]:7.1f} images/s"
                print(f"round {number + 1}  {kind:15} {name:32} {last}", file=sys.stderr)
    shares = {kind: _share(rates[kind], LOOP) for kind in KINDS}
    raw = {"batch": BATCH, "threads": threads, "rates": rates, "options": vars(options)}
    report.save("resnet18", "ResNet-18 on JPEG files", raw, _table(rates), _plot(rates), PACKAGES)
    return 0 if min(shares.values()) >= BAR else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4, help="length of one turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, default=24)
    return parser.parse_args()


def _contenders(
    stack: ExitStack, work: Path, threads: int, clients: int
) -> list[tuple[str, str, Callable[[float], float]]]:
    """Kind, name, and what gives images per second when run for some seconds."""
    images, weights, store = work / "images", work / "resnet18.pth", work / "store"
    make_images(images)
    make_archives(store, weights, {"plain": "", "auto": "optimize: auto\n"})
    body = next(images.iterdir()).read_bytes()
    found = []
    for kind, name, precision in (("plain", "plain", "plain"), (AUTO, "auto", "bfloat16")):
        model = Model(f"resnet18_{name}", store, body, "image/jpeg", 1, BATCH, 20)
        server = stack.enter_context(marserve(work / name, model))
        found.append((kind, OURS, _driven(server, images, clients)))
        for loop, decoding in ((LOOP, "one"), (POOL, "pool")):
            arguments = [str(images), str(weights), str(BATCH), str(threads), precision, decoding]
            found.append((kind, loop, stack.enter_context(_loop(arguments))))
    return found


def make_images(folder: Path) -> None:
    """JPEG files with shapes and grain, 224 x 224."""
    folder.mkdir()
    random = np.random.default_rng(1)
    down, across = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    for number in range(FILES):
        waves = random.uniform(2, 25, (3, 2))
        planes = [np.sin(x * across + y * down) for x, y in waves]
        values = np.stack(planes, axis=2) * 90 + 128 + random.normal(0, 10, (SIDE, SIDE, 3))
        image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
        image.save(folder / f"{number:03}.jpg", quality=90)


def make_archives(store: Path, weights: Path, documents: dict[str, str]) -> None:
    """`resnet18_NAME.mar` for each name, with this model-config.yaml."""
    store.mkdir()
    torch.manual_seed(0)
    torch.save(ResNet18().state_dict(), weights)
    for name, document in documents.items():
        config = weights.parent / f"{name}.yaml"
        config.write_text(document or "{}\n")
        more = ["--model-file", str(HERE / "resnet18_model.py"), "--config-file", str(config)]
        more += ["--serialized-file", str(weights)]
        pack(store, f"resnet18_{name}", Path("image_classifier"), *more)


@contextmanager
def _loop(arguments: Sequence[str]) -> Iterator[Callable[[float], float]]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "resnet18_loop.py"), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": arguments[3]},
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def run(seconds: float) -> float:
        print(seconds, file=process.stdin, flush=True)
        count, took = process.stdout.readline().split()
        return int(count) / float(took)

    try:
        yield run
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def _driven(server: Server, images: Path, clients: int) -> Callable[[float], float]:
    bodies = [file.read_bytes() for file in sorted(images.iterdir())]
    return lambda seconds: drive(server.target.url, bodies, "image/jpeg", clients, seconds)


def _share(rates: dict[str, list[float]], against: str) -> float:
    """The median over the rounds of ours divided by theirs."""
    pairs = zip(rates[OURS], rates[against], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def _table(rates: dict[str, dict[str, list[float]]]) -> str:
    lines = ["| model | | images/s | MarServe is at |", "| --- | --- | --- | --- |"]
    for kind in KINDS:
        for name, figures in rates[kind].items():
            share = "" if name == OURS else f"{_share(rates[kind], name):.1%} of it"
            lines.append(f"| {kind} | {name} | {statistics.median(figures):.1f} | {share} |")
    pairs = zip(rates[AUTO][OURS], rates["plain"][OURS], strict=True)
    gain = statistics.median(auto / plain for auto, plain in pairs)
    plain = _share(rates["plain"], LOOP)
    verdict = "reached" if plain >= BAR else "missed"
    lines += [
        "",
        f"At least {BAR:.0%} of the bare loop: {verdict}, {plain:.1%} as packed and "
        f"{_share(rates[AUTO], LOOP):.1%} with `optimize: auto`, which serves {gain:.2f} times as "
        "many images. Medians over the rounds; the shares are of the rates in the same round.",
    ]
    return "\n".join(lines)


def _plot(rates: dict[str, dict[str, list[float]]]) -> report.Figure:
    figure, axes = report.plot(columns=2)
    for place, kind in enumerate(KINDS):
        names = [OURS, LOOP, POOL]
        heights = [statistics.median(rates[kind][name]) for name in names]
        axes[place].bar(range(3), heights, color=[report.colour(n) for n in range(3)], width=0.6)
        for x, name in enumerate(names):
            figures = rates[kind][name]
            axes[place].plot(
                [x] * len(figures), figures, "o", color="black", markersize=3, alpha=0.5
            )
        labels = ["MarServe", "bare loop", "bare loop,\ndecoding on a pool"]
        axes[place].set_xticks(range(3), labels)
        axes[place].set_title(kind)
        axes[place].set_ylabel("images/s")
        axes[place].set_ylim(bottom=0)
    return figure


if __name__ == "__main__":
    sys.exit(main())
