"""What is said of one key of config.properties. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

from marserve.config_values import ValueType


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of config.properties."""

    key: str
    type: ValueType
    default: str
    """As it would stand in the file; empty means not set."""
    why: str
    field: str
    """The field of `Config` that gets the value."""
    unit: str = ""
    example: str = ""
    """Shown when there is no default to show."""
    default_note: str = ""
    """Says what holds when the default is empty."""
    file_only: bool = False
    """TS_<KEY> does not set it."""
