"""What scripts/chaos keeps: outcomes that say what they prove, shares of time, one line each."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path[len(sys.path) :] = [str(BENCHMARKS), str(BENCHMARKS / "reliability")]

import machine_lock  # noqa: E402  it is no package
import registry  # noqa: E402
import reliability_report  # noqa: E402
from budget import Budget  # noqa: E402
from outcome import Outcome, as_outcomes  # noqa: E402

spec = importlib.util.spec_from_file_location("chaos_script", BENCHMARKS / "chaos.py")
assert spec is not None
assert spec.loader is not None
script = importlib.util.module_from_spec(spec)  # its name is that of the harness's package
spec.loader.exec_module(script)
chaos_run = script.run_scenario

GOOD = Outcome("kills: lost", 1000, "0", "0", True, failures=0, unit="kill")


@pytest.mark.parametrize(
    ("failures", "n", "proves"),
    [
        (0, 1_000, "< 0.3 % per kill"),
        (0, 10_000, "< 0.03 % per kill"),
        (0, 50_000, "< 0.006 % per kill"),
        (0, 1_000_000, "< 3e-06 per kill"),
        (1, 1_000, ""),
        (None, 1_000, ""),
        (0, 2, ""),
    ],
)
def test_no_failure_in_n_trials_proves_a_rate_below_three_nths(
    failures: int | None, n: int, proves: str
) -> None:
    assert Outcome("x", n, "0", "0", True, failures=failures, unit="kill").proves == proves


def test_a_scenario_may_return_one_outcome_several_or_mappings() -> None:
    mapping = {"property": "p", "n": 1, "bar": "b", "figure": "f", "passed": True, "notes": ""}

    assert as_outcomes(GOOD) == [GOOD]
    assert as_outcomes([GOOD, mapping]) == [GOOD, Outcome("p", 1, "b", "f", True)]
    with pytest.raises(TypeError):
        as_outcomes("done")
    with pytest.raises(TypeError, match="sruprise"):
        as_outcomes(mapping | {"sruprise": 1})


def test_a_budget_gives_as_many_trials_as_fit_unless_their_number_is_given() -> None:
    assert Budget(60.0).trials(most=1_000, each_s=0.1) == 600
    assert Budget(600.0).trials(most=1_000, each_s=0.1) == 1_000
    assert Budget(0.1).trials(most=1_000, each_s=1.0) == 1
    assert Budget(0.1, n=70).trials(most=50, each_s=1.0) == 70


def test_every_scenario_is_found_and_has_a_sentence() -> None:
    found = registry.scenarios()

    assert {"kills", "poisons", "timeouts", "soak"} <= {one.name for one in found}
    assert all(one.about and one.release_s > 0 for one in found)
    assert "accounting" not in {one.name for one in found}


@pytest.mark.parametrize("minutes", [1.0, 8.0, 90.0, 660.0])
def test_shares_of_time_keep_the_proportions_of_a_release_and_its_limits(minutes: float) -> None:
    found = registry.scenarios()
    shares = registry.shares(found, minutes * 60)

    assert list(shares) == [one.name for one in found]
    assert all(0 < shares[one.name] <= one.release_s for one in found)
    if minutes >= 90:
        spent_s = sum(shares.values()) + registry.START_S * len(found)
        assert spent_s <= minutes * 60 + 1


def test_a_partial_run_replaces_the_lines_of_its_scenario_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reliability_report, "RESULTS", tmp_path)
    monkeypatch.setattr(reliability_report, "DOCUMENT", tmp_path / "reliability.json")
    series = {"t_s": [0.0, 1.0], "answers per second": [5.0, 7.0]}

    reliability_report.merge("kills", [entry("kills: lost", series=series), entry("old")], 1)
    reliability_report.merge("poisons", [entry("poisons: innocents", passed=False)], 1)
    reliability_report.merge("kills", [entry("kills: lost", n=20, series=series)], 2)

    kept = json.loads((tmp_path / "reliability.json").read_text())["outcomes"]
    assert [(one["scenario"], one["property"], one["n"], one["seed"]) for one in kept] == [
        ("kills", "kills: lost", 20, 2),
        ("poisons", "poisons: innocents", 10, 1),
    ]
    page = (tmp_path / "reliability.md").read_text()
    assert "1 of 2 bars are met" in page
    assert page.index("**missed** | poisons: innocents") < page.index("met | kills: lost")
    assert "answers per second" in (tmp_path / "reliability.svg").read_text()


def entry(name: str, **changed: object) -> dict[str, object]:
    given: dict[str, object] = {"property": name, "n": 10, "bar": "0", "figure": "0"}
    return given | {"passed": True, "proves": "", "notes": ""} | changed


def test_a_scenario_that_cannot_run_is_reported_as_failed_with_its_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text('def run(budget):\n    raise ValueError("no luck")\n')

    [found] = chaos_run(registry.Scenario("broken", broken, 1.0, ""), 1.0, 1, 0.0)

    assert not found["passed"]
    assert found["property"] == "broken: the scenario runs to its end"
    assert "ValueError: no luck" in found["log"]
    assert "broken FAILED TO RUN" in capsys.readouterr().out


def test_only_one_process_measures_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_lock, "PATH", tmp_path / "lock")
    held: list[int] = []
    monkeypatch.setattr(machine_lock, "_held", held)
    machine_lock.hold("a benchmark")
    machine_lock.hold("the same process")

    monkeypatch.setattr(machine_lock, "_held", [])
    with pytest.raises(machine_lock.Busy, match="a benchmark"):
        machine_lock.hold("chaos")
    os.close(held[0])
