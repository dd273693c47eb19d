"""How much the outputs of two models differ, and whether that is too much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

_MATRIX = 2
"""The dimensions of a classifier's output: rows and classes."""


class NotComparable(ValueError):
    """Outputs hold no numbers, or not the same ones."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Between the outputs of two models for the same sample."""

    relative: float
    """The largest difference, divided by the largest value of the first output; of the tensor
    where that is most. Infinite where one is not a number and the other is."""
    absolute: float
    """The largest difference."""
    agreement: float | None
    """The share of rows for which both have the largest value at the same place; None: the
    output is not one row of values per row."""

    def complaint(self, tolerance: float, least_agreement: float) -> str | None:
        """Why it is too large; None: it is not."""
        if not self.relative <= tolerance:
            return f"its outputs differ by {self.relative:.3g}, more than tolerance {tolerance:g}"
        if self.agreement is not None and self.agreement < least_agreement:
            return (
                f"only {self.agreement:.0%} of the rows have the same likeliest class, less than "
                f"agreement {least_agreement:.0%}"
            )
        return None


def difference(plain: Any, other: Any) -> Difference:
    """Between two outputs: tensors, or lists, tuples and maps of them.

    Raises:
        NotComparable: there are no tensors, or other ones, or of another shape.
    """
    ours, theirs = list(_tensors(plain)), list(_tensors(other))
    if not ours:
        raise NotComparable("the model's output holds no tensor")
    if [one.shape for one in ours] != [one.shape for one in theirs]:
        raise NotComparable(
            f"the output has the shapes {_shapes(theirs)} instead of {_shapes(ours)}"
        )
    found = [_between(one, two) for one, two in zip(ours, theirs, strict=True)]
    agreements = [one.agreement for one in found if one.agreement is not None]
    return Difference(
        max(one.relative for one in found),
        max(one.absolute for one in found),
        min(agreements, default=None),
    )


def _between(plain: torch.Tensor, other: torch.Tensor) -> Difference:
    one, two = plain.detach().to("cpu", torch.float64), other.detach().to("cpu", torch.float64)
    if one.numel() == 0:
        return Difference(0.0, 0.0, None)
    # the same infinity, or no number in both, is the same
    apart = torch.where((one == two) | (one.isnan() & two.isnan()), 0.0, (one - two).abs())
    absolute = float(apart.nan_to_num(nan=torch.inf, posinf=torch.inf).max())
    largest = float(one.abs().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).max())
    relative = 0.0 if absolute == 0 else absolute / largest if largest > 0 else torch.inf
    agreement = None
    if plain.is_floating_point() and one.dim() == _MATRIX and one.shape[1] > 1:
        agreement = float((one.argmax(dim=1) == two.argmax(dim=1)).double().mean())
    return Difference(relative, absolute, agreement)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for key in value:
            yield from _tensors(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _shapes(tensors: list[torch.Tensor]) -> str:
    return ", ".join(str(tuple(one.shape)) for one in tensors)
