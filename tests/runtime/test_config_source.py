from pathlib import Path

import pytest

from marserve.config import load
from marserve.config_snapshot import ModelSnapshot, SnapshotVersion
from marserve.errors import ConfigInvalid

HOME = {"HOME": "/home/me"}

# as TorchServe 0.12.0 writes it, shortened
SNAPSHOT = (
    r'model_snapshot={\n  "name"\: "20261122183841111-shutdown.cfg",\n  "modelCount"\: 1,\n'
    r'  "created"\: 1795372721111,\n  "models"\: {\n    "fn"\: {\n      "1.0"\: {\n'
    r'        "defaultVersion"\: true,\n        "marName"\: "fn.mar",\n'
    r'        "minWorkers"\: 2,\n        "maxWorkers"\: 2,\n        "batchSize"\: 4,\n'
    r'        "maxBatchDelay"\: 50,\n        "responseTimeout"\: 60,\n'
    r'        "startupTimeout"\: 90,\n        "runtimeType"\: "python"\n      }\n    }\n'
    r"  }\n}"
)
TORCHSERVES = rf"""#Saving snapshot
#Sun Nov 22 18\:38\:41 UTC 2026
inference_address=http\://127.0.0.1\:57311
default_workers_per_model=1
load_models=fn\=fn.mar
NUM_WORKERS=1
model_store=/srv/store
number_of_gpu=0
python=/usr/bin/python3.11
{SNAPSHOT}
enable_model_api=true
tsConfigFile=/srv/ts.properties
version=0.12.0
workflow_store=/srv/store
disable_token_authorization=true
"""
MODELS = ModelSnapshot(
    (SnapshotVersion("fn", "1.0", "fn.mar", True, 2, 2, 4, 50, 60, 90),),
    "20261122183841111-shutdown.cfg",
)


@pytest.fixture
def folder(tmp_path):
    """The folder of snapshots of a server whose log directory is tmp_path/logs."""
    folder = tmp_path / "logs" / "config"
    folder.mkdir(parents=True)
    return folder


def restored(cwd, environ=HOME, config_file=None):
    return load(config_file, {}, environ, cwd, like_torchserve=True)


def test_a_server_that_comes_from_torchserve_has_its_settings_and_models(tmp_path, folder):
    (folder / "20261122183841111-shutdown.cfg").write_text(TORCHSERVES)
    loaded = restored(tmp_path)
    config = loaded.config
    assert (config.inference.port, config.model_store) == (57311, Path("/srv/store"))
    assert (config.token_authorization, config.number_of_gpu) == (False, 0)
    assert (config.model_snapshot, config.snapshot_is_last_run) == (MODELS, True)
    assert config.config_file == folder / "20261122183841111-shutdown.cfg"
    assert loaded.warnings == (
        f"the configuration is taken from the snapshot {config.config_file}; "
        "--ncs starts without snapshots, --ts-config names another file.",
        f"{config.config_file}, line 6: NUM_WORKERS is not a setting and has no effect; "
        "`marserve config example` prints them all.",
        "load_models does not count, because model_snapshot says which models are loaded.",
    )


def test_the_newest_snapshot_wins_over_the_file_in_the_directory_and_says_so(tmp_path, folder):
    (tmp_path / "config.properties").write_text("batch_size=5")
    (folder / "20261122183841111-shutdown.cfg").write_text(f"{TORCHSERVES}batch_size=6\n")
    (folder / "20261122183841110-snapshot.cfg").write_text(f"{TORCHSERVES}batch_size=7\n")
    loaded = restored(tmp_path)
    assert loaded.config.batch_size == 6
    assert "-shutdown.cfg, NOT from config.properties; --ncs starts" in loaded.warnings[0]


def test_a_file_that_somebody_names_wins_over_snapshots(tmp_path, folder):
    (folder / "20261122183841111-shutdown.cfg").write_text(TORCHSERVES)
    (tmp_path / "mine").write_text("batch_size=5")
    assert restored(tmp_path, config_file=Path("mine")).config.batch_size == 5
    environ = {"TS_CONFIG_FILE": "mine", **HOME}
    loaded = restored(tmp_path, environ)
    assert loaded.config.batch_size == 5
    assert loaded.config.model_snapshot is None


