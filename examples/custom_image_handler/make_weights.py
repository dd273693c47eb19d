"""Writes the weights of the example: random, but the same ones every time.

    python make_weights.py OUT_DIR

writes `OUT_DIR/tiny.pth`, and `OUT_DIR/sample.png` to send.
"""

import runpy
import sys
from pathlib import Path

import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
SEED = 3


def make_weights(out_dir: Path) -> Path:
    """The weights file, written into `out_dir`."""
    out_dir.mkdir(parents=True, exist_ok=True)
    model_class = runpy.run_path(str(HERE / "model.py"))["TinyNet"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = model_class()
    weights = out_dir / "tiny.pth"
    torch.save(model.state_dict(), weights)
    Image.linear_gradient("L").convert("RGB").resize((48, 48)).save(out_dir / "sample.png")
    return weights


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python make_weights.py OUT_DIR")
    print(make_weights(Path(sys.argv[1])))
