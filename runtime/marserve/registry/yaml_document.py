"""Reads YAML that strangers wrote: no objects, no growth without end, one kind of error. Pure.

The limits are checked while the document is composed, before anything is made of it. Merges are
our own, because releases of PyYAML differ in what they mean, and some let them multiply.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

MAX_BYTES: Final = 1 << 18
MAX_LINES: Final = 20_000
MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000
MAX_ALIASES: Final = 64
_MAX_NUMBER_CHARS: Final = 400

_CORE: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_CORE}merge"
# what a tag of YAML's core schema builds is a plain value; every other tag asks for more
_HARMLESS: Final = frozenset(
    f"{_CORE}{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")
)
_UNREADABLE = (
    yaml.YAMLError,
    RecursionError,
    # what PyYAML lets escape from `!!int ''`, `!!bool perhaps`, `2001-99-99` and their like
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
)


class YamlInvalid(Exception):
    """It is no YAML, or too much of it; `str(error)` is one line that says where."""


def read_yaml(text: bytes) -> Any:
    """The document: plain values, lists and dicts; aliases may make it contain itself.

    Raises:
        YamlInvalid: it cannot be read, is larger or deeper than any settings have to be, or has
            tags beyond those of YAML's core schema.
    """
    if len(text) > MAX_BYTES:
        raise YamlInvalid(f"it is larger than {MAX_BYTES} bytes")
    if text.count(b"\n") + text.count(b"\r") > MAX_LINES:
        raise YamlInvalid(f"it has more than {MAX_LINES} lines")
    try:
        return yaml.load(text, _Loader)  # noqa: S506  it is a SafeLoader
    except _UNREADABLE as error:
        raise YamlInvalid(" ".join(str(error).split())) from error


class _Loader(yaml.SafeLoader):
    """A SafeLoader that counts what it composes."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self._nodes = self._aliases = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self._aliases = self._counted(self._aliases, MAX_ALIASES, "aliases", event)
        else:
            self._nodes = self._counted(self._nodes, MAX_NODES, "values", event)
            _check_tag(event)
        self._depth = self._counted(self._depth, MAX_DEPTH, "levels", event)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    @staticmethod
    def _counted(count: int, most: int, what: str, event: yaml.Event) -> int:
        if count >= most:
            raise _refused(f"more than {most} {what}", event.start_mark)
        return count + 1

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Puts what `<<` refers to before the mapping's own pairs; the last of each key counts."""
        merges = [value for key, value in node.value if key.tag == _MERGE]
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        node.value = own  # a mapping that merges itself finds no merge left
        pairs: dict[tuple[str, Any], tuple[yaml.Node, yaml.Node]] = {}
        for merge in merges:
            for source in _sources(merge):
                self.flatten_mapping(source)
                pairs |= {_identity(pair[0]): pair for pair in source.value}
        for key, _ in own:
            if key.tag == f"{_CORE}value":  # a key that is a single =
                key.tag = f"{_CORE}str"
        node.value = [*(pairs | {_identity(pair[0]): pair for pair in own}).values()]

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Numbers with colons are counted in sixties, which takes the square of their length."""
        if len(node.value) > _MAX_NUMBER_CHARS:
            raise _refused("a number is too long", node.start_mark)
        if node.tag == f"{_CORE}int":
            return int(self.construct_yaml_int(node))
        return float(self.construct_yaml_float(node))


_Loader.add_constructor(f"{_CORE}int", _Loader.construct_number)
_Loader.add_constructor(f"{_CORE}float", _Loader.construct_number)


def _check_tag(event: yaml.Event) -> None:
    tag = getattr(event, "tag", None)
    if tag is not None and tag not in _HARMLESS:
        raise _refused(f"the tag {tag[:60]!r}", event.start_mark)


def _sources(merge: yaml.Node) -> list[yaml.MappingNode]:
    """The mappings that are merged, the one that counts most at the end."""
    found: list[yaml.MappingNode] = []
    for one in reversed(merge.value) if isinstance(merge, yaml.SequenceNode) else [merge]:
        if not isinstance(one, yaml.MappingNode):
            raise _refused("what is merged by << must be a mapping", one.start_mark)
        found.append(one)
    return found


def _refused(why: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, why, mark)


def _identity(key: yaml.Node) -> tuple[str, Any]:
    return (key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key))
