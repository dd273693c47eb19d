"""Class numbers to names: the file `index_to_name.json` and what handlers do with it. Pure."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

LABELS_FILE: Final = "index_to_name.json"

_log = logging.getLogger("marserve_handlers.labels")


def load_label_mapping(mapping_file_path: str | Path) -> dict[str, str] | None:
    """Index (as text) to class name; None, and a line in the log, when there is no such file.

    The file holds `{"0": "cat"}`, `{"0": ["n01", "cat"]}` (the last entry counts), or
    `{"object_type_names": ["background", "cat"]}`.

    Raises:
        ValueError: the file holds something else.
    """
    path = Path(mapping_file_path)
    if not path.is_file():
        _log.warning("%s is missing. Inference output will not include class name.", path)
        return None
    mapping = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(mapping, dict):
        raise ValueError(f"{path.name} must hold a JSON object of index to class name.")
    names = mapping.get("object_type_names")
    if isinstance(names, list):
        mapping = {str(index): name for index, name in enumerate(names)}
    return {index: _last_name(name) for index, name in mapping.items()}


def map_class_to_label(
    probs: Iterable[Sequence[float]],
    mapping: Mapping[str, str] | Sequence[str] | None = None,
    lbl_classes: Iterable[Sequence[Any]] | None = None,
) -> list[dict[str, float]]:
    """One `{class name: probability}` per row of `probs`.

    Args:
        probs: per result, the probabilities.
        mapping: index to class name; without one the index itself is the name.
        lbl_classes: per result, the class of each probability; without it they count up from 0.
    """
    rows = [list(row) for row in probs]
    classes = [range(len(row)) for row in rows] if lbl_classes is None else lbl_classes
    return [
        {_label(mapping, index): prob for index, prob in zip(indices, row, strict=False)}
        for indices, row in zip(classes, rows, strict=True)
    ]


def _label(mapping: Mapping[str, str] | Sequence[str] | None, index: Any) -> str:
    if mapping is None:
        return str(index)
    if isinstance(mapping, Mapping):
        return mapping.get(str(index), str(index))
    return mapping[int(index)]


def _last_name(name: object) -> str:
    if isinstance(name, str):
        return name
    if isinstance(name, list) and name and all(isinstance(entry, str) for entry in name):
        return str(name[-1])
    raise ValueError("labels in index->name mapping must be either str or List[str]")
