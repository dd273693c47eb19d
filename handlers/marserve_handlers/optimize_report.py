"""What came of optimising a model: for its log, its description, and the next worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from marserve_handlers.optimize_settings import KEY, PLAIN, Change


@dataclass(frozen=True, slots=True)
class Trial:
    """One change, measured against the plain model in the same moments."""

    plain_ms: float
    changed_ms: float
    """For the same rows."""
    rows: int
    relative_error: float
    agreement: float | None

    @property
    def gain(self) -> float:
        """How many times as fast as the plain model it is."""
        return self.plain_ms / self.changed_ms


@dataclass(frozen=True, slots=True)
class Report:
    """What was chosen and why.

    Attributes:
        chosen: the change that is in force.
        trial: how it did; None: it was not compared, or nothing was changed.
        refused: what was not taken, and why; by the change's name.
        is_remembered: whether an earlier worker found it.
    """

    chosen: Change = PLAIN
    trial: Trial | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    is_remembered: bool = False

    @property
    def is_faster(self) -> bool:
        """Whether it is not known to be slower than the plain model."""
        return self.trial is None or self.trial.gain >= 1

    def sentence(self) -> str:
        """For the model's log."""
        parts = [f"{KEY}: {self._outcome()}"]
        parts += [f"{change} was not taken: {why}" for change, why in self.refused.items()]
        return "; ".join(parts)

    def facts(self) -> dict[str, Any]:
        """For the model's description: names and numbers."""
        found: dict[str, Any] = {"chosen": str(self.chosen)}
        if self.trial is not None:
            found |= {
                "gain": round(self.trial.gain, 2),
                "plain_ms": round(self.trial.plain_ms, 3),
                "optimized_ms": round(self.trial.changed_ms, 3),
                "rows": self.trial.rows,
                "relative_error": self.trial.relative_error,
                "agreement": self.trial.agreement,
            }
        return found | ({"refused": dict(self.refused)} if self.refused else {})

    def as_document(self) -> dict[str, Any]:
        """Everything, as JSON can hold it; `from_document` reads it."""
        return {
            "chosen": asdict(self.chosen),
            "trial": None if self.trial is None else asdict(self.trial),
            "refused": dict(self.refused),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Report:
        """What `as_document` wrote.

        Raises:
            KeyError, TypeError: it is something else.
        """
        trial = document["trial"]
        return cls(
            Change(**document["chosen"]),
            None if trial is None else Trial(**trial),
            {str(name): str(why) for name, why in dict(document["refused"]).items()},
            is_remembered=True,
        )

    def _outcome(self) -> str:
        if self.chosen.is_plain:
            return "the model is served as it is"
        if self.trial is None:
            return f"{self.chosen}, not compared with the plain model"
        trial = self.trial
        same = "" if trial.agreement is None else f", {trial.agreement:.0%} of rows agree"
        found = " (found by an earlier worker)" if self.is_remembered else ""
        return (
            f"{self.chosen} is {trial.gain:.2f} times as fast as the plain model "
            f"({trial.changed_ms:.1f} instead of {trial.plain_ms:.1f} ms for {trial.rows} rows), "
            f"relative error {trial.relative_error:.2g}{same}{found}"
        )
