"""`marserve bench` against a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from running_server import Server, end
from scripted_http import Certificates


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    """One with a model that answers at once, and one that does as it is told."""
    shared_server.pack("echo", "echo.py")
    shared_server.pack("moody", "moody.py", "2.0")
    (shared_server.root / "a.json").write_text('{"a": 1}')
    (shared_server.root / "b.bin").write_bytes(b"x" * 2000)
    (shared_server.root / "sleep.bin").write_bytes(b"sleep 0.05")
    (shared_server.root / "raise.bin").write_bytes(b"raise this")
    models = {"echo": {"1.0": {"marName": "echo.mar", "batchSize": 4, "maxBatchDelay": 1}}}
    return shared_server.start(
        load_models="echo.mar,moody.mar",
        models=json.dumps(models),
        enable_metrics_api="true",
    )


ALL = ("inference", "metrics", "management")
SHORT = ("--seconds", "0.3", "--warm-up", "0.1")


def command(server: Server, *arguments: str, ports: tuple[str, ...] = ALL) -> list[str]:
    named = [f"--{port}={server.addresses[port]}" for port in ports]
    return [sys.executable, "-m", "marserve", "bench", *arguments, *named]


def bench(
    server: Server, *arguments: str, code: int = 0, ports: tuple[str, ...] = ALL
) -> tuple[str, str]:
    """What it prints to stdout and to stderr."""
    done = subprocess.run(
        command(server, *arguments, ports=ports),
        cwd=server.root,
        capture_output=True,
        timeout=60,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_the_table_the_bars_the_document_and_the_plot(server):
    said, _ = bench(
        server,
        *("echo", "-i", "a.json", "-i", "b.bin", "-c", "1,8", *SHORT),
        *("--json", "out.json", "--plot", "out.svg"),
    )

    assert "2 bodies of 8 B to 2.0 KiB" in said
    titles = next(line for line in said.splitlines() if line.startswith("CONNECTIONS"))
    assert "BATCH  FILL  SERVER CPU  CLIENT CPU  FAILED" in titles
    legend = next(line for line in said.splitlines() if "░░ wire" in line)
    # a batch that was held back for a moment adds `linger`
    assert [word for word in legend.split() if word.isalpha() and word != "linger"][-4:] == [
        "wire",
        "queue",
        "batch",
        "handler",
    ]
    made = json.loads((server.root / "out.json").read_text())
    one, eight = made["points"]
    assert made["batch_size"] == 4
    for point in (one, eight):
        assert point["failed"] == 0
        assert point["succeeded"] > 20
        assert sum(point["mean_ms"].values()) == pytest.approx(point["latency_ms"]["mean"])
        assert min(point["mean_ms"].values()) >= 0
        assert 0 < point["generator_cpu_share"] < 2
    assert one["server"]["mean_batch_size"] == 1
    assert 1 < eight["server"]["mean_batch_size"] <= 4
    ElementTree.parse(server.root / "out.svg")


def test_the_time_goes_where_it_goes(server):
    said, progress = bench(server, *("moody", "-i", "sleep.bin", "-c", "3", "--json", "-"),
                    *("--seconds", "0.6", "--warm-up", "0.3"))  # fmt: skip
    (point,) = json.loads(said)["points"]
    # one worker, one request at a time: each sleeps and waits for the sleep of two others
    assert point["mean_ms"]["handler"] >= 50
    assert point["mean_ms"]["queue"] >= 1.5 * point["mean_ms"]["handler"]
    assert point["mean_ms"]["wire"] < 50
    assert point["server"]["batch_fill"] == 1
    assert "\nPoint 1 of 1: 3 connections .\n" in progress


def test_a_fixed_rate_beyond_what_the_model_can_do_is_seen_as_latency(server):
    said, _ = bench(server, *("moody", "-i", "sleep.bin", "-c", "2", "--rate", "100", *SHORT))
    assert "100/s were planned" in said
    assert "·· connection" in said


def test_a_folder_of_bodies_takes_turns_and_refusals_are_no_throughput(server, tmp_path):
    for name in ("sleep.bin", "raise.bin"):
        (tmp_path / name).write_bytes((server.root / name).read_bytes())
    (tmp_path / "asleep.bin").write_bytes(b"hello")
    said, _ = bench(server, "moody", "-i", str(tmp_path), "-c", "1", *SHORT, "--json", "out.json")
    (point,) = json.loads((server.root / "out.json").read_text())["points"]
    (failure,) = point["failures"]
    assert (failure["kind"], failure["count"]) == ("503", point["failed"])
    assert "failed with 503 (Prediction failed: ValueError: cannot digest this)" in said
    assert abs(point["succeeded"] - 2 * point["failed"]) <= 2


def test_without_the_other_ports_it_says_what_is_missing(server):
    said, _ = bench(server, "echo", "-i", "a.json", "-c", "1", *SHORT, ports=("inference",))
    assert "SERVER CPU" not in said
    assert "give --metrics URL and --management URL of the same server" in said


def test_the_server_is_found_by_its_configuration(server):
    said, _ = bench(server, "echo", "-i", "a.json", "-c", "1", *SHORT, ports=())
    assert said.startswith(f"echo at {server.addresses['inference']}: one body of 8 B")
    assert "SERVER CPU" in said


def test_a_metrics_port_that_is_none_costs_columns_but_no_figures(server):
    address = server.addresses["management"]
    said, _ = bench(server, "echo", "-i", "a.json", "-c", "1", *SHORT, f"--metrics={address}",
                    ports=())  # fmt: skip
    assert "SERVER CPU" not in said
    assert f"{address}/metrics answers with 404" in said


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("nobody", "-i", "a.json"), 1, "marserve: Model not found: nobody (404 ModelNotFound"),
        (("echo", "--version", "9", "-i", "a.json"), 1, "(404 ModelVersionNotFound"),
        (("moody", "-i", "raise.bin"), 1, "cannot digest this (503 InternalServerException)"),
        (("echo", "-i", "nope.bin"), 2, "'nope.bin' does not exist"),
        (("echo", "-i", "logs", "-c", "0"), 2, "0 is not in the range 1 to 10000"),
        (("echo", "-i", "a.json", "-c", "1,x"), 2, "1,x is not a list of whole numbers"),
        (("echo", "-i", "a.json", "-c", "10001"), 2, "10001 is not in the range 1 to 10000"),
        (("echo", "-i", "a.json", "--plot", "a.png"), 2, "a.png is not an .svg file"),
        (("echo", "-i", "a.json", "--plot", "no/a.svg"), 1, "no/a.svg cannot be written"),
        (("echo", "-i", "a.json", "-H", "no header"), 2, "is not a header like"),
        (("echo", "-i", "a.json", "-H", "A: b\nC: d"), 2, "is not a header like"),
        (("echo", "-i", "empty"), 1, "There are no files in the folder empty"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(server, arguments, code, sentence):
    (server.root / "empty").mkdir(exist_ok=True)
    said, error = bench(server, *arguments, code=code)
    assert sentence in error
    assert "ANSWERS/S" not in said


def test_no_server_is_a_sentence(server):
    _, error = bench(server, "echo", "-i", "a.json", "--inference", "http://127.0.0.1:1", code=1,
                     ports=())  # fmt: skip
    assert error.startswith("marserve: No server answers at http://127.0.0.1:")


def test_the_limit_of_open_files_is_named():
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); "
        "from marserve.cli import main; main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "bench", "m", "-i", __file__, "-c", "500"],
        capture_output=True,
        timeout=60,
        text=True,
    )
    assert done.returncode == 1
    assert "This needs 564 open files, and the system allows 200" in done.stderr


def test_an_interrupt_shows_what_was_measured_so_far(server):
    arguments = ("moody", "-i", "sleep.bin", "-c", "1,2", "--seconds", "30", "--warm-up", "0")
    environ = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command(server, *arguments),
        cwd=server.root,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    for _ in range(2):  # dots: one per second of a point
        while process.stderr.read(1) != b".":
            pass
    process.send_signal(signal.SIGINT)
    said, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert b"1 connection: interrupted after " in said
    assert b"marserve: interrupted." in error
    assert b"Traceback" not in error


@pytest.fixture
def another(tmp_path):
    """A server of its own that is not started yet."""
    one = Server(tmp_path)
    one.pack("echo", "echo.py")
    (tmp_path / "a.json").write_text('{"a": 1}')
    yield one
    end(one)


def test_unix_sockets_are_measured(another, tmp_path):
    addresses = {f"{port}_address": f"unix:{tmp_path}/{port}.sock" for port in ALL}
    another.start(load_models="echo.mar", **addresses)
    said, _ = bench(another, "echo", "-i", "a.json", "-c", "2", *SHORT)
    assert said.startswith(f"echo at unix:{tmp_path}/inference.sock")
    assert "SERVER CPU" in said


def test_https_is_measured_if_the_certificate_is_trusted(another, tmp_path, monkeypatch):
    authority = Certificates()
    certificate, key = authority.write(tmp_path, "localhost", "127.0.0.1")
    addresses = {f"{port}_address": "https://127.0.0.1:0" for port in ALL}
    another.start(
        load_models="echo.mar", certificate_file=certificate, private_key_file=key,
        enable_grpc_api="false", **addresses,
    )  # fmt: skip
    _, error = bench(another, "echo", "-i", "a.json", "-c", "2", *SHORT, code=1)
    assert "certificate verify failed" in error
    (tmp_path / "authority.pem").write_text(authority.authority_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    said, _ = bench(another, "echo", "-i", "a.json", "-c", "2", *SHORT)
    assert "SERVER CPU" in said


def test_a_token_is_sent_in_a_header(another):
    another.start(load_models="echo.mar", disable_token_authorization="false",
                  inference_token="i" * 20, management_token="m" * 20)  # fmt: skip
    _, error = bench(another, "echo", "-i", "a.json", *SHORT, code=1)
    assert "(401 " in error
    bearer = f"Authorization: Bearer {'i' * 20}"
    said, _ = bench(another, "echo", "-i", "a.json", "-c", "1", *SHORT, "-H", bearer)
    assert "SERVER CPU" in said
    assert "How full the batches were is not known: " in said


def test_a_server_that_ends_meanwhile_leaves_what_was_measured(another):
    another.start(load_models="echo.mar")
    arguments = ("echo", "-i", "a.json", "-c", "1,2", "--seconds", "1.5", "--warm-up", "0.1")
    process = subprocess.Popen(
        command(another, *arguments, "--json", "out.json"),
        cwd=another.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    while process.stderr.read(1) != b".":
        pass
    another.stop(signal.SIGKILL)
    said, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"marserve: No server answers at http://127.0.0.1:" in error
    assert b" failed with connection broken" in said
    (point,) = json.loads((another.root / "out.json").read_text())["points"]
    assert point["succeeded"] > 10
    assert "no connection" in [failure["kind"] for failure in point["failures"]]
