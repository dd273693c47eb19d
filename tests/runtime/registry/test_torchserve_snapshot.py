import json

import pytest

from marserve.config import build
from marserve.config_snapshot import ModelSnapshot, SnapshotVersion
from marserve.config_source import Source
from marserve.model_version import Settings
from marserve.properties import parse
from marserve.refs import ModelRef
from marserve.registry.torchserve_snapshot import document, versions_of
from marserve.registry.wanted import Wanted, WantedVersion

NAME = "20261122130303146-startup.cfg"
VERSIONS = (
    SnapshotVersion("fn", "1.0", "fn.mar", is_default=True),
    SnapshotVersion("fn", "2.0", "fn2.mar", min_workers=2, max_workers=3, parallel_level=2),
)


def written(properties=None, versions=VERSIONS):
    return document(NAME, 1795352583147, "Sun Nov 22 13:03:03 UTC 2026", properties or {}, versions)


def test_it_has_the_form_of_torchserve():
    lines = written({"model_store": "/srv/store"}, ()).splitlines()
    assert lines == [
        "#Saving snapshot",
        "#Sun Nov 22 13:03:03 UTC 2026",
        "#Written by MarServe",
        "model_store=/srv/store",
        "version=0.12.0",
        r'model_snapshot={\n  "name"\: "20261122130303146-startup.cfg",\n  "modelCount"\: 0,\n  '
        r'"created"\: 1795352583147,\n  "models"\: {}\n}',
    ]


def test_the_models_stand_by_name_and_version():
    texts = {entry.key: entry.value for entry in parse(written())}
    content = json.loads(texts["model_snapshot"])
    assert content["modelCount"] == 2
    assert content["models"]["fn"]["1.0"] == {
        "defaultVersion": True,
        "marName": "fn.mar",
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": 1,
        "maxBatchDelay": 100,
        "responseTimeout": 120,
        "startupTimeout": 120,
        "runtimeType": "python",
    }
    assert content["models"]["fn"]["2.0"]["parallelLevel"] == 2


def test_what_is_written_is_read_again(tmp_path):
    properties = {"model_store": "/srv/höhle 🙂", "NUM_WORKERS": "1", "keystore_pass": "$$P$$"}
    text = written({**properties, "python": "p", "tsConfigFile": "f", "model_snapshot": "old"})
    config = build(Source(text=text), {}, {"P": "x"}, tmp_path).config
    assert config.model_snapshot == ModelSnapshot(VERSIONS, NAME)
    assert properties.items() <= dict(config.properties).items()
    assert "python" not in config.properties


def test_every_file_is_plain_ascii_as_java_reads_it():
    assert written({"a": "höhle 🙂"}).isascii()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("fn.mar", "fn.mar"),
        ("/anywhere/fn.mar", "fn.mar"),
        ("folder/", "folder"),
        ("https://host/models/fn.mar?versionId=3", "fn.mar"),
        ("s3://bucket/fn.mar", "fn.mar"),
    ],
)
def test_what_is_wanted_is_what_is_written(url, name):
    settings = Settings(
        min_workers=1, max_workers=4, batch_size=8, max_batch_delay_ms=5, response_timeout_s=6,
        startup_timeout_s=7, runtime="python3", parallel_level=2,
    )  # fmt: skip
    wanted = Wanted().add(ModelRef("m", "1"), WantedVersion(url, settings))
    wanted = wanted.add(ModelRef("m", "2"), WantedVersion("other.mar", Settings(0, 0)))
    wanted = wanted.make_default(ModelRef("m", "2"))
    assert versions_of(wanted) == (
        SnapshotVersion("m", "1", name, False, 1, 4, 8, 5, 6, 7, "python3", 2),
        SnapshotVersion("m", "2", "other.mar", True, 0, 0),
    )
