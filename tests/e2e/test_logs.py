"""What happens to workers stands in the server's log, in TorchServe's words."""

from __future__ import annotations

import re

import pytest

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}"
WORKER = r"W-9000-moody_1\.0 marserve\.workers - "


@pytest.fixture(scope="module")
def moody(shared_server):
    shared_server.pack("moody", "moody.py")
    shared_server.pack("late", "moody.py")
    return shared_server.start(
        load_models="moody.mar,late.mar",
        models='{"late": {"1.0": {"marName": "late.mar", "responseTimeout": 1}}}',
    )


def ts_log(server):
    return (server.root / "logs" / "ts_log.log").read_text()


def has_line(server, pattern):
    return re.search(rf"^{STAMP} {pattern}$", ts_log(server), re.MULTILINE)


def wait_for_lines(server, *patterns):
    for pattern in patterns:
        server.wait_until(lambda pattern=pattern: has_line(server, pattern))


def test_the_life_of_a_worker_is_told(moody):
    wait_for_lines(
        moody,
        rf"\[INFO \] {WORKER}W-9000-moody_1\.0 State change null -> WORKER_STARTED",
        rf"\[INFO \] {WORKER}"
        r"W-9000-moody_1\.0 State change WORKER_STARTED -> WORKER_MODEL_LOADED",
    )


def test_a_worker_that_dies_and_recovers_is_told(moody, tmp_path):
    assert moody.predict("moody", f"die-once {tmp_path / 'died'}".encode()).status == 200
    wait_for_lines(
        moody,
        rf"\[INFO \] {WORKER}9000 Worker disconnected\. WORKER_MODEL_LOADED",
        rf"\[ERROR\] {WORKER}Backend worker error\n    killed by signal 9 \(SIGKILL\)",
        rf"\[INFO \] {WORKER}"
        r"W-9000-moody_1\.0 State change WORKER_MODEL_LOADED -> WORKER_STOPPED",
        rf"\[INFO \] {WORKER}Auto recovery start timestamp: \d{{13}}",
        rf"\[INFO \] {WORKER}Retry worker: 9000 in 0 seconds\.",
        rf"\[INFO \] {WORKER}W-9000-moody_1\.0 State change WORKER_STOPPED -> WORKER_STARTED",
        rf"\[INFO \] {WORKER}Auto recovery succeeded, reset recoveryStartTS",
    )


def test_an_answer_that_does_not_come_in_time_is_told(moody):
    assert moody.predict("late", b"sleep 30").status >= 500
    wait_for_lines(
        moody,
        r"\[INFO \] W-\d+-late_1\.0 marserve\.workers - "
        r"Number or consecutive unsuccessful inference 1",
    )


def test_a_client_that_goes_away_is_told(moody, tmp_path):
    gate = tmp_path / "gate"
    blocking = moody.block("moody", gate)
    try:
        connection = moody.connect()
        connection.request("POST", "/predictions/moody", b"x")
        moody.wait_until(lambda: moody.pending("moody") == 1)
        connection.close()
        wait_for_lines(
            moody,
            r"\[WARN \] MainThread marserve\.workers - "
            r"Connection to client got closed; Removing job: [0-9a-f-]{36}",
        )
    finally:
        gate.touch()
        blocking.join()
