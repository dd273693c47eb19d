"""What a scenario found: one property, how often it was tried, and whether its bar was met.

"None in N" is a figure only with its N: no failure in N independent trials says, at 95 %, that the
true rate is below 3/N (the rule of three). `proves` spells that out. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """One property after `n` trials."""

    property: str
    """What was tried, in words, unique among all outcomes: "worker kills: lost answers"."""
    n: int
    """How many trials were really made, not how many were planned."""
    bar: str
    """What must hold: "0", "≥ 99.99 %", "≤ 50 ms"."""
    figure: str
    """What was measured, written as the bar is."""
    passed: bool
    notes: str = ""
    """What a reader must know to judge the figure; rows of the failure catalogue (F01) go here."""
    failures: int | None = None
    """Trials that failed, where the bar is a count of them; None: the bar is something else."""
    unit: str = "trial"
    """What a trial is, in the singular: "kill"."""
    series: Mapping[str, Sequence[float]] | None = None
    """Columns for a plot: the first is across (`t_s`, or what its name says), the others up."""

    @property
    def proves(self) -> str:
        """What no failure in `n` trials proves at 95 %; empty where there is nothing to say."""
        if self.failures != 0 or self.n < 3:
            return ""
        return f"< {_short(3 / self.n)} per {self.unit}"


def as_outcomes(found: object) -> list[Outcome]:
    """What a scenario returned: an outcome, a mapping with an outcome's fields, or several.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(found, Outcome):
        return [found]
    if isinstance(found, Mapping):
        return [_from_mapping(found)]
    if isinstance(found, Iterable) and not isinstance(found, str | bytes):
        return [one for each in found for one in as_outcomes(each)]
    raise TypeError(f"A scenario returns outcomes, not {type(found).__name__}.")


def _from_mapping(found: Mapping[Any, Any]) -> Outcome:
    known = {field.name for field in fields(Outcome)}
    strange = sorted(set(map(str, found)) - known - {"proves"})
    if strange:
        raise TypeError(f"An outcome has no {', '.join(strange)}.")
    return Outcome(**{name: value for name, value in found.items() if name in known})


def _short(rate: float) -> str:
    """0.3 %, 0.006 %; below a thousandth of a percent, 3e-06."""
    percent = rate * 100
    return f"{percent:.2g} %" if percent >= 0.001 else f"{rate:.1g}"