def test_what_torchserve_left_is_told_when_another_file_is_named(tmp_path, folder):
    (tmp_path / "mine").write_text("batch_size=5")
    path = folder / "20261122183841111-shutdown.cfg"
    path.write_text(TORCHSERVES)
    told = (
        "TorchServe left a snapshot of its models, which is not used because mine was named: to "
        f"take over what was registered and scaled, start with --ts-config {path} (and without "
        f"{folder.parent / 'state'}, if that is there already).",
    )
    assert restored(tmp_path, config_file=Path("mine")).warnings == told
    assert load(Path("mine"), {}, HOME, tmp_path).warnings == ()
    assert told[0] not in restored(tmp_path, config_file=path).warnings
    path.write_text(TORCHSERVES.replace("\ninference", "\n#Written by MarServe\ninference", 1))
    assert restored(tmp_path, config_file=Path("mine")).warnings == ()


def test_our_own_commands_take_no_snapshot_by_themselves(tmp_path, folder):
    (tmp_path / "config.properties").write_text("batch_size=5")
    path = folder / "20261122183841111-shutdown.cfg"
    path.write_text(TORCHSERVES)
    loaded = load(None, {}, HOME, tmp_path)
    assert (loaded.config.batch_size, loaded.config.model_snapshot) == (5, None)
    assert loaded.warnings == (
        "TorchServe left a snapshot of its models, which is not used: to take over what was "
        f"registered and scaled, start with --config {path} (and without "
        f"{folder.parent / 'state'}, if that is there already).",
    )


def test_a_snapshot_of_our_own_is_no_last_run_of_torchserve(tmp_path, folder):
    ours = TORCHSERVES.replace("\ninference", "\n#Written by MarServe\ninference", 1)
    (folder / "20261122183841111-shutdown.cfg").write_text(ours)
    config = restored(tmp_path).config
    assert (config.model_snapshot, config.snapshot_is_last_run) == (MODELS, False)
    assert load(None, {}, HOME, tmp_path).warnings == ()


def test_the_folder_lies_where_the_environment_puts_the_logs(tmp_path):
    folder = tmp_path / "elsewhere" / "config"
    folder.mkdir(parents=True)
    (folder / "20261122183841111-startup.cfg").write_text(TORCHSERVES)
    config = restored(tmp_path, {"LOG_LOCATION": str(tmp_path / "elsewhere"), **HOME}).config
    assert config.model_snapshot == MODELS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has no model_snapshot."),
        (TORCHSERVES[: TORCHSERVES.index("maxBatchDelay")].encode(), "expected one JSON object"),
        (b"a=\\u12", "line 1: \\u must be followed by four hexadecimal digits."),
        (bytes(range(256)), "it has no model_snapshot."),
    ],
)
def test_a_snapshot_that_breaks_off_is_passed_over(tmp_path, folder, content, reason):
    (folder / "20261122183841111-shutdown.cfg").write_text(TORCHSERVES)
    broken = folder / "20261122183841112-startup.cfg"
    broken.write_bytes(content)
    loaded = restored(tmp_path)
    assert loaded.config.model_snapshot == MODELS
    assert loaded.warnings[0].startswith(f"the snapshot {broken} is passed over: {reason}")


def test_strange_files_in_the_folder_harm_nobody(tmp_path, folder):
    (folder / "wanted.json").write_text("{}")
    (folder / "20261122183841111-startup.cfg").mkdir()
    (tmp_path / "config.properties").write_text("batch_size=5")
    assert restored(tmp_path).config.batch_size == 5


def test_a_file_without_end_is_a_sentence(tmp_path):
    with pytest.raises(ConfigInvalid, match=r"/dev/zero is larger than 16777216 bytes"):
        load(Path("/dev/zero"), {}, HOME, tmp_path)
