"""Log lines reach their files, cannot be forged, and hold nobody up."""

import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import marserve
from marserve.errors import ConfigInvalid
from marserve.events import Bus, HttpAnswered
from marserve.observe import log_writer
from marserve.observe.access_log import AccessLog
from marserve.observe.logs import MODEL_METRIC_LINES, SERVER_METRIC_LINES, configure

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}"
RUNTIME = Path(marserve.__file__).parents[1]


@pytest.fixture
def logs(tmp_path):
    running = configure(tmp_path / "logs", foreground=False)
    yield running
    running.close()


def written(tmp_path, name):
    return (tmp_path / "logs" / name).read_text("utf-8")


def test_all_files_exist_from_the_start(logs, tmp_path):
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {
        "access_log.log",
        "model_log.log",
        "model_metrics.log",
        "ts_log.log",
        "ts_metrics.log",
    }


def test_the_metrics_files_can_be_elsewhere(tmp_path):
    logs = configure(tmp_path / "logs", foreground=False, metrics_log_dir=tmp_path / "a" / "b")
    logs.add_line(SERVER_METRIC_LINES, "server 1")
    logs.add_line(MODEL_METRIC_LINES, "model 1")
    logs.add_line(MODEL_METRIC_LINES, "model 2")
    logs.close()
    files = {path.name: path.read_text() for path in (tmp_path / "a" / "b").iterdir()}
    assert files == {
        "ts_metrics.log": "server 1\n",
        "model_metrics.log": "model 1\nmodel 2\n",
    }
    assert len(list((tmp_path / "logs").iterdir())) == 3


def test_each_record_goes_to_its_own_file_in_torchserves_form(logs, tmp_path):
    logging.getLogger("marserve.registry").warning("Model %s is %s.", "m", "late")
    logging.getLogger("marserve.model").info("loading", extra={"worker": "W-9000-m_1.0-stdout"})
    logging.getLogger("marserve.registry").debug("not wanted")
    logs.close()
    assert re.fullmatch(
        STAMP + r" \[WARN \] MainThread marserve.registry - Model m is late\.\n",
        written(tmp_path, "ts_log.log"),
    )
    assert re.fullmatch(
        STAMP + r" \[INFO \] W-9000-m_1.0-stdout marserve.model - loading\n",
        written(tmp_path, "model_log.log"),
    )
    assert written(tmp_path, "access_log.log") == ""


def test_a_traceback_is_written_with_its_error(logs, tmp_path):
    try:
        raise ZeroDivisionError("secret")
    except ZeroDivisionError:
        logging.getLogger("marserve.faults").exception("Incident 7")
    logs.close()
    lines = written(tmp_path, "ts_log.log").splitlines()
    assert lines[0].endswith("- Incident 7")
    assert lines[1] == "    Traceback (most recent call last):"
    assert lines[-1] == "    ZeroDivisionError: secret"


def test_a_line_cannot_be_forged_and_a_terminal_not_steered(logs, tmp_path):
    logging.getLogger("marserve").info(
        "a\n2026-01-01T00:00:00,000 [ERROR] b\r\x1b[2Jc\u2028\udc80\x9b"
    )
    logs.close()
    first, second = written(tmp_path, "ts_log.log").split("\n", 1)
    assert first.endswith("- a")
    assert second == "    2026-01-01T00:00:00,000 [ERROR] b\\x0d\\x1b[2Jc\\u2028\\udc80\\x9b\n"


def test_a_record_that_is_very_long_is_cut(logs, tmp_path):
    logging.getLogger("marserve").info("x" * 100_000)
    logs.close()
    text = written(tmp_path, "ts_log.log")
    assert len(text) < 17_000
    assert re.search(r"x \.\.\. \(\d+ more characters\)\n$", text)


# --- trouble ---


def test_a_directory_that_cannot_be_written_is_told_with_a_remedy(tmp_path):
    (tmp_path / "logs" / "ts_log.log").mkdir(parents=True)
    with pytest.raises(ConfigInvalid, match="LOG_LOCATION"):
        configure(tmp_path / "logs", foreground=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigInvalid, match="METRICS_LOCATION"):
        configure(tmp_path / "others", foreground=False, metrics_log_dir=tmp_path / "file")
    with pytest.raises(ConfigInvalid, match="LOG_LOCATION"):
        configure(tmp_path / "file", foreground=False)


def test_a_full_disk_costs_the_lines_and_nothing_else(tmp_path):
    (tmp_path / "logs").mkdir()
    for name in ("access_log.log", "ts_log.log"):
        (tmp_path / "logs" / name).symlink_to("/dev/full")
    logs = configure(tmp_path / "logs", foreground=False)
    bus = Bus()
    AccessLog(bus, logs)
    for _ in range(3):
        logging.getLogger("marserve").info("lost")
        bus.publish(HttpAnswered("inference", "GET", "/ping", "127.0.0.1:1", 200, 0.0))
    logging.getLogger("marserve.model").info("kept")
    logs.close()
    assert logs.dropped == 6
    assert "kept" in written(tmp_path, "model_log.log")


