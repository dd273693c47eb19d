"""What an archive's `model-config.yaml` says about serving it. Pure.

Only the keys that this server acts on are read here; the handler gets the whole document. A value
of the wrong type is ignored with a warning, as archives made for TorchServe rely on.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, fields
from typing import Any

import yaml

MAX_BYTES = 1 << 20

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
_MOST = 2**31 - 1
_LEAST = {
    "minWorkers": 1,
    "maxWorkers": 1,
    "batchSize": 1,
    "maxBatchDelay": 0,
    "responseTimeout": 1,
    "startupTimeout": 1,
    "jobQueueSize": 1,
}
_FIELDS = {
    "minWorkers": "min_workers",
    "maxWorkers": "max_workers",
    "batchSize": "batch_size",
    "maxBatchDelay": "max_batch_delay_ms",
    "responseTimeout": "response_timeout_s",
    "startupTimeout": "startup_timeout_s",
    "jobQueueSize": "queue_size",
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """None: the document does not say."""

    min_workers: int | None = None
    max_workers: int | None = None
    batch_size: int | None = None
    max_batch_delay_ms: int | None = None
    response_timeout_s: int | None = None
    startup_timeout_s: int | None = None
    queue_size: int | None = None


class _Loader(yaml.SafeLoader):
    """A SafeLoader in which merges of merges (`<<: [*a, *a]`) do not multiply without end."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        last_of_each = {_identity(pair[0]): pair for pair in node.value}
        node.value = list(last_of_each.values())


def parse(text: bytes) -> tuple[ModelConfig, tuple[str, ...]]:
    """The settings in a YAML document, and a warning for everything that was ignored."""
    try:
        document = yaml.load(text, _Loader)  # noqa: S506  it is a SafeLoader
    except _UNREADABLE as error:
        return ModelConfig(), (f"it is not valid YAML: {_one_line(error)}",)
    if document is None:
        return ModelConfig(), ()
    if not isinstance(document, dict):
        return ModelConfig(), ("it does not hold settings by name",)
    taken: dict[str, int] = {}
    warnings = []
    for key, least in _LEAST.items():
        value: Any = document.get(key)
        if value is None:
            continue
        if type(value) is not int or not least <= value <= _MOST:
            warnings.append(
                f"{key} is {_shown(value)}, not a whole number from {least} to {_MOST}; ignored"
            )
        else:
            taken[_FIELDS[key]] = value
    config = ModelConfig(**taken)
    if (
        config.min_workers is not None
        and config.max_workers is not None
        and config.max_workers < config.min_workers
    ):
        warnings.append("maxWorkers is less than minWorkers; both are ignored")
        kept = {f.name: getattr(config, f.name) for f in fields(config) if "workers" not in f.name}
        config = ModelConfig(**kept)
    return config, tuple(warnings)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _identity(key: yaml.Node) -> tuple[str, str | int]:
    return (key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key))


def _shown(value: Any) -> str:
    """The beginning of a value: aliases of aliases make a short document print without end."""
    if isinstance(value, int) and abs(value) > _MOST:
        return "a number of many digits"
    return reprlib.repr(value)[:80]
