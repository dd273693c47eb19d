"""The specification of a workflow: YAML -> models, functions, their settings and the graph. Pure.

Settings directly under `models` are defaults for the nodes that are listed below them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from marserve.errors import WorkflowInvalid
from marserve.pipelines.dag import Dag, build
from marserve.registry.yaml_document import MAX_BYTES, YamlInvalid, read_yaml

__all__ = ["MAX_BYTES", "Node", "NodeSettings", "Specification", "parse"]

MAX_NODES: Final = 100
_MOST: Final = 2**31 - 1
_MOST_RETRIES: Final = 100


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How one node runs."""

    min_workers: int = 1
    max_workers: int = 1
    """How many are started."""
    batch_size: int = 1
    max_batch_delay_ms: int = 50
    retry_attempts: int = 1
    """How often it is tried again after it has failed."""
    timeout_ms: int = 10_000
    """For each try."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the graph."""

    name: str
    url: str | None
    """Of its archive; None: it is a function of the workflow's handler."""
    settings: NodeSettings


@dataclass(frozen=True, slots=True)
class Specification:
    """What a workflow consists of."""

    defaults: NodeSettings
    nodes: Mapping[str, Node]
    """Those of the graph, in its order."""
    dag: Dag
    edges: Mapping[str, tuple[str, ...]]
    """As the document lists them."""


# key -> field, least, most
_KEYS: Final = {
    "min-workers": ("min_workers", 0, _MOST),
    "max-workers": ("max_workers", 1, _MOST),
    "batch-size": ("batch_size", 1, _MOST),
    "max-batch-delay": ("max_batch_delay_ms", 0, _MOST),
    "retry-attempts": ("retry_attempts", 0, _MOST_RETRIES),
    "timeout-ms": ("timeout_ms", 1, _MOST),
}


def parse(text: bytes, functions: Collection[str] | None) -> Specification:
    """The specification in a YAML document.

    Args:
        text: the document.
        functions: the names that the workflow's handler defines; None: they are not known.

    Raises:
        WorkflowInvalid: it is no specification, or its graph cannot be run.
    """
    try:
        document = read_yaml(text)
    except YamlInvalid as error:
        raise WorkflowInvalid(f"Failed to parse yaml: {error}") from error
    if not isinstance(document, dict):
        raise WorkflowInvalid("The specification must have the keys models and dag.")
    defaults, models = _models(_mapping(document.get("models"), "models"))
    edges = _edges(_mapping(document.get("dag"), "dag"))
    dag = build(edges)
    nodes = {name: models.get(name) or _function(name, functions, defaults) for name in dag.nodes}
    return Specification(defaults, nodes, dag, edges)


def _models(given: Mapping[Any, Any]) -> tuple[NodeSettings, dict[str, Node]]:
    defaults = NodeSettings()
    models = {}
    for key, value in given.items():
        if key in _KEYS:
            defaults = _with(defaults, key, value, "models")
        else:
            name = _name(key, "models")
            models[name] = _model(name, value, defaults)
    return defaults, models


def _model(name: str, given: Any, defaults: NodeSettings) -> Node:
    if not isinstance(given, dict):
        known = ", ".join(_KEYS)
        raise WorkflowInvalid(
            f"{name!r} under models is neither a setting ({known}) nor a model with a url."
        )
    url = given.get("url")
    if not isinstance(url, str) or not url:
        raise WorkflowInvalid(f"The model {name!r} has no url that names its archive.")
    settings = defaults
    for key, value in given.items():
        if key in _KEYS:  # others are for people
            settings = _with(settings, key, value, f"the model {name!r}")
    return Node(name, url, settings)


def _function(name: str, functions: Collection[str] | None, defaults: NodeSettings) -> Node:
    if functions is not None and name not in functions:
        raise WorkflowInvalid(
            f"Not a valid DAG: the node {name!r} is neither under models nor a function of the "
            "workflow's handler."
        )
    one = replace(defaults, min_workers=1, max_workers=1, batch_size=1, max_batch_delay_ms=0)
    return Node(name, None, one)


def _with(settings: NodeSettings, key: str, value: Any, where: str) -> NodeSettings:
    field, least, most = _KEYS[key]
    if type(value) is not int or not least <= value <= most:
        raise WorkflowInvalid(
            f"{key} of {where} is {_shown(value)}; it must be a whole number from {least} to "
            f"{most}."
        )
    return replace(settings, **{field: value})


def _edges(given: Mapping[Any, Any]) -> dict[str, tuple[str, ...]]:
    edges = {}
    nodes: set[str] = set()
    _check_count(given)
    for node, then in given.items():
        edges[_name(node, "dag")] = _successors(node, then)
        nodes |= {node, *edges[node]}
        _check_count(nodes)
    return edges


def _check_count(nodes: Collection[Any]) -> None:
    """Before anything is done for each: a short document can name very many."""
    if len(nodes) > MAX_NODES:
        raise WorkflowInvalid(f"Not a valid DAG: it has more than {MAX_NODES} nodes.")


def _successors(node: Any, then: Any) -> tuple[str, ...]:
    if then is None:
        return ()
    if isinstance(then, list):
        _check_count(then)
    else:
        raise WorkflowInvalid(
            f"Not a valid DAG: what comes after {_shown(node)} must be a list, not {_shown(then)}."
        )
    return tuple(_name(name, "dag") for name in then)


def _mapping(given: Any, key: str) -> Mapping[Any, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise WorkflowInvalid(f"The specification's {key} must be a mapping, not {_shown(given)}.")
    return given


def _name(given: Any, where: str) -> str:
    if not isinstance(given, str) or not given:
        raise WorkflowInvalid(
            f"A node under {where} is called {_shown(given)}; a name is text, "
            "in quotes where YAML would take it for something else."
        )
    return given


def _shown(value: Any) -> str:
    """The beginning of a value: aliases of aliases make a short document print without end."""
    if isinstance(value, int) and abs(value) > _MOST:
        return "a number out of range"
    return reprlib.repr(value)[:80]
