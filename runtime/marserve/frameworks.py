"""Which frameworks a model's own files import, read from their source without running it.

The files come from an archive: sizes and their number are bounded, and whatever cannot be parsed
counts as importing nothing (the worker will say what is wrong with it).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from marserve_handlers.builtin import BUILT_INS
from marserve_handlers.model_files import find_file

MAX_FILE_BYTES: Final = 1 << 20
MAX_FILES: Final = 32

FRAMEWORKS: Final = frozenset(
    {
        "PIL",
        "catboost",
        "cv2",
        "diffusers",
        "joblib",
        "lightgbm",
        "numpy",
        "onnxruntime",
        "pandas",
        "scipy",
        "sklearn",
        "spacy",
        "tensorflow",
        "tokenizers",
        "torch",
        "torchaudio",
        "torchvision",
        "transformers",
        "xgboost",
    }
)
"""Slow to import, and safe to have imported when a process forks."""

_TORCHSERVE: Final = "ts.torch_handler"
_TORCHSERVE_VISION: Final = frozenset(
    {
        "dali_handler",
        "dali_image_classifier",
        "image_classifier",
        "image_segmenter",
        "object_detector",
        "vision_handler",
    }
)

_OURS: Final = {found.module: set(found.frameworks) for found in BUILT_INS.values()}
"""Our own handlers, which those of archives extend."""


def imported_frameworks(model_dir: Path, names: Iterable[str]) -> set[str]:
    """The frameworks that these files of `model_dir`, and the files they import, import.

    Args:
        model_dir: where the model's files are.
        names: file names, with or without `.py`; what is no file is skipped.
    """
    found: set[str] = set()
    waiting = [file for name in names if name and (file := find_file(model_dir, name)) is not None]
    seen: set[Path] = set()
    while waiting and len(seen) < MAX_FILES:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for module in _imports(file):
            top = module.partition(".")[0]
            own = find_file(model_dir, top)
            if own is not None:
                waiting.append(own)
            elif (model_dir / top).is_dir():
                continue  # a package of the archive: the model's copy, not the server's
            else:
                found |= _frameworks_of(module)
    return found


def _frameworks_of(module: str) -> set[str]:
    """What importing `module` leads to."""
    top = module.partition(".")[0]
    if top in FRAMEWORKS:
        return {top}
    if module in _OURS:
        return _OURS[module]
    if module != _TORCHSERVE and not module.startswith(f"{_TORCHSERVE}."):
        return set()
    handler = module.removeprefix(f"{_TORCHSERVE}.").partition(".")[0]
    return {"torch", "torchvision"} if handler in _TORCHSERVE_VISION else {"torch"}


def _imports(file: Path) -> Iterator[str]:
    """The dotted names that `file` imports, wherever in it."""
    tree = _parsed(file)
    if tree is None:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            # `from ts.torch_handler import vision_handler` names a module after the import
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _parsed(file: Path) -> ast.Module | None:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            return None
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
