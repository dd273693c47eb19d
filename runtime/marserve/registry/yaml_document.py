"""Reads YAML that strangers wrote: no objects, no growth without end, one kind of error. Pure."""

from __future__ import annotations

from typing import Any

import yaml

_UNREADABLE = (
    yaml.YAMLError,
    RecursionError,
    # what PyYAML lets escape from `!!int ''`, `!!bool perhaps`, `!!timestamp soon` and their like
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
)


class YamlInvalid(Exception):
    """It is no YAML; `str(error)` is one line that says where."""


class _Loader(yaml.SafeLoader):
    """A SafeLoader in which merges of merges (`<<: [*a, *a]`) do not multiply without end."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        last_of_each = {_identity(pair[0]): pair for pair in node.value}
        node.value = list(last_of_each.values())


def read_yaml(text: bytes) -> Any:
    """The document: plain values, lists and dicts; aliases may make it contain itself.

    Raises:
        YamlInvalid: it cannot be read.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  it is a SafeLoader
    except _UNREADABLE as error:
        raise YamlInvalid(" ".join(str(error).split())) from error


def _identity(key: yaml.Node) -> tuple[str, str | int]:
    return (key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key))
