"""Brings files to a model directory, for the tests of handlers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import urlopen

CACHE: Final = Path(tempfile.gettempdir()) / "marserve-test-models"
"""Where downloads are kept; a file of the same name is not downloaded again."""


def download_model(model_url: str, model_dir: Path) -> None:
    """Fetch weights over HTTP, once per machine, and put them into `model_dir` as `model.pt`.

    Raises:
        ValueError: the url is neither http nor https.
        OSError: it cannot be fetched.
    """
    parts = urlsplit(model_url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"Weights are downloaded from http(s) urls, not from {model_url!r}.")
    CACHE.mkdir(exist_ok=True)
    kept = CACHE / Path(parts.path).name
    if not kept.is_file():
        unfinished = kept.with_name(f"{kept.name}.part")
        with urlopen(model_url) as source, unfinished.open("wb") as target:  # noqa: S310  checked
            shutil.copyfileobj(source, target)
        unfinished.replace(kept)
    shutil.copy(kept, Path(model_dir) / "model.pt")


def copy_files(src_dir: Path, dst_dir: Path, files: Mapping[str, str]) -> None:
    """Copy the files named on the left of `files` to the names on the right."""
    for source, target in files.items():
        shutil.copyfile(Path(src_dir) / source, Path(dst_dir) / target)
