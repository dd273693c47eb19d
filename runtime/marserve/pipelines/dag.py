"""Which node of a workflow runs after which: a directed graph without cycles, from one start. Pure.

An error begins with TorchServe's words for it and goes on with what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from marserve.errors import WorkflowInvalid


@dataclass(frozen=True, slots=True)
class Dag:
    """A graph in which every node can be reached from the one start."""

    successors: Mapping[str, tuple[str, ...]]
    """Of every node, in the order in which the graph names them."""
    parents: Mapping[str, tuple[str, ...]]
    """Of every node, in that order as well."""
    start: str
    leaves: tuple[str, ...]
    """The nodes without successors: what they answer is the result."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes, in the order in which the graph names them."""
        return tuple(self.successors)


def build(edges: Mapping[str, Sequence[str]]) -> Dag:
    """The graph in which the keys of `edges` run before the nodes that they list.

    Raises:
        WorkflowInvalid: it has a cycle, no start or several, an edge twice, or no node.
    """
    for node, then in edges.items():
        if node in then:
            raise WorkflowInvalid(f"Self loop exception: the node {node!r} comes after itself.")
        twice = next((other for other in then if then.count(other) > 1), None)
        if twice is not None:
            raise WorkflowInvalid(f"loop exception: {node!r} names {twice!r} more than once.")
    named = (name for node, then in edges.items() for name in (node, *then))
    nodes = tuple(dict.fromkeys(named))
    successors = {node: tuple(edges.get(node, ())) for node in nodes}
    parents = {node: tuple(p for p in nodes if node in successors[p]) for node in nodes}
    starts = [node for node in nodes if not parents[node]]
    cycle = _cycle(successors, parents)
    if len(starts) != 1:
        raise WorkflowInvalid(f"DAG should have only one start node{_starts(starts, cycle)}")
    if cycle:
        raise WorkflowInvalid(f"Not a valid DAG: the nodes {_path(cycle)} form a cycle.")
    leaves = tuple(node for node in nodes if not successors[node])
    return Dag(successors, parents, starts[0], leaves)


def _cycle(
    successors: Mapping[str, Sequence[str]], parents: Mapping[str, Sequence[str]]
) -> list[str]:
    """Nodes each of which comes after the one before, and the first after the last; or none."""
    waits_for = {node: len(before) for node, before in parents.items()}
    free = [node for node, count in waits_for.items() if count == 0]
    while free:
        node = free.pop()
        del waits_for[node]
        for other in successors[node]:
            waits_for[other] -= 1
            if waits_for[other] == 0:
                free.append(other)
    if not waits_for:
        return []
    # each that is left has a parent that is left, so going back must come to one seen before
    walk: list[str] = [next(iter(waits_for))]
    while True:
        before = next(parent for parent in parents[walk[-1]] if parent in waits_for)
        if before in walk:
            return walk[walk.index(before) :][::-1]
        walk.append(before)


def _starts(starts: Sequence[str], cycle: Sequence[str]) -> str:
    if starts:
        return f", and this one has {len(starts)}: {', '.join(map(repr, starts))}."
    if cycle:
        return f", and this one has none: the nodes {_path(cycle)} form a cycle."
    return ", and this one has no node at all."


def _path(cycle: Sequence[str]) -> str:
    return " -> ".join(repr(node) for node in (*cycle, cycle[0]))
