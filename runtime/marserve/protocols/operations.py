"""What an API offers, as data: its operations, their parameters and their answers. Pure.

Fronts bind operations to code by their ids, and `openapi.py` writes documents from the same rows,
so that what is described cannot drift from what is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Shape(Enum):
    """What a body looks like; `openapi.py` has the schema of each."""

    ANYTHING = "Anything"
    NOTHING = "Nothing"
    OBJECT = "Object"
    STATUS = "Status"
    MODELS = "Models"
    VERSIONS = "Versions"
    READY = "Ready"
    WORKFLOWS = "Workflows"
    WORKFLOW = "Workflow"
    METRICS = "Metrics"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter; `default` None: no default."""

    name: str
    type: str
    default: str | int | bool | None = None
    required: bool = False
    choices: tuple[str, ...] = ()
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `paths` are alternatives: without and with a version."""

    id: str
    method: str
    paths: tuple[str, ...]
    summary: str
    parameters: tuple[Parameter, ...] = ()
    answer: Shape = Shape.OBJECT
    """The body of a success."""
    statuses: tuple[int, ...] = (200,)
    changes_models: bool = False
    """Refused when the model API is switched off."""
    takes_json: bool = False
    """The parameters may come as members of a JSON body instead."""
    takes_anything: bool = False
    """The body is the handler's input."""

    def id_of(self, path: str) -> str:
        """The operation's id on one of its paths: those with a version have a prefix."""
        return self.id if path == self.paths[0] else f"version_{self.id}"
