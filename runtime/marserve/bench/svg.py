"""A drawing in SVG: lines, boxes, marks and words at places in pixels. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

_FONT = "Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
INK = "#1f2933"
FAINT = "#616e7c"
GRID = "#e4e7eb"

Place = tuple[float, float]


class Drawing:
    """Grows by calls; `text` is the file. The origin is the upper left corner."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self._pieces = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
            f'viewBox="0 0 {width:g} {height:g}" role="img" font-family={quoteattr(_FONT)}>',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
        ]

    def words(
        self,
        at: Place,
        text: str,
        *,
        size: float = 12,
        anchor: str = "start",
        colour: str = INK,
        is_bold: bool = False,
    ) -> None:
        """A line of text on the baseline `at`; `anchor` is start, middle or end."""
        weight = ' font-weight="600"' if is_bold else ""
        self._pieces.append(
            f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
            f'fill="{colour}"{weight}>{escape(text)}</text>'
        )

    def line(self, places: Sequence[Place], colour: str = GRID, *, width: float = 1) -> None:
        """A line through all places."""
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        self._pieces.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )

    def mark(self, at: Place, colour: str) -> None:
        """A dot with a white rim."""
        self._pieces.append(
            f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="4" fill="{colour}" stroke="#ffffff" '
            'stroke-width="1.5"/>'
        )

    def box(self, at: Place, width: float, height: float, colour: str, hint: str = "") -> None:
        """A filled rectangle; `hint` shows where a pointer rests on it."""
        inside = f"<title>{escape(hint)}</title>" if hint else ""
        self._pieces.append(
            f'<rect x="{at[0]:.1f}" y="{at[1]:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{colour}">{inside}</rect>'
        )

    @property
    def text(self) -> str:
        """The file so far, as a whole."""
        return "\n".join([*self._pieces, "</svg>", ""])
