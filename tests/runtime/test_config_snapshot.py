import contextlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.config_snapshot import (
    MODEL_SNAPSHOT,
    ModelSnapshot,
    SnapshotVersion,
    is_by_marserve,
    snapshot_time,
)

KSERVE = (
    '{"name":"startup.cfg","modelCount":1,"models":{"mnist":{"1.0":{"defaultVersion":true,'
    '"marName":"mnist.mar","minWorkers":1,"maxWorkers":5,"batchSize":1,"maxBatchDelay":10,'
    '"responseTimeout":120}}}}'
)


def one(**fields):
    return json.dumps({"modelCount": 1, "models": {"m": {"1": {"marName": "m.mar", **fields}}}})


def test_the_snapshot_of_kserve_is_read():
    assert MODEL_SNAPSHOT.read(KSERVE, []) == ModelSnapshot(
        (
            SnapshotVersion(
                name="mnist",
                version="1.0",
                mar_name="mnist.mar",
                is_default=True,
                min_workers=1,
                max_workers=5,
                max_batch_delay_ms=10,
            ),
        ),
        name="startup.cfg",
    )


def test_versions_keep_their_order():
    text = json.dumps(
        {
            "models": {
                "b": {"2": {"marName": "b2.mar"}, "1": {"marName": "b1.mar"}},
                "a": {"1": {"marName": "a.mar"}},
            }
        }
    )
    versions = MODEL_SNAPSHOT.read(text, []).versions
    assert [(v.name, v.version) for v in versions] == [("b", "2"), ("b", "1"), ("a", "1")]


def test_what_old_snapshots_lack_has_the_default():
    (version,) = MODEL_SNAPSHOT.read(one(), []).versions
    assert (version.response_timeout_s, version.startup_timeout_s) == (120, 120)
    assert (version.runtime, version.parallel_level) == ("python", 0)


def test_a_version_may_have_no_workers():
    (version,) = MODEL_SNAPSHOT.read(one(minWorkers=0, maxWorkers=0), []).versions
    assert (version.min_workers, version.max_workers) == (0, 0)


@pytest.mark.parametrize(
    "text", ['{"modelCount": 0, "models": {}}', "{}", one().replace("1,", "-1,", 1)]
)
def test_a_snapshot_without_models_is_noted(text):
    notes: list[str] = []
    assert MODEL_SNAPSHOT.read(text, notes) == ModelSnapshot(())
    assert notes == ["it names no models, so the server starts without any"]


def test_no_text_is_no_snapshot():
    assert MODEL_SNAPSHOT.read("", []) is None


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"batchSize": 0}, "batchSize of m:1 is 0 and is left to the default"),
        ({"minWorkers": -1}, "minWorkers of m:1 is -1 and is left to the default"),
        ({"colour": 1}, "colour of m:1 is not known here and has no effect"),
    ],
)
def test_what_has_no_effect_is_noted(fields, note):
    notes: list[str] = []
    assert MODEL_SNAPSHOT.read(one(**fields), notes).versions == (
        SnapshotVersion("m", "1", "m.mar"),
    )
    assert notes == [note]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected one JSON object"),
        ("[]", "expected one JSON object"),
        ('{"models": []}', "expected an object of models"),
        ('{"models": {"m": 1}}', "expected an object of versions for m"),
        ('{"models": {"a b": {"1": {}}}}', "Model name 'a b' is not valid"),
        ('{"models": {"m": {"1": {}}}}', "expected marName, the archive in the model store"),
        ('{"modelCount": "1"}', 'modelCount is "1": expected a whole number'),
        (one(batchSize="4"), 'batchSize of m:1 is "4": expected a whole number'),
        (one(defaultVersion=1), "defaultVersion of m:1 is 1: expected true or false"),
    ],
)
def test_other_text_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MODEL_SNAPSHOT.read(text, [])


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["models", "m", "1", "marName", "modelCount"]), x)
        ),
    ).map(json.dumps)
)
def test_any_text_is_taken_or_refused_as_a_wrong_value(text):
    with contextlib.suppress(ValueError):
        MODEL_SNAPSHOT.read(text, [])


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("20261122130303146-shutdown.cfg", "20261122130303146"),
        ("20261122130303146-startup.cfg", "20261122130303146"),
        ("20261122130303146-snapshot.cfg", "20261122130303146"),
        ("20261122130303146-other.cfg", ""),
        ("2026-startup.cfg", ""),
        ("20261122130303146-startup.cfg.partial", ""),
        ("wanted.json", ""),
    ],
)
def test_the_name_of_a_snapshot_tells_its_moment(name, time):
    assert snapshot_time(name) == time


def test_our_own_snapshots_say_so():
    assert is_by_marserve("#Saving snapshot\n#today\n#Written by MarServe\na=b")
    assert not is_by_marserve("#Saving snapshot\n#today\na=#Written by MarServe")
