"""The fuzz targets of this folder: `targets/<noun>.py`, each with `SEEDS` and `one_input`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "targets"


@dataclass(frozen=True, slots=True)
class FuzzTarget:
    """One target. `one_input` raises only if the product breaks."""

    name: str
    seeds: Sequence[bytes]
    one_input: Callable[[bytes], None]


def names() -> list[str]:
    """Every target there is."""
    return sorted(path.stem for path in _FOLDER.glob("*.py"))


def load(name: str) -> FuzzTarget:
    """Import one target; its own folder may be imported from."""
    if str(_FOLDER) not in sys.path:
        sys.path.insert(0, str(_FOLDER))
    qualified = f"fuzz_target_{name}"
    spec = importlib.util.spec_from_file_location(qualified, _FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[qualified] = module
    spec.loader.exec_module(module)
    return FuzzTarget(name, module.SEEDS, module.one_input)
