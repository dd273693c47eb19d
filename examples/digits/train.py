"""Trains the digits model: about ten seconds on two cores, no download.

    python train.py OUT_DIR

writes `OUT_DIR/digits.pth` (a state dict) and `OUT_DIR/held_out/`: the images that the model has
not seen as PNG files, and `labels.json` with the digit of each.
"""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent
SEED = 7
EPOCHS = 30
BATCH = 64
BRIGHTEST = 16.0  # the data set counts grey levels from 0 to 16

# by path, so that this file can be run, and imported, from anywhere
DigitsNet = runpy.run_path(str(HERE / "model.py"))["DigitsNet"]


def train(out_dir: Path, report: Callable[[str], object] = print) -> float:
    """Train, write weights and held-out images below `out_dir`, return the held-out accuracy.

    Args:
        out_dir: created if missing.
        report: gets one line per epoch.
    """
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images.reshape(-1, 8, 8), labels, test_size=0.2, stratify=labels, random_state=SEED
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = DigitsNet()
        fit(model, as_batch(train_x), torch.tensor(train_y), report)
    accuracy = share_right(model, as_batch(test_x), torch.tensor(test_y))
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), out_dir / "digits.pth")
    write_images(out_dir / "held_out", test_x, test_y)
    report(f"held-out accuracy {accuracy:.4f} on {len(test_y)} images")
    return accuracy


def fit(model: Any, images: Any, labels: Any, report: Callable[[str], object]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    model.train()
    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        for index in torch.randperm(len(images)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(model(shifted(images[index])), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        report(f"epoch {epoch}/{EPOCHS}: loss {total / len(images):.4f}")
    model.eval()


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Each batch moved by at most one pixel: the model learns shapes, not places."""
    down, right = torch.randint(-1, 2, (2,)).tolist()
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    return padded[:, :, 1 + down : 9 + down, 1 + right : 9 + right]


def share_right(model: Any, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.inference_mode():
        return float((model(images).argmax(dim=1) == labels).float().mean())


def as_batch(images: Any) -> torch.Tensor:
    return torch.tensor(images, dtype=torch.float32).unsqueeze(1) / BRIGHTEST


def write_images(folder: Path, images: Any, labels: Any) -> None:
    folder.mkdir(exist_ok=True)
    names = {}
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = f"{index:03}.png"
        grey = np.round(image * 255 / BRIGHTEST).astype(np.uint8)
        Image.fromarray(grey).save(folder / name)
        names[name] = int(label)
    (folder / "labels.json").write_text(json.dumps(names, indent=1), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python train.py OUT_DIR")
    train(Path(sys.argv[1]))