@pytest.fixture
def stuck_logs(tmp_path, monkeypatch):
    """Logs whose writer stands still from the first record on; and what sets it going again."""
    monkeypatch.setattr(log_writer, "BUFFER_RECORDS", 100)
    monkeypatch.setattr(log_writer, "BUFFER_LINES", 50)
    entered, go_on = threading.Event(), threading.Event()

    def block(record):
        entered.set()
        return go_on.wait(10)

    logs = configure(tmp_path / "logs", foreground=False)
    for reference in list(logging._handlerList):
        handler = reference()
        if getattr(handler, "baseFilename", "").startswith(str(tmp_path)):
            handler.addFilter(block)
    logging.getLogger("marserve").info("first")
    assert entered.wait(10)
    yield logs, go_on
    go_on.set()
    logs.close()


def test_a_writer_that_stands_still_costs_the_oldest_records(stuck_logs, tmp_path):
    logs, go_on = stuck_logs
    for number in range(300):
        logging.getLogger("marserve").info("record %d", number)
    assert logs.dropped == 200
    go_on.set()
    logs.close()
    text = written(tmp_path, "ts_log.log")
    kept = [int(number) for number in re.findall(r"record (\d+)", text)]
    assert kept == list(range(200, 300))
    assert "200 log records were dropped" in text


def test_a_writer_that_stands_still_costs_the_oldest_access_lines(stuck_logs, tmp_path):
    logs, go_on = stuck_logs
    bus = Bus()
    AccessLog(bus, logs)
    for number in range(80):
        bus.publish(HttpAnswered("inference", "GET", f"/{number}", "127.0.0.1:1", 200, 0.0))
    assert logs.dropped == 30
    go_on.set()
    logs.close()
    kept = [int(n) for n in re.findall(r'"GET /(\d+) ', written(tmp_path, "access_log.log"))]
    assert kept == list(range(30, 80))


def test_close_gives_the_root_logger_back_and_may_be_called_twice(tmp_path):
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    threads = threading.active_count()
    logs = configure(tmp_path / "logs", foreground=False)
    assert len(root.handlers) == len(before[1]) + 1
    logs.close()
    logs.close()
    assert (root.level, list(root.handlers)) == before
    assert threading.active_count() == threads


# --- the console, in a process of its own ---

PROGRAM = """
    import logging, sys
    from pathlib import Path
    from marserve.observe.logs import configure
    logs = configure(Path(sys.argv[1]), foreground=True)
    for number in range(int(sys.argv[2])):
        logging.getLogger("marserve.server").info("line %d", number)
    logs.close(0.3)
    sys.stderr.write(f"dropped {logs.dropped}")
"""


def program(tmp_path, lines):
    code = textwrap.dedent(PROGRAM)
    return [sys.executable, "-W", "error", "-c", code, str(tmp_path / "logs"), str(lines)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(RUNTIME)}


def test_a_collector_gets_full_lines_on_stdout(tmp_path):
    done = subprocess.run(
        program(tmp_path, 2), env=ENVIRONMENT, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "dropped 0")
    assert re.fullmatch(
        rf"({STAMP} \[INFO \] MainThread marserve.server - line \d\n){{2}}", done.stdout
    )
    assert len(written(tmp_path, "ts_log.log").splitlines()) == 2


def test_a_terminal_gets_short_lines(tmp_path):
    ours, theirs = os.openpty()
    try:
        subprocess.run(
            program(tmp_path, 1),
            env=ENVIRONMENT,
            stdout=theirs,
            stderr=subprocess.PIPE,
            timeout=30,
            check=True,
        )
        shown = os.read(ours, 1000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO  line 0\r\n", shown)


def test_a_pipe_that_nobody_reads_stops_neither_the_files_nor_the_exit(tmp_path):
    unread, stuck = os.pipe()
    try:
        done = subprocess.run(
            program(tmp_path, 5_000),
            env=ENVIRONMENT,
            stdout=stuck,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    finally:
        os.close(unread)
        os.close(stuck)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("dropped ")
    assert len(written(tmp_path, "ts_log.log").splitlines()) == 5_000


def test_a_pipe_that_is_closed_is_no_reason_to_end(tmp_path):
    unread, broken = os.pipe()
    os.close(unread)
    try:
        done = subprocess.run(
            program(tmp_path, 3),
            env=ENVIRONMENT,
            stdout=broken,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    finally:
        os.close(broken)
    assert (done.returncode, done.stderr) == (0, "dropped 3")
