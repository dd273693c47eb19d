"""Every answer is a line in the access log."""

import re
import time

import pytest
from tests.harness.answers import called, told

from marserve.events import Bus, HttpAnswered
from marserve.observe.access_log import AccessLog
from marserve.observe.logs import configure

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}"


@pytest.fixture
def logs(tmp_path):
    running = configure(tmp_path / "logs", foreground=False)
    yield running
    running.close()


def written(tmp_path, name):
    return (tmp_path / "logs" / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            HttpAnswered("management", "GET", "/models", "127.0.0.1:53124", 200, 0.0123),
            '/127.0.0.1:53124 "GET /models HTTP/1.1" 200 12',
        ),
        (
            told("m", None, 503, 1.5, "POST", "/predictions/m", "127.0.0.1:53124"),
            '/127.0.0.1:53124 "POST /predictions/m HTTP/1.1" 503 1500',
        ),
        (
            told("m", None, 200, 0.1, "GET", "/predictions/m?token=secret", "::"),
            '/:: "GET /predictions/m HTTP/1.1" 200 100',
        ),
        (
            called("a.B/C", "127.0.0.1:53124", 5, 0.0123),
            '/127.0.0.1:53124 "gRPC a.B/C HTTP/2.0" 5 12',
        ),
        (
            HttpAnswered("metrics", "GET", '/a" 200 1\n\x1b[1m\\é\x85', "[::1]:5", 404, 0.0),
            '/[::1]:5 "GET /a\\x22 200 1\\x0a\\x1b[1m\\x5cé\\x85 HTTP/1.1" 404 0',
        ),
    ],
)
def test_every_answer_is_a_line_in_torchserves_form(logs, tmp_path, event, line):
    bus = Bus()
    AccessLog(bus, logs)
    bus.publish(event)
    logs.close()
    text = written(tmp_path, "access_log.log")
    assert re.fullmatch(STAMP, text[:23])
    assert text[23:] == f" - {line}\n"
    assert written(tmp_path, "ts_log.log") == ""


def test_many_answers_are_many_lines_in_order(logs, tmp_path):
    bus = Bus()
    AccessLog(bus, logs)
    for number in range(5_000):
        bus.publish(HttpAnswered("inference", "GET", f"/{number}", "127.0.0.1:1", 200, 0.0))
    logs.close()
    paths = re.findall(r'"GET /(\d+) HTTP', written(tmp_path, "access_log.log"))
    assert paths == [str(number) for number in range(5_000)]
    assert logs.dropped == 0


def test_lines_are_written_soon_without_a_close(logs, tmp_path):
    bus = Bus()
    AccessLog(bus, logs)
    bus.publish(HttpAnswered("inference", "GET", "/ping", "127.0.0.1:1", 200, 0.0))
    deadline = time.monotonic() + 5
    while not written(tmp_path, "access_log.log") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "/ping" in written(tmp_path, "access_log.log")


def test_a_request_over_grpc_has_one_line(logs, tmp_path):
    bus = Bus()
    AccessLog(bus, logs)
    bus.publish(told("m", None, 200, 0.1, "gRPC", "a.B/C", "127.0.0.1:1"))
    bus.publish(called("a.B/C", "127.0.0.1:1", 0, 0.1))
    logs.close()
    assert written(tmp_path, "access_log.log").count("\n") == 1
