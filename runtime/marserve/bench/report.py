"""Points as people read them: the table row by row, where the time went, and what to beware of.

Pure; colours are click's, and go away where there is no terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from marserve.bench.plan import Facts
from marserve.bench.point import Point

BUSY_SHARE = 0.8
"""A process on one core that uses this much of it is close to its end."""
_FOREIGN_SHARE = 1.05
_MISSED_SHARE = 0.98
_BAR_CELLS = 40
_PARTS = {
    "connection": ("·", "bright_black"),
    "wire": ("░", "cyan"),
    "queue": ("▒", "yellow"),
    "linger": ("▪", "bright_yellow"),
    "batch": ("▓", "magenta"),
    "handler": ("█", "green"),
}


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    width: int


_FIRST = (
    *(_Column("CONNECTIONS", 11), _Column("ANSWERS/S", 9), _Column("MEAN MS", 7)),
    *(_Column("P50", 6), _Column("P90", 6), _Column("P99", 6), _Column("MAX", 6)),
)
_BATCH, _FILL = _Column("BATCH", 5), _Column("FILL", 4)
_SERVER, _OWN = _Column("SERVER CPU", 10), _Column("CLIENT CPU", 10)
_FAILED = _Column("FAILED", 6)


class Table:
    """The table; its columns are fixed before the first row, so rows can be shown as they come."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        batches = (_BATCH, _FILL) if facts.batch_size else (_BATCH,)
        server = (*batches, _SERVER) if facts.has_metrics else ()
        self._columns = (*_FIRST, *server, _OWN, _FAILED)

    def head(self) -> str:
        """The titles."""
        return click.style(self._line([column.title for column in self._columns]), bold=True)

    def row(self, point: Point) -> str:
        """One point; what is not known is a dash."""
        cells = [f"{point.connections:,}", _per_s(point.per_s)]
        cells += [ms(seconds) if point.succeeded else "-" for seconds in point.latency_s.values()]
        if self._facts.has_metrics:
            cells += self._server_cells(point)
        cells += [f"{point.generator_share:.0%}", f"{point.failed:,}"]
        line = self._line(cells)
        return click.style(line, fg="red") if point.failed else line

    def _server_cells(self, point: Point) -> list[str]:
        server, limit = point.server, self._facts.batch_size
        if server is None or not server.batch_size:
            return ["-"] * (3 if limit else 2)
        fill = [f"{server.batch_size / limit:.0%}"] if limit else []
        return [f"{server.batch_size:.1f}", *fill, f"{server.cpu_share:.0%}"]

    def _line(self, cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(column.width) for cell, column in zip(cells, self._columns, strict=True)
        )


def ms(seconds: float) -> str:
    """Milliseconds with three digits that count."""
    value = seconds * 1000
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _per_s(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def bars(points: Sequence[Point]) -> str:
    """Where the mean latency went, one bar per point; "" if no server said so."""
    rows = [
        (point, point.server.spent.parts())
        for point in points
        if point.server is not None and point.server.spent is not None
    ]
    if not rows:
        return ""
    used = [name for name in _PARTS if any(name in parts for _, parts in rows)]
    lines = [click.style("WHERE THE MEAN LATENCY GOES, MS", bold=True)]
    lines.append(" " * 13 + "  ".join(_swatch(name) + " " + name for name in used))
    for point, parts in rows:
        figures = "  ".join(f"{name} {ms(parts[name])}" for name in used if name in parts)
        lines.append(f"{point.connections:>11}  {_bar(parts)}  {figures}")
    return "\n".join(lines)


def cells(parts: Sequence[float], room: int) -> list[int]:
    """How many of `room` cells each part gets; they add up, and the largest remainders win."""
    total = sum(parts)
    if total <= 0:
        return [0] * len(parts)
    exact = [part * room / total for part in parts]
    given = [int(one) for one in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: given[i] - exact[i])
    for index in by_remainder[: room - sum(given)]:
        given[index] += 1
    return given


def _bar(parts: dict[str, float]) -> str:
    widths = cells(list(parts.values()), _BAR_CELLS)
    return "".join(
        click.style(_PARTS[name][0] * width, fg=_PARTS[name][1])
        for name, width in zip(parts, widths, strict=True)
    )


def _swatch(name: str) -> str:
    glyph, colour = _PARTS[name]
    return click.style(glyph * 2, fg=colour)


def remarks(points: Sequence[Point], facts: Facts) -> list[str]:
    """Sentences: what failed, what is missing, and where the figures mean less than they seem."""
    found = [
        f"{_at(point)}: {failure.count:,} failed with {failure.kind}"
        + (f" ({failure.message})" if failure.message else "")
        for point in points
        for failure in point.failures
    ]
    found += facts.notes
    for point in points:
        found += _doubts(point)
    return found


def cause(points: Sequence[Point]) -> str:
    """Why most requests failed, in the words of the first of them."""
    failures = [failure for point in points for failure in point.failures]
    if not failures:
        return "nothing was answered in time"
    worst = max(failures, key=lambda failure: failure.count)
    return f"{worst.kind} ({worst.message})" if worst.message else worst.kind


def _doubts(point: Point) -> list[str]:
    doubts: list[str] = []
    if point.is_cut:
        doubts.append(f"{_at(point)}: interrupted after {point.window_s:.1f} s.")
    if not point.succeeded and not point.failures:
        doubts.append(
            f"{_at(point)}: nothing was answered within {point.window_s:g} s; give --seconds more."
        )
    if point.generator_share > BUSY_SHARE:
        doubts.append(
            f"{_at(point)}: the load generator used {point.generator_share:.0%} of a core, all "
            "that one process can have: the server may be capable of more than this."
        )
    if point.rate and point.per_s < point.rate * _MISSED_SHARE:
        doubts.append(
            f"{_at(point)}: {point.rate:,g}/s were planned and {point.per_s:,.0f}/s answered: what "
            "is not kept up with piles up, and latencies grow as long as it is measured."
        )
    seen = point.succeeded + point.failed
    # the server was asked a little before and after the window
    if point.server is not None and point.server.answers > _FOREIGN_SHARE * seen + _slack(point):
        doubts.append(
            f"{_at(point)}: the server answered {point.server.answers:,.0f} requests for this "
            f"model, {seen:,} of them from here: its figures include those of others."
        )
    return doubts


def _slack(point: Point) -> float:
    return 2 * point.connections + 0.2 * point.per_s


def size(size_bytes: int) -> str:
    """36 B, 1.2 KiB, 5.0 MiB."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    if size_bytes < 1 << 20:
        return f"{size_bytes / 1024:.1f} KiB"
    return f"{size_bytes / (1 << 20):.1f} MiB"


def connections(count: int) -> str:
    """1 connection, 2 connections."""
    return "1 connection" if count == 1 else f"{count:,} connections"


def _at(point: Point) -> str:
    return connections(point.connections)
