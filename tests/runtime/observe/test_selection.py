"""Parts of a registry are picked by name."""

import pytest
from prometheus_client import generate_latest

from marserve.events import Bus
from marserve.observe.metrics import Metrics
from marserve.observe.selection import Selection


@pytest.mark.parametrize(
    ("names", "families"),
    [
        ({"Requests2XX", "Requests4XX"}, ["Requests2XX", "Requests4XX"]),
        ({"process_cpu_seconds_total"}, ["process_cpu_seconds_total"]),
        ({"QueueTime"}, ["QueueTime"]),  # a family without samples is shown by its own name
        ({"marserve_batch_size_count"}, []),  # and not by those of samples that do not exist
        ({"no_such"}, []),
        (set(), []),
    ],
)
def test_families_and_samples_are_picked_by_name(names, families):
    selection = Selection(Metrics(Bus(), "box").registry, frozenset(names))
    text = generate_latest(selection).decode()
    found = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert found == families
