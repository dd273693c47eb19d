"""A request's way through a real server: bodies, methods, headers, batches."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def server(shared_server):
    shared_server.pack("echo", "echo.py")
    shared_server.pack("moody", "moody.py")
    shared_server.start(load_models="echo.mar,moody.mar", batch_size=8)
    assert shared_server.problems == []
    return shared_server


@pytest.mark.parametrize(
    ("content_type", "body", "keys", "seen"),
    [
        (None, b"raw", ["body"], "raw"),
        ("application/octet-stream", b"\x00\xff", ["body"], "\x00\xff"),
        ("application/json", b'{"a": [1, 2]}', ["body"], {"a": [1, 2]}),
        ("application/json; charset=utf-8", b"[1]", ["body"], [1]),
        ("application/json", b"{broken", ["body"], "{broken"),
        ("text/plain", "h\u00e9".encode(), ["body"], "h\u00e9"),
        ("application/x-www-form-urlencoded", b"data=1+2&x=%41", ["data", "x"], ""),
        ("application/x-www-form-urlencoded", b"body=1", ["body"], "1"),
        ("image/jpeg", b"", ["body"], ""),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_a_body_reaches_the_handler_as_its_content_type_says(
    server, method, content_type, body, keys, seen
):
    headers = {"Content-Type": content_type} if content_type else {}

    reply = server.call(method, "inference", "/predictions/echo", body, headers)

    assert reply.status == 200
    assert reply.json()["keys"] == keys
    assert reply.json()["body"] == seen


def test_a_multipart_form_gives_a_row_key_per_part(server):
    body = (
        b"--B\r\nContent-Disposition: form-data; name=data; filename=k.jpg\r\n"
        b"Content-Type: image/jpeg\r\n\r\n\xff\xd8pixels\r\n"
        b'--B\r\nContent-Disposition: form-data; name="body"\r\n\r\nthree\r\n--B--\r\n'
    )

    reply = server.predict("echo", body, Content_Type="multipart/form-data; boundary=B")

    assert reply.json()["keys"] == ["body", "data"]
    assert reply.json()["body"] == "three"
    assert reply.json()["headers"]["data"] == {"content-type": "image/jpeg"}


def test_curl_uploads_a_file_as_torchserve_users_do(server, tmp_path: Path):
    (tmp_path / "kitten.jpg").write_bytes(b"meow")
    url = server.addresses["inference"] + "/predictions/echo"

    answer = subprocess.run(
        ["curl", "-sS", "-X", "POST", url, "-T", str(tmp_path / "kitten.jpg")],
        capture_output=True,
        check=True,
    )

    assert json.loads(answer.stdout)["body"] == "meow"


def test_an_answer_carries_a_request_id_and_forbids_caching(server):
    first, second = server.predict("echo"), server.predict("echo")

    assert UUID4.fullmatch(first.headers["x-request-id"])
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["Cache-Control"] == "no-cache; no-store, must-revalidate, private"
    assert "content-type" not in {name.lower() for name in first.headers}


def test_the_handler_sees_headers_as_they_were_sent_and_the_rest_of_the_path(server):
    target = "/predictions/echo/1.0/a/b%20c?x=1"

    reply = server.call("POST", "inference", target, b"", {"X-Custom": "V"})

    headers = reply.json()["headers"]
    assert headers["X-Custom"] == "V"
    assert headers["url_path"] == "a/b c"
    assert headers["explain"] == "False"


def test_a_handler_chooses_status_phrase_and_headers_of_its_own_row(server):
    reply = server.predict("moody", b"status 418")
    labelled = server.predict("moody", b"header X-Label=cat")

    assert (reply.status, reply.body) == (418, b"status 418")
    assert labelled.headers["X-Label"] == "cat"


@pytest.mark.parametrize("rest", [b"X-Label=a\r\nSet-Cookie: b", b"Bad Name=a"])
def test_a_header_that_would_split_the_answer_is_an_error_instead(server, rest):
    reply = server.predict("moody", b"header " + rest)

    assert reply.status == 503
    assert "header" in reply.json()["message"]
    assert "Set-Cookie" not in reply.headers


def test_requests_that_wait_for_a_worker_leave_together(server, crowd, tmp_path: Path):
    gate = tmp_path / "open"
    blocked = server.block("moody", gate)
    waiting = crowd(lambda i: server.predict("moody", f"hello {i}".encode()), 7)
    server.wait_until(lambda: server.pending("moody") == 7)

    gate.touch()

    assert [reply.status for reply in blocked.join() + waiting.join()] == [200] * 8
    assert [reply.body for reply in waiting.join()] == [f"hello {i}".encode() for i in range(7)]
    metrics = server.metrics()
    assert (
        metrics['marserve_batch_size_bucket{le="4.0",model_name="moody",model_version="1.0"}']
        < (metrics['marserve_batch_size_bucket{le="8.0",model_name="moody",model_version="1.0"}'])
    )


def test_ping_says_healthy(server):
    reply = server.call("GET", "inference", "/ping")

    assert (reply.status, reply.json()) == (200, {"status": "Healthy"})


def test_what_happened_is_in_the_metrics_under_torchserve_names_and_ours(server):
    host = '{hostname="'
    before = server.metrics()
    server.predict("echo")
    server.predict("nobody")
    server.predict("echo/1.0")

    after = server.metrics()

    def grown(prefix: str, *labels: str) -> float:
        names = [n for n in after if n.startswith(prefix) and all(label in n for label in labels)]
        assert names, (prefix, labels)
        return sum(after[name] - before.get(name, 0.0) for name in names)

    assert host in next(name for name in after if name.startswith("ts_inference_requests_total"))
    assert grown("ts_inference_requests_total", 'model_name="echo"', '"default"') == 1
    assert grown("ts_inference_requests_total", 'model_name="echo"', '"1.0"') == 1
    assert grown("ts_inference_latency_microseconds", 'model_name="echo"') > 0
    assert grown("ts_queue_latency_microseconds", 'model_name="echo"') > 0
    assert grown("Requests4XX") == 1
    assert grown("marserve_request_latency_seconds_count", 'model_name="echo"') == 2
    assert grown("marserve_queue_time_seconds_count", 'model_name="echo"') == 2
    assert grown("marserve_handler_time_seconds_count", 'model_name="echo"') == 2
    assert grown("marserve_batch_size_count", 'model_name="echo"') == 2
    assert after['marserve_workers{model_name="echo",model_version="1.0",state="ready"}'] == 1


def test_the_access_log_has_torchserves_form(server):
    server.call("POST", "inference", "/predictions/echo/1.0/marked?secret=1", b"x")
    log = server.root / "logs" / "access_log.log"

    server.wait_until(lambda: "marked" in log.read_text())

    line = next(line for line in log.read_text().splitlines() if "marked" in line)
    assert re.fullmatch(
        r'\S+ - /127\.0\.0\.1:\d+ "POST /predictions/echo/1\.0/marked HTTP/1.1" 200 \d+', line
    )
