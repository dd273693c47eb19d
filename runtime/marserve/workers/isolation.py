"""A batch failed as a whole: which of its rows are to blame? Pure.

The handler is run again over parts of the batch, so that only the senders of bad rows get errors.
Halves are tried, then halves of the failing half, and so on: one bad row among n costs about
2·log2(n) runs. Where both halves fail the cause may be in every row, so each row of them runs
alone, and a batch that is all bad costs hardly more runs than it has rows. A batch that was too
large for the memory is halved until it is not. Rows that may run only once get its error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple, TypeAlias

from marserve.workers.outcomes import ItemAnswer


class Failed(NamedTuple):
    """A run that failed as a whole."""

    answer: ItemAnswer
    """What that means for a row, if it is to blame."""
    is_too_large: bool = False
    """Memory ran out: fewer rows may do."""
    is_final: bool = False
    """It must not be tried again."""


Run: TypeAlias = Callable[[int, int], "list[ItemAnswer] | Failed"]
"""Runs the handler over the rows from `start` up to and without `stop`."""


def answers(
    size: int, run: Run, run_once: Callable[[], Collection[int]] = frozenset
) -> list[ItemAnswer]:
    """One answer for each of `size` rows, all of which have not been run yet.

    `run_once` says which of them must not be run again; asked only where that matters.
    """
    tried = run(0, size)
    if isinstance(tried, Failed) and not tried.is_final and size > 1:
        once = run_once()
        if once:
            return _without(once, size, tried, run)
    return _settled(0, size, tried, run)


def _without(once: Collection[int], size: int, tried: Failed, run: Run) -> list[ItemAnswer]:
    """The other rows run alone: parts of the batch would have gaps."""
    found: list[ItemAnswer] = []
    for row in range(size):
        if row in once:
            found.append(tried.answer)
        else:
            found += _settled(row, row + 1, run(row, row + 1), run)
    return found


def _settled(start: int, stop: int, tried: list[ItemAnswer] | Failed, run: Run) -> list[ItemAnswer]:
    if not isinstance(tried, Failed):
        return tried
    if stop - start == 1 or tried.is_final:
        return [tried.answer] * (stop - start)
    middle = (start + stop) // 2
    first, second = run(start, middle), run(middle, stop)
    if _is_blame_everywhere(first) and _is_blame_everywhere(second):
        return _one_by_one(start, middle, first, run) + _one_by_one(middle, stop, second, run)
    return _settled(start, middle, first, run) + _settled(middle, stop, second, run)


def _one_by_one(
    start: int, stop: int, tried: list[ItemAnswer] | Failed, run: Run
) -> list[ItemAnswer]:
    if stop - start == 1:
        return _settled(start, stop, tried, run)
    found: list[ItemAnswer] = []
    for row in range(start, stop):
        found += _settled(row, row + 1, run(row, row + 1), run)
    return found


def _is_blame_everywhere(tried: list[ItemAnswer] | Failed) -> bool:
    return isinstance(tried, Failed) and not tried.is_too_large and not tried.is_final
