"""Keeps what chaos runs found: `results/reliability.json`, a table in `.md`, a drawing in `.svg`.

Runs may be partial: what a scenario found replaces what it had found before, all else stays.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from marserve import __version__
from marserve.bench.axis import Axis, from_zero
from marserve.bench.svg import FAINT, GRID, Drawing

RESULTS = Path(__file__).parent / "results"
DOCUMENT = RESULTS / "reliability.json"
_TITLE = "Reliability: what was tried, how often, and what came of it"
_COLOURS = ("#1f6feb", "#d9480f", "#0b8a6f")
_PANEL = (640.0, 110.0)
_LEFT = 70.0
Entry = dict[str, Any]


def merge(scenario: str, found: Sequence[Mapping[str, Any]], seed: int) -> None:
    """Put the outcomes of one scenario in the place of its earlier ones, and write all files."""
    stamp = {
        "scenario": scenario,
        "date": str(date.today()),
        "seed": seed,
        "version": __version__,
        "machine": _machine(),
    }
    entries = [entry for entry in _kept() if entry["scenario"] != scenario]
    entries += [stamp | dict(one) for one in found]
    entries.sort(key=lambda entry: entry["scenario"])
    RESULTS.mkdir(exist_ok=True)
    drawn = [entry for entry in entries if entry.get("series")]
    DOCUMENT.write_text(
        json.dumps({"title": _TITLE, "outcomes": entries}, indent=1, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    (RESULTS / "reliability.md").write_text(markdown(entries, bool(drawn)), encoding="utf-8")
    if drawn:
        (RESULTS / "reliability.svg").write_text(drawing(drawn), encoding="utf-8")


def _kept() -> list[Entry]:
    if not DOCUMENT.exists():
        return []
    entries: list[Entry] = json.loads(DOCUMENT.read_text(encoding="utf-8"))["outcomes"]
    return entries


def markdown(entries: Sequence[Entry], has_drawing: bool) -> str:
    """The page."""
    met = sum(_mark(entry) == "met" for entry in entries)
    text = [
        f"# {_TITLE}",
        "",
        f"{met} of {len(entries)} bars are met. N is how often it was really tried. None in N "
        "proves, at 95 %, a true rate below 3/N: that is the column *proves*. "
        "[How to run and read this](../../docs/reliability.md).",
        "",
    ]
    missed = [entry for entry in entries if not entry["passed"]]
    if missed:
        text += ["## Bars that are missed", "", *_table(missed), ""]
    text += ["## All properties", "", *_table(entries), ""]
    if has_drawing:
        text += ["## Over time", "", "![answers and latencies over time](reliability.svg)", ""]
    text += ["## Notes", ""]
    text += [f"- *{entry['property']}*: {entry['notes']}" for entry in entries if entry["notes"]]
    machines = sorted({entry["machine"] for entry in entries})
    text += ["", "## Machines", "", *(f"- {machine}" for machine in machines), ""]
    return "\n".join(text).rstrip() + "\n"


def _table(entries: Sequence[Entry]) -> list[str]:
    lines = [
        "| | property | bar | figure | N | proves | version, date |",
        "| --- | --- | --- | --- | ---: | --- | --- |",
    ]
    for entry in entries:
        cells = (
            *(_mark(entry), entry["property"], entry["bar"], entry["figure"], f"{entry['n']:,}"),
            *(entry["proves"], f"{entry['version']}, {entry['date']}"),
        )
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return lines


def _mark(entry: Entry) -> str:
    """Nothing is met by not having been tried."""
    if not entry["passed"]:
        return "**missed**"
    return "met" if entry["n"] else "not tried"


def drawing(entries: Sequence[Entry]) -> str:
    """One panel for each column of each series, below each other."""
    panels = [
        (entry, name, values)
        for entry in entries
        for name, values in entry["series"].items()
        if name != next(iter(entry["series"])) and values
    ]
    step = _PANEL[1] + 70
    picture = Drawing(_LEFT + _PANEL[0] + 30, 20 + step * len(panels), _TITLE)
    for index, (entry, name, values) in enumerate(panels):
        top = 50 + step * index
        x_name, xs = next(iter(entry["series"].items()))
        across, over = ("s", "") if x_name == "t_s" else (x_name, f", by {x_name}")
        picture.words((24, top - 22), entry["property"], size=13, is_bold=True)
        picture.words(
            (24, top - 6),
            f"{name}{over}; N = {entry['n']:,} {entry.get('unit', 'trial')}s",
            size=11,
            colour=FAINT,
        )
        _curve(picture, top + 6, (across, xs), values, _COLOURS[index % len(_COLOURS)])
    return picture.text


def _curve(
    picture: Drawing,
    top: float,
    x: tuple[str, Sequence[float]],
    values: Sequence[float],
    colour: str,
) -> None:
    width, height = _PANEL
    unit, xs = x
    across, up = from_zero(list(xs), 8), from_zero(list(values), 3)

    def place(x: float, value: float) -> tuple[float, float]:
        return _LEFT + width * across.share(x), top + height * (1 - up.share(value))

    _grid(picture, across, up, place, top, unit)
    picture.line([place(t, v) for t, v in zip(xs, values, strict=True)], colour, width=1.8)


def _grid(picture: Drawing, across: Axis, up: Axis, place: Any, top: float, unit: str) -> None:
    for value in up.ticks:
        picture.line([place(0, value), place(across.high, value)], GRID)
        x, y = place(0, value)
        picture.words((x - 8, y + 4), f"{value:,g}", size=11, anchor="end", colour=FAINT)
    for value in across.ticks:
        x, _ = place(value, 0)
        label = f"{value:,g} s" if unit == "s" else f"{value:,g}"
        picture.words((x, top + _PANEL[1] + 16), label, size=11, anchor="middle", colour=FAINT)


def _machine() -> str:
    """What it ran on, in a line."""
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cpu}, {cores} cores, {memory:.1f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )
