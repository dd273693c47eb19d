"""SEC-24, F33: no line of a log is a stranger's, none is endless, and nobody waits for a log.

Random bytes in paths, headers, model names and what handlers print: every line that looks like one
was written for one event, whatever the bytes were.
"""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from running_server import Server, end

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3} ")
FORGED = "2026-01-01T00:00:00,000 [ERROR] MainThread marserve.forged - it was somebody else"
EVIL = (
    f"\n{FORGED}",
    f"\r\n{FORGED}",
    f"\u2028{FORGED}",
    f"\u2029{FORGED}",
    f"\x85{FORGED}",
    f"\x0b{FORGED}",
    f"\x0c{FORGED}",
    f"\x1c{FORGED}",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "\x00",
    '" 200 0',
)
MAX_LINE_CHARS = 8 * 1024 + 200
"""What the record's own words, the note of a cut and the indentation add to the limit."""


def lines(server: Server, name: str) -> list[str]:
    """As a reader takes them who believes in every end of line that Unicode has."""
    text = (server.root / "logs" / name).read_bytes().decode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", text)
    return text.splitlines()


def random_bytes(dice: random.Random) -> bytes:
    evil = dice.choice(EVIL).encode()
    return dice.randbytes(dice.randint(0, 40)) + evil + dice.randbytes(dice.randint(0, 40))


def raw_request(server: Server, port: str, request: bytes) -> None:
    with server.raw(port) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


def answered(server: Server) -> int:
    """How many lines of the access log look like lines."""
    return len(lines(server, "access_log.log"))


@pytest.mark.parametrize("port", ["inference", "management"])
def test_whatever_a_request_holds_it_is_one_line_of_the_access_log(open_server, port):
    dice = random.Random(24)  # the same bytes each time
    before = answered(open_server)
    sent = 60
    for _ in range(sent):
        path = b"/predictions/" + re.sub(rb"[ \t\r\n\x00#?]", b"%0a", random_bytes(dice))
        header = re.sub(rb"[\r\n\x00]", b"", random_bytes(dice))
        raw_request(
            open_server,
            port,
            b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: " + header + b"\r\n"
            b"X-Request-Id: " + header + b"\r\nConnection: close\r\n\r\n",
        )
    open_server.wait_until(lambda: answered(open_server) >= before + sent)
    found = lines(open_server, "access_log.log")
    assert len(found) == before + sent
    assert all(STAMP.match(line) for line in found)


def test_nor_does_a_method_of_grpc_make_more_than_one_line(open_server):
    """HTTP/2 carries any byte in a path, and clients choose it."""
    host, port = open_server.address("grpc_inference")
    before = answered(open_server)
    evils = [evil.replace("\x00", "") or "x" for evil in EVIL]
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for evil in evils:
            call = channel.unary_unary(f"/a.B/{evil}", bytes, bytes)
            with pytest.raises(grpc.RpcError):
                call(b"", timeout=10)
    open_server.wait_until(lambda: answered(open_server) > before)
    found = lines(open_server, "access_log.log")
    assert before < len(found) <= before + len(evils)
    assert all(STAMP.match(line) for line in found)


def test_a_long_path_is_a_line_of_bounded_length(open_server):
    before = answered(open_server)
    raw_request(open_server, "inference", b"GET /" + b"a" * 7000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    raw_request(
        open_server, "inference", b"GET /" + b"\xc2\x9b" * 3500 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    open_server.wait_until(lambda: answered(open_server) >= before + 2)
    assert max(map(len, lines(open_server, "access_log.log"))) <= MAX_LINE_CHARS


def test_what_a_handler_prints_never_begins_a_line_of_its_own(open_server):
    dice = random.Random(25)
    for _ in range(40):
        printed = b"m:" + random_bytes(dice).replace(b"\n", b"\r")
        assert open_server.predict("hostile", b"print " + printed.hex().encode()).status == 200
    endless = b"m:" + b"e" * 30_000
    assert open_server.predict("hostile", b"print " + endless.hex().encode()).status == 200
    assert open_server.predict("hostile", b"print " + b"m:end".hex().encode()).status == 200
    open_server.wait_until(lambda: lines(open_server, "model_log.log")[-1].endswith("m:end"))
    found = lines(open_server, "model_log.log")
    assert all(STAMP.match(line) for line in found)
    assert all("W-" in line.split(" - ")[0] for line in found)
    assert max(map(len, found)) <= MAX_LINE_CHARS
    assert sum(" - m:" in line for line in found) == 42


def test_names_of_models_are_quoted_in_the_servers_own_log(open_server):
    for evil in EVIL:
        target = "/models?url=" + "".join(f"%{byte:02x}" for byte in evil.encode())
        assert open_server.manage("POST", target).status in (400, 404)
    assert all(
        STAMP.match(line) or line.startswith("    ") for line in lines(open_server, "ts_log.log")
    )
    assert not any(
        line.startswith("2026-01-01T00:00:00,000") for line in lines(open_server, "ts_log.log")
    )


def test_a_handler_that_prints_without_end_is_cut_short_and_told_of(open_server):
    asked = 60_000
    assert open_server.predict("hostile", b"lines %d" % asked).status == 200

    def dropped() -> int:
        text = (open_server.root / "logs" / "model_log.log").read_text()
        return sum(map(int, re.findall(r" - (\d+) lines were dropped", text)))

    def written() -> int:
        text = (open_server.root / "logs" / "model_log.log").read_text()
        return text.count("a line that nobody needs")

    def is_all_told() -> bool:
        # what is printed later tells of what was dropped before
        assert open_server.predict("hostile", b"print 6d").status == 200
        return written() + dropped() == asked

    open_server.wait_until(is_all_told)
    assert 5000 <= written() <= 10_000


# --- logs that cannot be written -------------------------------------------------------------


def test_a_full_disk_under_the_logs_costs_nobody_an_answer(server):
    """F33: every write fails; requests are served, and the server can be stopped."""
    logs = server.root / "logs"
    logs.mkdir()
    for name in ("access_log.log", "model_log.log"):
        (logs / name).symlink_to("/dev/full")
    server.pack("hostile", "hostile.py")
    server.start(load_models="hostile.mar")
    statuses = {server.predict("hostile", b"print 6d").status for _ in range(200)}
    assert statuses == {200}
    assert server.metrics()["marserve_log_records_dropped_total"] > 0
    assert server.stop() == 0


def test_an_output_that_nobody_reads_costs_nobody_an_answer(tmp_path: Path):
    """F33: the pipe is full for good; a thread of the log waits, and nothing else does."""
    server = Server(tmp_path)
    server.pack("hostile", "hostile.py")
    read_fd, write_fd = os.pipe()
    popen = subprocess.Popen
    patch = pytest.MonkeyPatch()

    def unread(*args: Any, **options: Any) -> Any:
        return popen(*args, **(options | {"stdout": write_fd}))

    patch.setattr(subprocess, "Popen", unread)
    try:
        server.start(load_models="hostile.mar")
        patch.undo()
        assert server.failed is None
        count = 1200  # more than a pipe holds
        replies = [server.predict("hostile", b"x" * 50).status for _ in range(count)]
        assert replies == [200] * count
        assert server.manage("GET", "/models").status == 200
        assert threading.active_count() < 50
        server.wait_until(lambda: answered(server) >= count)
    finally:
        patch.undo()
        os.close(write_fd)
        end(server)
        os.close(read_fd)
