"""What a start opens, and with which settings."""

from dataclasses import replace
from pathlib import Path

import pytest

from marserve.config import build
from marserve.config_source import Source
from marserve.model_version import Settings
from marserve.startup import Entry, entries

SNAPSHOT = (
    'model_snapshot={"name": "s.cfg", "modelCount": 1, "models": {"m": {"2.0": {"marName": "x.mar",'
    ' "minWorkers": 3, "maxWorkers": 4, "batchSize": 5, "defaultVersion": true}}}}\n'
)
STORE = ("a.mar", "b.mar")


def opened(text):
    return entries(build(Source(text=text), {}, {}, Path("/")).config, STORE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("load_models=all\n", (Entry("a.mar"), Entry("b.mar"))),
        ("load_models=m=a.mar, c.mar\n", (Entry("a.mar", "m"), Entry("c.mar"))),
    ],
)
def test_the_configuration_names_what_is_opened(text, expected):
    assert opened(text) == expected


def test_a_snapshot_is_followed_instead_of_load_models():
    [entry] = opened("load_models=all\n" + SNAPSHOT)

    assert (entry.url, entry.name, entry.stored.version) == ("x.mar", "m", "2.0")


def test_what_a_snapshot_stored_holds_whatever_the_archive_says():
    [entry] = opened(SNAPSHOT)
    decided = Settings(min_workers=1, max_workers=1, queue_size=7, device_type="cpu")

    assert entry.settled(decided) == replace(
        decided,
        min_workers=3,
        max_workers=4,
        batch_size=5,
        max_batch_delay_ms=100,
        response_timeout_s=120,
        startup_timeout_s=120,
    )


def test_without_a_snapshot_the_settings_stay():
    decided = Settings(min_workers=1, max_workers=1)

    assert Entry("a.mar").settled(decided) is decided
