"""H-REG: any order of changes, faults and restarts at the registry, against a model of it.

    python benchmarks/reliability/state_machines_registry.py --examples 2000 [--seconds 600]

An example is up to fifty steps of `tests/harness/registry_machine.py`; after each of them what
requests find, what is on disk and what is open must be what the model says.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

from budget import Budget
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from outcome import Outcome
from registry_machine import RegistryMachine
from standalone import standalone

RELEASE_S = 600.0
MOST = 2000
_EACH_S = 0.15
_AT_ONCE = 50
_STEPS = 50


def run(budget: Budget) -> Outcome:
    """So many examples; none may diverge."""
    logging.disable(logging.WARNING)
    planned = budget.trials(MOST, _EACH_S)
    made, broken = 0, 0
    while made < planned and not broken and not (made and budget.is_over):
        count = min(_AT_ONCE, planned - made)
        broken = _broken(count, budget.seed * 100_000 + made)
        made += count
        print(f"{made:,} of {planned:,} examples", flush=True)
    return Outcome(
        property="any order of changes, faults and restarts at the registry (H-REG): divergences",
        n=made,
        bar="0",
        figure=str(broken),
        passed=not broken,
        notes=f"up to {_STEPS} steps each, two changes at a time among them; a real disk",
        failures=broken,
        unit="example",
    )


def _broken(count: int, number: int) -> int:
    machine = seed(number)(RegistryMachine)
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=count,
                stateful_step_count=_STEPS,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception:  # noqa: BLE001  whatever it is, it is told
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.argv = [word.replace("--examples", "--n") for word in sys.argv]
    standalone(run)
