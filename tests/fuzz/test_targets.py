"""Every fuzz target with its seeds and a few hundred mutations of them (F-HTTP, F-IPC, F-…).

`benchmarks/reliability/fuzz.py` runs the same targets a million times. An input that broke one
becomes a seed.
"""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import mutation
import target_files

MUTATIONS = 300
BUDGET_S = 0.5
"""A slow target gets fewer mutations: the seeds are always tried."""
MAX_ONE_S = 1.0


@pytest.mark.parametrize("name", target_files.names())
def test_nothing_breaks_the_target(name):
    target = target_files.load(name)
    began = time.monotonic()
    for number, data in enumerate(mutation.inputs(target.seeds, MUTATIONS, number=1)):
        before = time.process_time()
        try:
            target.one_input(data)
        except Exception as error:
            raise AssertionError(f"{name} breaks at {data!r}") from error
        assert time.process_time() - before < MAX_ONE_S, f"{name} takes too long for {data!r}"
        if number >= len(target.seeds) and time.monotonic() - began > BUDGET_S:
            break
    assert target.seeds, f"{name} has no seeds"
