"""Trains a classifier of iris flowers: about a second, no download.

    python train.py OUT_DIR

writes `OUT_DIR/iris.joblib` and `OUT_DIR/sample.json`, two flowers to send.
"""

import json
import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def train(out_dir: Path) -> float:
    """Train, write the estimator and a sample into `out_dir`, return the held-out accuracy."""
    iris = load_iris()
    names = iris.target_names[iris.target]
    train_x, test_x, train_y, test_y = train_test_split(
        iris.data, names, test_size=0.2, stratify=names, random_state=1
    )
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(train_x, train_y)
    out_dir.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out_dir / "iris.joblib")
    sample = {"instances": test_x[:2].tolist()}
    (out_dir / "sample.json").write_text(json.dumps(sample), encoding="utf-8")
    return float(model.score(test_x, test_y))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python train.py OUT_DIR")
    print(f"held-out accuracy {train(Path(sys.argv[1])):.3f}")
