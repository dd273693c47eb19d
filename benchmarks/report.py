"""How every benchmark keeps what it found: raw data, a table and a plot, in `benchmarks/results/`.

    raw = {"seconds": 5, "runs": [...]}
    figure, axes = plot(columns=2)
    axes[0].plot(x, y, label="MarServe", color=colour(0))
    save("overhead", "Overhead: a constant answer", raw, table + verdict, figure)

writes `overhead.json` (title, date, machine, versions, data), `overhead.md` and `overhead.svg`.
Needs matplotlib. Figures from different machines are not comparable; ratios inside one file are.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
WIDTH = 100
COLOURS = (
    "#d1495b",
    "#2e4057",
    "#66a182",
    "#edae49",
    "#8d6a9f",
    "#00798c",
    "#9c6644",
    "#8a8a8a",
    "#111111",
)
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelcolor": "#333333",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    # the same figures give the same file: identifiers are salted, not random
    "svg.hashsalt": "marserve",
    "svg.fonttype": "none",
}

matplotlib.use("Agg")
matplotlib.rcParams.update(STYLE)


def machine(packages: Iterable[str] = ()) -> dict[str, Any]:
    """What the figures were taken on.

    Args:
        packages: distributions whose versions matter here; absent ones are left out.

    Returns:
        `cpu` (model name), `cores` (that this process may use), `memory_gib`, `kernel`, `arch`,
        `python` and `versions` (distribution → version, `marserve` always among them).
    """
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "versions": _versions(["marserve", *packages]),
    }


def save(
    name: str,
    title: str,
    raw: Mapping[str, Any],
    markdown: str,
    figure: Figure,
    packages: Iterable[str] = (),
) -> None:
    """Keep one result as `results/NAME.json`, `NAME.md` and `NAME.svg`; print the table.

    Args:
        name: of the files, without suffix.
        title: the headline of the table.
        raw: every single measurement, JSON-serialisable.
        markdown: table and verdict lines, without headline and date.
        figure: the plot.
        packages: distributions of this interpreter whose versions matter.
    """
    RESULTS.mkdir(exist_ok=True)
    here = machine(packages)
    today = str(date.today())
    document = {"title": title, "date": today, "machine": here, "data": raw}
    (RESULTS / f"{name}.json").write_text(pretty(document) + "\n", encoding="utf-8")
    text = f"# {title}\n\n{today}. {machine_line(here)}\n\n{markdown.strip()}\n\n"
    text += f"![{title}]({name}.svg)\n"
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
    print(text, flush=True)


def machine_line(here: Mapping[str, Any]) -> str:
    """The machine in one sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    return (
        f"{here['cpu']}, {here['cores']} cores, {here['memory_gib']:g} GiB, "
        f"Linux {here['kernel']}, Python {here['python']}, {versions}."
    )


def plot(columns: int = 1, rows: int = 1, height: float = 3.6) -> tuple[Figure, Sequence[Axes]]:
    """A figure in the common style, and its axes from left to right, top to bottom.

    Args:
        columns: plots beside each other.
        rows: plots below each other.
        height: of one row, in inches.
    """
    figure = Figure(figsize=(max(6.4, 4.8 * columns), height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def colour(place: int) -> str:
    """A colour for the n-th contender. 0 is ours."""
    return COLOURS[place % len(COLOURS)]


def pretty(value: Any, indent: int = 0) -> str:
    """JSON for people and small diffs: what fits on a line stays on it."""
    flat = json.dumps(value, ensure_ascii=False)
    is_long = len(flat) + indent > WIDTH and isinstance(value, dict | list | tuple)
    if not is_long or not any(isinstance(part, dict | list | tuple) for part in _parts(value)):
        return flat
    deeper = indent + 1
    if isinstance(value, dict):
        parts = [f"{json.dumps(str(key))}: {pretty(v, deeper)}" for key, v in value.items()]
        opening, closing = "{}"
    else:
        parts = [pretty(v, deeper) for v in value]
        opening, closing = "[]"
    inner = (",\n" + " " * deeper).join(parts)
    return f"{opening}\n{' ' * deeper}{inner}\n{' ' * indent}{closing}"


def _parts(value: Any) -> Iterable[Any]:
    # a mapping is broken into lines however plain its values are; figures in a row are not
    return [[]] if isinstance(value, dict) else value


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    print(pretty(machine()))
