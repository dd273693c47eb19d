"""What is measured, how, and what is known about it beforehand. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from marserve.bench.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Input:
    """One body that is sent."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured, and where."""

    model: str
    version: str | None
    inference: Endpoint
    metrics: Endpoint | None = None
    management: Endpoint | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        """The model, with the version if one is asked for."""
        return f"{self.model} {self.version}" if self.version else self.model


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is measured."""

    seconds: float
    warm_up_s: float
    timeout_s: float
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What can be known before the first point."""

    batch_size: int | None
    """How many requests a batch may have; None: the management port does not say."""
    has_metrics: bool
    notes: tuple[str, ...]
    """Why something will be missing."""
