"""Runs the scenarios of `reliability/` within a budget of time, and keeps what they found.

    scripts/chaos --tier 1                    about 8 minutes; 2: 90 minutes; 3: a release, 11 hours
    scripts/chaos --only kills,poison --minutes 5 --seed 7

Each scenario runs in a process of its own, one after the other, with its share of the time, which
decides how many trials it makes. What it found is merged into `results/reliability.json`, `.md`
and `.svg`. A scenario that cannot run is reported as failed. Ends with 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine_lock
import reliability_report

FOLDER = Path(__file__).parent / "reliability"
_ROOT = Path(__file__).parents[1]
sys.path.append(str(FOLDER))

from registry import START_S, Scenario, scenarios, shares  # noqa: E402

TIER_MINUTES = {1: 8.0, 2: 90.0, 3: 660.0}
_TAIL_LINES = 60
_MOST_LINES = 400
"""Of one scenario on the terminal: progress is a line every few seconds, not thousands."""
_SPARE_S = 120.0
"""How much longer than its share a scenario may take before it is ended."""


def main() -> None:
    """Read the command line, run, keep the results."""
    given = _arguments()
    known = scenarios()
    if given.list:
        for one in known:
            print(f"{one.name:<16} {one.release_s / 60:6.1f} min  {one.about}")
        return
    chosen = _chosen(known, given.only)
    minutes = given.minutes or TIER_MINUTES[given.tier]
    try:
        machine_lock.hold("scripts/chaos")
    except machine_lock.Busy as error:
        sys.exit(f"{error} Chaos would spoil it; wait for its end.")
    began = time.monotonic()
    budgets = shares(chosen, minutes * 60)
    _say(began, f"{len(chosen)} scenarios in about {minutes:g} minutes, seed {given.seed}")
    missed = 0
    for one in chosen:
        _say(began, f"{one.name}: {one.about}")
        found = run_scenario(one, budgets[one.name], given.seed, began, given.n)
        missed += sum(not outcome["passed"] for outcome in found)
        reliability_report.merge(one.name, found, given.seed)  # kept even if a later one hangs
    _say(began, f"{missed} bars missed" if missed else "all bars met")
    _say(began, f"kept in {reliability_report.DOCUMENT.parent}/reliability.md")
    sys.exit(missed > 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tier", type=int, choices=TIER_MINUTES, default=1)
    parser.add_argument("--minutes", type=float, help="instead of the tier's")
    parser.add_argument("--only", help="scenarios, separated by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--n", type=int, help="exactly so many trials of each, as the time allows")
    parser.add_argument("--list", action="store_true", help="say which scenarios there are")
    return parser.parse_args()


def _chosen(known: Sequence[Scenario], only: str | None) -> list[Scenario]:
    if only is None:
        return list(known)
    names = [name.strip() for name in only.split(",")]
    strange = sorted(set(names) - {one.name for one in known})
    if strange:
        sys.exit(f"There is no scenario {', '.join(strange)}; --list names all.")
    return [one for one in known if one.name in names]


def run_scenario(
    one: Scenario, time_s: float, seed: int, began: float, n: int | None = None
) -> list[dict[str, Any]]:
    """Its outcomes; one that says so, if it could not run to its end."""
    with tempfile.TemporaryDirectory(prefix="marserve-chaos-run-") as folder:
        into = Path(folder) / "outcomes.json"
        command = [FOLDER / "one.py", one.path, f"{time_s:g}", str(seed), into]
        command += [] if n is None else [n]
        process = subprocess.Popen(
            [sys.executable, "-u", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        lines: list[str] = []
        reader = threading.Thread(target=_follow, args=(process, one.name, lines, began))
        reader.start()
        reason = _ended(process, time_s * 1.5 + START_S + _SPARE_S)
        reader.join(10)
        if reason is None and into.exists():
            found: list[dict[str, Any]] = json.loads(into.read_text(encoding="utf-8"))
            return found
    tail = [line for line in lines[-_TAIL_LINES:] if line.strip()]
    last = tail[-1].strip() if tail else "it said nothing"
    words = f"{reason or 'it had no outcome'}: {last}"
    _say(began, f"{one.name} FAILED TO RUN: {words}")
    return [_not_run(one, words, "\n".join(tail).replace(f"{_ROOT}/", ""))]


def _not_run(one: Scenario, reason: str, tail: str) -> dict[str, Any]:
    return {
        "property": f"{one.name}: the scenario runs to its end",
        "n": 0,
        "bar": "runs",
        "figure": "failed",
        "passed": False,
        "proves": "",
        "notes": reason[:300],
        "log": tail,
    }


def _ended(process: subprocess.Popen[str], limit_s: float) -> str | None:
    """Wait; None: it ended well. What it started and left is ended with it."""
    try:
        code = process.wait(limit_s)
        reason = None if code == 0 else f"it ended with {code}"
    except subprocess.TimeoutExpired:
        reason = f"it did not end within {limit_s:.0f} s"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # its traceback tells where it hangs
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return reason


def _follow(process: subprocess.Popen[str], name: str, lines: list[str], began: float) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            lines.append(line.rstrip("\n"))
            if len(lines) < _MOST_LINES or line.startswith(("pass", "FAIL")):
                _say(began, f"  {name}: {line.rstrip()}")
            elif len(lines) == _MOST_LINES:
                _say(began, f"  {name}: … {_MOST_LINES} lines; only outcomes from here on")


def _say(began: float, text: str) -> None:
    seconds = int(time.monotonic() - began)
    print(f"{seconds // 60:3d}:{seconds % 60:02d}  {text}", flush=True)


if __name__ == "__main__":
    main()
