"""What an HTTP front costs before there is a model behind it: ours against uvicorn.

    python benchmarks/http_front.py --uvicorn-python PYTHON [--seconds 4] [--rounds 3]

Each answers every POST with the same bytes from one process and is driven by `wrk` with a small
JSON body. uvicorn runs a bare ASGI function on uvloop and httptools, without access log; it is
taken from the interpreter named, never installed beside the product. The table is kept in
`benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "http_front.md"
CONNECTIONS = (1, 16, 64)
PORT = 18090
OURS = f"""
import asyncio, socket, uvloop
from marserve.protocols.heads import Heads
from marserve.servers.http import HttpServer
from marserve.servers.request_ids import RequestIds

async def main():
    sock = socket.create_server(("127.0.0.1", {PORT}))
    sock.setblocking(False)
    ids, heads = RequestIds(), Heads()
    def answer(exchange):
        exchange.respond(heads.plain(ids.draw(), 2, exchange.keep_alive), b"ok")
    await HttpServer(sock, 1 << 20, answer, lambda exchange, status: None).start()
    await asyncio.Event().wait()

uvloop.run(main())
"""
UVICORN = f"""
import uvicorn

HEADERS = [(b"content-length", b"2"), (b"pragma", b"no-cache")]

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({{"type": "http.response.start", "status": 200, "headers": HEADERS}})
    await send({{"type": "http.response.body", "body": b"ok"}})

uvicorn.run(app, port={PORT}, loop="uvloop", http="httptools", log_level="error", lifespan="off")
"""


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uvicorn-python", required=True)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    fronts = {
        "uvicorn, bare ASGI": [options.uvicorn_python, "-c", UVICORN],
        "servers/connection.py": [sys.executable, "-c", OURS],
    }
    per_s: dict[tuple[str, int], list[float]] = {}
    for _ in range(options.rounds):
        for name, command in fronts.items():
            process = subprocess.Popen(command)
            try:
                _wait()
                for connections in CONNECTIONS:
                    figure = _wrk(connections, options.seconds)
                    per_s.setdefault((name, connections), []).append(figure)
                    print(f"{name:24} c={connections:<3} {figure:9.0f}/s", file=sys.stderr)
            finally:
                process.terminate()
                process.wait(10)
    lines = [
        "# An HTTP front without a model",
        "",
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores shared with the load "
        f"generator. Requests per second, median of {options.rounds} rounds of "
        f"{options.seconds} s.",
        "",
        "| connections | " + " | ".join(fronts) + " | ratio |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for connections in CONNECTIONS:
        figures = [statistics.median(per_s[name, connections]) for name in fronts]
        row = " | ".join(f"{figure:,.0f}" for figure in figures)
        lines.append(f"| {connections} | {row} | {figures[1] / figures[0]:.1f} |")
    table = "\n".join(lines) + "\n"
    print(table)
    RESULT.write_text(table)


def _wait() -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
        try:
            connection.request("POST", "/", b"x")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    sys.exit("the front did not come up")


def _wrk(connections: int, seconds: int) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("wrk.method = 'POST'\nwrk.body = '{\"instances\": [[1.0, 2.0, 5.0]]}'\n")
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name]
        command.append(f"http://127.0.0.1:{PORT}/")
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert found is not None, text
    return float(found[1])


if __name__ == "__main__":
    main()
