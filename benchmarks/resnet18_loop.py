"""A bare loop around ResNet-18: what a model server is held against. No server, no handler.

    python resnet18_loop.py IMAGES WEIGHTS BATCH THREADS {plain,bfloat16} {one,pool}

Decodes a batch of JPEG files with the usual transforms of torchvision (one after the other, or on a
pool of as many threads), runs the model, and takes softmax and the five likeliest classes. Reads a
number of seconds per line from stdin, runs for so long, and prints `images seconds`.
"""

from __future__ import annotations

import io
import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from resnet18_model import ResNet18
from torchvision import transforms

TRANSFORMS = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


def main() -> None:
    """Answer lines until stdin ends."""
    folder, weights, batch_size, threads, precision, decoding = sys.argv[1:]
    torch.set_num_threads(int(threads))
    files = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    model = ResNet18().eval()
    model.load_state_dict(torch.load(weights))
    dtype, layout = torch.float32, torch.contiguous_format
    if precision == "bfloat16":
        dtype, layout = torch.bfloat16, torch.channels_last
        model = model.to(dtype=dtype, memory_format=layout)
    pool = ThreadPoolExecutor(int(threads)) if decoding == "pool" else None
    starts = range(0, len(files), int(batch_size))
    batches = itertools.cycle([files[at : at + int(batch_size)] for at in starts])

    def run(batch: list[bytes]) -> list[tuple[list[float], list[int]]]:
        each = pool.map(read, batch) if pool is not None else map(read, batch)
        images = torch.stack(list(each)).to(dtype=dtype, memory_format=layout)
        with torch.inference_mode():
            scores = torch.softmax(model(images).float(), dim=1)
            values, classes = torch.topk(scores, 5)
        return list(zip(values.tolist(), classes.tolist(), strict=True))

    for line in sys.stdin:
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < float(line):
            count += len(run(next(batches)))
        print(count, time.perf_counter() - started, flush=True)


def read(file: bytes) -> torch.Tensor:
    """One image as the model takes it."""
    return TRANSFORMS(Image.open(io.BytesIO(file)).convert("RGB"))


if __name__ == "__main__":
    main()
