"""config.properties and the command line do what they do in TorchServe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from contract import Case, Subset, table
from targets import Target

OURS = [
    sys.executable,
    "-c",
    "import sys; from marserve.torchserve_cli import main; sys.exit(main())",
]


def described(name: str, **expected: object) -> Case:
    return Case(f"GET /models/{name}", 200, [Subset(**expected)], port="management")


# --- keys ---


@pytest.fixture(scope="module")
def served(target: Target) -> Target:
    """With a file as people have it: strangers, keys of Netty, settings for single versions."""
    target.pack("tuned", "echo.py")
    target.pack("plain", "echo.py", version="3")
    models = {
        "tuned": {
            "1.0": {
                "minWorkers": 1,
                "maxWorkers": 2,
                "batchSize": 4,
                "maxBatchDelay": 50,
                "responseTimeout": 60,
                "startupTimeout": 90,
            }
        },
        "plain": {"1.0": {"batchSize": 9}},
    }
    return target.start(
        load_models="tuned.mar,renamed=plain.mar",
        models=json.dumps(models),
        default_response_timeout=70,
        default_startup_timeout=80,
        job_queue_size=7,
        NUM_WORKERS=1,
        number_of_netty_threads=4,
        netty_client_threads=4,
        prefer_direct_buffer="true",
        use_native_io="true",
        io_ratio=50,
        async_logging="true",
        initial_worker_port=9700,
    )


@table(
    described(
        "tuned",
        minWorkers=1,
        maxWorkers=2,
        batchSize=4,
        maxBatchDelay=50,
        responseTimeout=60,
        startupTimeout=90,
        jobQueueStatus={"remainingCapacity": 7, "pendingRequests": 0},
    ),
    described(
        "renamed",
        modelVersion="3",
        modelUrl="plain.mar",
        minWorkers=1,
        maxWorkers=1,
        batchSize=1,
        maxBatchDelay=100,
        responseTimeout=70,
        startupTimeout=80,
    ),
    Case("GET /models/plain", 404, port="management"),
)
def test_keys_mean_what_they_mean_in_torchserve(served: Target, case: Case) -> None:
    served.check(case)


def test_a_snapshot_in_the_file_says_what_is_loaded(
    make_target: Callable[[], Target],
) -> None:
    """As KServe passes it; load_models does not count beside it."""
    target = make_target()
    for version in ("1", "2"):
        target.pack("echo", "echo.py", version=version, file_name=f"echo{version}.mar")
    target.pack("other", "echo.py")
    stored = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 4, "maxBatchDelay": 50}
    snapshot = {
        "name": "startup.cfg",
        "modelCount": 2,
        "models": {
            "echo": {
                "1": {"defaultVersion": False, "marName": "echo1.mar", **stored},
                "2": {"defaultVersion": True, "marName": "echo2.mar", **stored},
            }
        },
    }
    target.start(load_models="all", model_snapshot=json.dumps(snapshot))
    target.wait_until_ready("echo")
    settings = {**stored, "responseTimeout": 120, "startupTimeout": 120}
    target.check(described("echo", modelVersion="2", **settings, loadedAtStartup=False))
    target.check(described("echo/1", modelVersion="1", **settings))
    target.check(Case("GET /models/other", 404, port="management"))


# --- the command line ---


@pytest.fixture
def torchserve(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs `torchserve` in a folder of its own: exit code, stdout, last line of stderr."""
    home = request.config.getoption("torchserve", None)
    program = OURS if home is None else [str(Path(home) / "bin" / "torchserve")]
    (tmp_path / "temp").mkdir()
    (tmp_path / "store").mkdir()

    def run(*arguments: str, **environ: str) -> tuple[int, str, str]:
        clean = {
            key: value
            for key, value in os.environ.items()
            if key not in ("TEMP", "TMP", "TS_CONFIG_FILE", "LOG_LOCATION")
        }
        done = subprocess.run(
            [*program, *arguments],
            cwd=tmp_path,
            env={**clean, "TMPDIR": str(tmp_path / "temp"), **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, (done.stderr.splitlines() or [""])[-1]

    return run


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "out", "err"),
    [
        ("--start", {}, 1, "Missing mandatory parameter --model-store", ""),
        ("--foreground", {}, 1, "Missing mandatory parameter --model-store", ""),
        ("--model-store nope", {}, 1, "--model-store directory not found: nope", ""),
        (
            "--start --model-store store --workflow-store nope",
            {},
            1,
            "--workflow-store directory not found: nope",
            "",
        ),
        (
            "--start --model-store store --ts-config nope",
            {},
            1,
            "--ts-config file not found: nope",
            "",
        ),
        (
            "--start --model-store store",
            {"TS_CONFIG_FILE": "nope"},
            1,
            "--ts-config file not found: nope",
            "",
        ),
        (
            "--start --model-store store",
            {"TEMP": "/nope"},
            1,
            "Invalid temp directory: /nope, please check TEMP environment variable.",
            "",
        ),
        ("--stop", {}, 0, "TorchServe is not currently running.", ""),
        (
            "--start --stop",
            {},
            2,
            "",
            "torchserve: error: argument --stop: not allowed with argument --start",
        ),
        ("--bogus", {}, 2, "", "torchserve: error: unrecognized arguments: --bogus"),
    ],
)
def test_messages_and_exit_codes_are_those_of_torchserve(
    torchserve: Callable[..., tuple[int, str, str]],
    arguments: str,
    environ: dict[str, str],
    code: int,
    out: str,
    err: str,
) -> None:
    assert torchserve(*arguments.split(), **environ) == (code, f"{out}\n" if out else "", err)


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_the_version_begins_as_torchserves(
    torchserve: Callable[..., tuple[int, str, str]], flag: str
) -> None:
    code, out, _ = torchserve(flag)
    assert code == 0
    assert out.startswith("TorchServe Version is 0.12.0")


def test_an_orphan_is_removed_and_told(
    torchserve: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "temp" / ".model_server.pid").write_text("999999999")
    code, out, _ = torchserve("--stop")
    assert (code, out) == (0, "Removing orphan pid file.\nTorchServe is not currently running.\n")
    assert not (tmp_path / "temp" / ".model_server.pid").exists()
