"""The plot: throughput and latency over connections, and where the time went. Pure; text out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from marserve.bench.axis import Axis, from_zero, spread
from marserve.bench.point import Point
from marserve.bench.svg import FAINT, GRID, INK, Drawing

_HEIGHT = 430.0
_PANEL_WIDTH = 400.0
_TOP = 74.0
_COLOURS = {"throughput": "#1f6feb", "p50": "#0b8a6f", "p99": "#d9480f"}
_PART_COLOURS = {
    "connection": "#adb5bd",
    "wire": "#4dabf7",
    "queue": "#fcc419",
    "linger": "#ffe8a1",
    "batch": "#b197fc",
    "handler": "#37b24d",
}


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values are drawn: a rectangle in pixels, and one slot per point on its x axis."""

    left: float
    top: float
    width: float
    height: float
    slots: int

    def x(self, index: int) -> float:
        return self.left + self.width * (index + 0.5) / self.slots

    def y(self, share: float) -> float:
        return self.top + self.height * (1 - share)


def plot(title: str, subtitle: str, points: Sequence[Point]) -> str:
    """An SVG file. Without figures of the server it has the left half alone."""
    spent = [
        point.server.spent.parts() if point.server and point.server.spent else {}
        for point in points
    ]
    is_wide = any(spent)
    drawing = Drawing(_PANEL_WIDTH * (2 if is_wide else 1) + 60, _HEIGHT, title)
    drawing.words((24, 30), title, size=17, is_bold=True)
    drawing.words((24, 50), subtitle, size=12, colour=FAINT)
    upper = _Frame(72, _TOP + 26, _PANEL_WIDTH - 84, 118, len(points))
    lower = _Frame(72, _TOP + 186, _PANEL_WIDTH - 84, 118, len(points))
    _curves(
        drawing,
        upper,
        "Answers per second",
        from_zero([point.per_s for point in points], 3),
        {"throughput": [point.per_s for point in points]},
        lambda value: f"{value:,.0f}" if value >= 10 else f"{value:g}",
    )
    latencies = {
        name: [point.latency_s[name] * 1000 for point in points] for name in ("p50", "p99")
    }
    axis = spread([value for values in latencies.values() for value in values])
    note = ", logarithmic" if axis.is_log else ""
    _curves(drawing, lower, f"Latency, ms{note}", axis, latencies, lambda value: f"{value:,g}")
    _slot_names(drawing, lower, points)
    if is_wide:
        right = _Frame(_PANEL_WIDTH + 72, _TOP + 26, _PANEL_WIDTH - 84, 278, len(points))
        _stacks(drawing, right, points, spent)
    return drawing.text


def _curves(
    drawing: Drawing,
    frame: _Frame,
    title: str,
    axis: Axis,
    curves: Mapping[str, Sequence[float]],
    shown: Callable[[float], str],
) -> None:
    drawing.words((frame.left, frame.top - 12), title, size=12.5, is_bold=True)
    for tick in axis.ticks:
        y = frame.y(axis.share(tick))
        drawing.line([(frame.left, y), (frame.left + frame.width, y)])
        drawing.words((frame.left - 8, y + 4), shown(tick), size=11, anchor="end", colour=FAINT)
    for name, values in curves.items():
        places = [(frame.x(i), frame.y(axis.share(value))) for i, value in enumerate(values)]
        drawing.line(places, _COLOURS[name], width=2.25)
        for place in places:
            drawing.mark(place, _COLOURS[name])
    if len(curves) > 1:
        _legend(drawing, frame, -12, {name: _COLOURS[name] for name in curves})


def _stacks(
    drawing: Drawing, frame: _Frame, points: Sequence[Point], spent: Sequence[Mapping[str, float]]
) -> None:
    drawing.words((frame.left, frame.top - 12), "Where the time goes", size=12.5, is_bold=True)
    width = min(56.0, frame.width / frame.slots * 0.62)
    used = [name for name in _PART_COLOURS if any(name in parts for parts in spent)]
    _legend(drawing, frame, 10, {name: _PART_COLOURS[name] for name in used})
    inner = _Frame(frame.left, frame.top + 42, frame.width, frame.height - 42, frame.slots)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = inner.y(share)
        drawing.line([(inner.left, y), (inner.left + inner.width, y)])
        drawing.words((inner.left - 8, y + 4), f"{share:.0%}", size=11, anchor="end", colour=FAINT)
    for index, parts in enumerate(spent):
        total = sum(parts.values())
        if not total:
            continue
        below, left = 0.0, inner.x(index) - width / 2
        for name in reversed(used):  # the handler at the bottom, the way there above it
            share = parts.get(name, 0.0) / total
            top = inner.y(below + share)
            hint = f"{name}: {parts.get(name, 0.0) * 1000:.3g} ms"
            drawing.box((left, top), width, inner.y(below) - top, _PART_COLOURS[name], hint)
            below += share
        drawing.words(
            (inner.x(index), inner.y(1) - 6),
            f"{total * 1000:.3g} ms",
            size=11,
            anchor="middle",
            colour=INK,
        )
    _slot_names(drawing, inner, points)


def _slot_names(drawing: Drawing, frame: _Frame, points: Sequence[Point]) -> None:
    base = frame.y(0)
    drawing.line([(frame.left, base), (frame.left + frame.width, base)], GRID)
    for index, point in enumerate(points):
        drawing.words(
            (frame.x(index), base + 17),
            f"{point.connections:,}",
            size=11,
            anchor="middle",
            colour=FAINT,
        )
    middle = frame.left + frame.width / 2
    drawing.words((middle, base + 36), "connections", size=11.5, anchor="middle", colour=FAINT)


def _legend(drawing: Drawing, frame: _Frame, below: float, colours: Mapping[str, str]) -> None:
    """At the right edge, its baseline `below` the frame's upper edge; read from left to right."""
    right, base = frame.left + frame.width, frame.top + below
    for name, colour in reversed(list(colours.items())):
        right -= 6.6 * len(name)
        drawing.words((right, base), name, size=11, colour=FAINT)
        right -= 14
        drawing.box((right, base - 9), 10, 10, colour)
        right -= 10
