"""F41: large bodies do not hold the event loop up.

    python benchmarks/reliability/loop_lag.py --seconds 120

Clients send JSON documents and forms of 10 MiB without a pause, while others ask for little. The
server itself tells how late its loop comes to a timer (marserve_event_loop_lag_seconds); the bar is
that one turn in a thousand at most is later than 50 ms. On a machine with other work the kernel's
own delays are among the figures.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "tests" / "harness")]
sys.path[:0] = [
    str(Path(__file__).parents[2] / name) for name in ("runtime", "archiver", "handlers")
]

from budget import Budget  # noqa: E402  it lies beside this file
from running_server import Server, end  # noqa: E402  the path is set above
from standalone import standalone  # noqa: E402  as above

RELEASE_S = 600.0
BODY_BYTES = 10 << 20
SIZE_HANDLER = Path(__file__).parents[1] / "size_handler.py"
LATE_S = "0.05"
LARGE, SMALL = 2, 2
BUCKET = re.compile(r'marserve_event_loop_lag_seconds_bucket\{le="([^"]+)"\}')


def lags(server: Server) -> tuple[int, int]:
    """How many turns there were, and how many of them were not too late."""
    counts = {
        match[1]: int(value)
        for name, value in server.metrics().items()
        if (match := BUCKET.fullmatch(name))
    }
    return counts["+Inf"], counts[LATE_S]


def bodies() -> list[tuple[bytes, dict[str, str]]]:
    """10 MiB, as JSON and as a form."""
    numbers = json.dumps({"instances": list(range(BODY_BYTES // 8))}).encode()
    form = b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n'
    form += b"x" * BODY_BYTES + b"\r\n--b--\r\n"
    return [
        (numbers, {"Content-Type": "application/json"}),
        (form, {"Content-Type": "multipart/form-data; boundary=b"}),
    ]


def run(budget: Budget) -> dict[str, object]:
    """Load until the time is over, or as many turns of the timer as `--n` says."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.pack("echo", str(SIZE_HANDLER))
        server.start(load_models="echo.mar", max_request_size=3 * BODY_BYTES)
        over = threading.Event()
        failed: list[int] = []
        large = bodies()

        def send(number: int) -> None:
            turn = number
            while not over.is_set():
                body, headers = large[turn % 2] if number < LARGE else (b"x", {})
                turn += 1
                reply = server.call("POST", "inference", "/predictions/echo", body, headers)
                if reply.status >= 500:
                    failed.append(reply.status)

        clients = [threading.Thread(target=send, args=(i,)) for i in range(LARGE + SMALL)]
        before = lags(server)
        for client in clients:
            client.start()
        try:
            most = budget.trials(most=10_000, each_s=0.1)
            while lags(server)[0] - before[0] < most and not budget.is_over:
                time.sleep(1.0)
            turns, in_time = (now - then for now, then in zip(lags(server), before, strict=True))
        finally:
            over.set()
            for client in clients:
                client.join()
            end(server)
    late = turns - in_time
    return {
        "property": "event loop: turns later than 50 ms",
        "n": turns,
        "bar": "≤ 0.1 %",
        "figure": f"{late / turns:.2%}" if turns else "none",
        "passed": turns > 0 and late <= 0.001 * turns,
        "notes": f"F41; {LARGE} clients with 10 MiB bodies, {SMALL} with small ones, "
        f"{len(failed)} errors",
        "unit": "turn",
    }


if __name__ == "__main__":
    standalone(run)
