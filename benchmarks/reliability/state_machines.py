"""Tries a version's requests, workers and reloads in any order of events (H-BATCH; I1 to I4).

    python benchmarks/reliability/state_machines.py --examples 5000 [--seconds 600]

An example is up to sixty steps of `tests/harness/deployment_machine.py`, after each of which all
invariants are checked. The first example that breaks one is shrunk and printed.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from budget import Budget  # noqa: E402  the path comes first
from hypothesis import HealthCheck, Phase, settings  # noqa: E402  as above
from hypothesis.stateful import run_state_machine_as_test  # noqa: E402  as above
from outcome import Outcome  # noqa: E402  as above
from standalone import line  # noqa: E402  as above
from tests.harness.deployment_machine import CrowdMachine, DeploymentMachine  # noqa: E402  as above

_MOST = 5000
_EACH_S = 0.03
_AT_ONCE = 100
_STEPS = 60
_MACHINES = (DeploymentMachine, CrowdMachine)
"""Workers with a batch at a time, and workers with many requests."""


def run(budget: Budget) -> Outcome:
    """So many examples; none may break an invariant."""
    planned = budget.trials(_MOST, _EACH_S)
    random.seed(budget.seed)
    made, broken, steps = 0, 0, Counted(DeploymentMachine)
    while made < planned and not broken and not (made and budget.is_over):
        count = min(_AT_ONCE, planned - made)
        broken = _broken(_MACHINES[made // _AT_ONCE % len(_MACHINES)], count)
        made += count
        print(f"{made:,} of {planned:,} examples, {steps.count:,} steps", flush=True)
    return Outcome(
        property="any order of events at a version: broken invariants",
        n=made,
        bar="0",
        figure=str(broken),
        passed=not broken,
        notes=f"H-BATCH, I1 to I4, after each of {steps.count:,} steps",
        failures=broken,
        unit="example",
    )


class Counted:
    """Counts how often the invariants were checked."""

    def __init__(self, machine: type[DeploymentMachine]) -> None:
        self.count = 0
        checked = machine.check_invariants

        def check(one: DeploymentMachine, *arguments: object, **named: object) -> None:
            self.count += 1
            checked(one, *arguments, **named)

        machine.check_invariants = check  # type: ignore[method-assign]


def _broken(machine: type[DeploymentMachine], examples: int) -> int:
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=_STEPS,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception:  # noqa: BLE001  that is what is looked for
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", "--n", type=int, dest="examples")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.disable()
    began = time.monotonic()
    outcome = run(Budget(given.seconds, given.examples, given.seed))
    print(line(outcome), f"{time.monotonic() - began:.0f} s")
    sys.exit(not outcome.passed)


if __name__ == "__main__":
    main()
