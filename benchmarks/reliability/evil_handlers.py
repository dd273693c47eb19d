"""F38: handlers that misbehave in every way we could think of; what breaks is their own worker.

After each deed the same model must answer again, an innocent model must never have noticed, and
nothing may be left of what was started.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from budget import Budget
from outcome import Outcome
from standalone import standalone

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

from running_server import Server

RELEASE_S = 1200.0
MOST = 1200
DEEDS = (
    *("exit_at_once", "exit_politely", "close_descriptors", "close_all_descriptors"),
    *("fork_and_return", "fork_many", "leave_the_folder", "ignore_signals", "stop_itself"),
    *("open_the_umask", "wipe_the_environment", "break_sockets", "break_sockets_wholly"),
    *("empty_the_modules", "print_much", "print_without_end_of_line", "print_garbage"),
    *("close_stdout", "write_into_the_channel", "hang_up", "abort", "fault", "raise_badly"),
    "delete_itself",
)
_BACK_WITHIN_S = 60.0


def run(budget: Budget) -> list[Outcome]:
    """Do `n` deeds, each in turn."""
    count = budget.trials(MOST, 1.2)
    harmed, statuses, slowest_s, made = 0, Counter[int](), 0.0, 0
    with tempfile.TemporaryDirectory() as root:
        server = Server(Path(root))
        server.pack("evil", "evil.py")
        server.pack("innocent", "version.py")
        server.start(load_models="evil.mar,innocent.mar", default_response_timeout=1)
        try:
            innocent = server.pids("innocent")
            assert server.process is not None
            for index in range(count):
                deed = DEEDS[index % len(DEEDS)]
                # a body of its own each time: the server remembers what has killed workers
                statuses[server.predict("evil", f"{deed} {index}".encode()).status] += 1
                slowest_s = max(slowest_s, _until_good(server, index))
                made += 1
                is_unharmed = (
                    server.pids("innocent") == innocent
                    and server.predict("innocent").status == 200
                    and server.process.poll() is None
                )
                harmed += not is_unharmed
                if index % len(DEEDS) == len(DEEDS) - 1:
                    print(f"{index + 1}: {harmed} harmed, {dict(statuses)}", flush=True)
                if budget.is_over:
                    break
            left = len(server.children()) - 3  # the zygote and two workers
        finally:
            server.stop()
    return [
        Outcome(
            "deeds of a handler that harmed more than its worker",
            made,
            "0",
            str(harmed),
            harmed == 0,
            f"F38; {min(made, len(DEEDS))} kinds; answers by status: "
            f"{dict(sorted(statuses.items()))}; the model answered again within {slowest_s:.1f} s",
            failures=harmed,
            unit="deed",
        ),
        Outcome("processes left by them", made, "0", str(left), left == 0, "F38", failures=left),
    ]


def _until_good(server: Server, index: int) -> float:
    began = time.monotonic()
    while server.predict("evil", f"good {index}".encode()).status != 200:
        assert time.monotonic() - began < _BACK_WITHIN_S, "the model does not come back"
        time.sleep(0.01)
    return time.monotonic() - began


if __name__ == "__main__":
    standalone(run)
