"""How things look on a terminal: tables, colours of states, durations, a sign of life.

Says nothing by itself except `SignOfLife`, which writes to stderr while somebody waits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import click

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PATIENCE_S = 0.5
"""Short waits need no sign."""

_COLOURS = {"READY": "green", "FAILED": "red", "NO WORKERS": "bright_black"}


def coloured(state: str) -> str:
    """A state in its colour; yellow is for what is on its way."""
    return click.style(state, fg=_COLOURS.get(state, "yellow"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns under a head; cells may be coloured."""
    lines = [tuple(click.style(title, bold=True) for title in head), *rows]
    columns = zip(*lines, strict=True)
    widths = [max(len(click.unstyle(cell)) for cell in column) for column in columns]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell + " " * (width - len(click.unstyle(cell)))
        for cell, width in zip(cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()


def duration(seconds: float) -> str:
    """3 s, 5 min 3 s, 2 h 5 min, 4 d 2 h."""
    s = max(0, int(seconds))
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60} s"
    if s < 86400:
        return f"{s // 3600} h {s % 3600 // 60} min"
    return f"{s // 86400} d {s % 86400 // 3600} h"


def memory(size_bytes: int) -> str:
    """530 MiB; a dash for nothing measured."""
    return f"{size_bytes / 2**20:.0f} MiB" if size_bytes > 0 else "-"


class SignOfLife:
    """A spinner with the seconds on a terminal; a dot per second elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._stream = sys.stderr
        self._is_terminal = self._stream.isatty()
        self._shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._write("\r\x1b[K" if self._is_terminal else "\n")

    def waited(self, seconds: float) -> None:
        """Show that `seconds` have passed."""
        if seconds < _PATIENCE_S:
            return
        if self._is_terminal:
            self._shown += 1
            wheel = _SPINNER[self._shown % len(_SPINNER)]
            self._write(f"\r\x1b[K{wheel} {self._what} … {seconds:.0f} s")
        elif seconds >= self._shown:
            self._shown += 1  # before writing: an interrupt may come in between
            self._write("." if self._shown > 1 else f"{self._what} .")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
