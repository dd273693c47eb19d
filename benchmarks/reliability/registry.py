"""Which scenarios there are: every module of this folder that has a function `run(budget)`.

They are read, not imported: one that cannot be imported is still found, and fails when it runs.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
_USUAL_S = 120.0
_LEAST_S = 8.0
START_S = 6.0
"""What a scenario needs besides its trials, about: to start servers, and to check."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One module. `release_s` is how long its trials take in a release run."""

    name: str
    path: Path
    release_s: float
    about: str
    """The first line of its docstring."""


def scenarios(folder: Path = FOLDER) -> list[Scenario]:
    """All of them, by name."""
    found = [_read(path) for path in sorted(folder.glob("*.py"))]
    return [one for one in found if one is not None]


def _read(path: Path) -> Scenario | None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    if not any(one.name == "run" and len(one.args.args) == 1 for one in functions):
        return None
    release_s = _USUAL_S
    for node in tree.body:
        if isinstance(node, ast.Assign) and _assigns(node, "RELEASE_S"):
            release_s = float(ast.literal_eval(node.value))
    about = (ast.get_docstring(tree) or path.stem).split("\n")[0]
    return Scenario(path.stem, path, release_s, about)


def _assigns(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def shares(chosen: Sequence[Scenario], total_s: float) -> dict[str, float]:
    """How long each one's trials may take: in the proportion of a release run, and not longer.

    What short ones cannot use goes to the others.
    """
    left_s = total_s - START_S * len(chosen)
    given: dict[str, float] = {}
    for at, one in enumerate(sorted(chosen, key=lambda one: one.release_s)):
        rest = sorted(chosen, key=lambda one: one.release_s)[at:]
        fair_s = left_s * one.release_s / sum(other.release_s for other in rest)
        given[one.name] = min(one.release_s, max(_LEAST_S, fair_s))
        left_s -= given[one.name]
    return {one.name: given[one.name] for one in chosen}
