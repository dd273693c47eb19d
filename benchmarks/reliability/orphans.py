"""F12, F03: the server is killed in whatever state; nothing of it may be alive two seconds later.

The states and the ways to die come in turn: idle, a loop in Python, native code that holds the
interpreter, children that hid in sessions of their own, in the middle of a load; with the zygote
killed in the same instant, or stopped. Every next server takes the same port and serves.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
from budget import Budget
from outcome import Outcome
from standalone import standalone

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "harness"))

from running_server import Server, lives

from marserve.workers import marks

RELEASE_S = 1600.0
MOST = 1000
LIMIT_S = 2.0
REBIND_S = 1.0
_PATIENCE_S = 20.0


class Trial:
    """One server, from its start to two seconds after its death."""

    def __init__(self, root: Path, port: int) -> None:
        self.server = Server(root)
        self.port = port
        self._threads: list[threading.Thread] = []
        self.hidden: list[int] = []

    def start(self) -> None:
        """Start it on the port and have it answer."""
        self.server.start(
            load_models="clinging.mar",
            inference_address=f"http://127.0.0.1:{self.port}",
        )
        assert self.server.failed is None, self.server.failed
        assert self.server.predict("clinging", b"hello").body == b"hello"
        [pid] = self.server.pids("clinging")
        mark = marks.mark_of(pid)
        assert mark is not None
        self.mark = mark[0]
        self.zygote = psutil.Process(psutil.Process(pid).ppid())
        self.warden = self.server.wardens()[0]

    def ask_in_vain(self, body: bytes) -> None:
        """A request that nobody will answer."""
        self._spawn(lambda: self.server.predict("clinging", body))

    def load_in_vain(self) -> None:
        """A model that is still loading when the server dies."""
        before = len(self.living())
        target = "/models?url=slow.mar&initial_workers=1&synchronous=true"
        self._spawn(lambda: self.server.manage("POST", target))
        self.server.wait_until(lambda: len(self.living()) > before)

    def living(self) -> list[int]:
        """What carries the mark of this server, or has been told to be hidden."""
        marked = marks.living(lambda mark: mark[0] == self.mark)
        return sorted({*marked, *filter(lives, self.hidden)})

    def join(self) -> None:
        """Wait for the clients."""
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def _spawn(self, call: Callable[[], object]) -> None:
        def run() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                call()

        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)


def _idle(trial: Trial) -> None:
    pass


def _occupied(word: str) -> Callable[[Trial], None]:
    def occupy(trial: Trial) -> None:
        started = trial.server.root / f"{word}.started"
        started.unlink(missing_ok=True)
        trial.ask_in_vain(f"{word} {started}".encode())
        trial.server.wait_until(started.exists)

    return occupy


def _with_brood(trial: Trial) -> None:
    trial.hidden = trial.server.predict("clinging", b"brood").json()["pids"]


def _loading(trial: Trial) -> None:
    trial.load_in_vain()


STATES: dict[str, Callable[[Trial], None]] = {
    "idle": _idle,
    "a loop in Python": _occupied("loop"),
    "native code with the interpreter": _occupied("gil"),
    "hidden children": _with_brood,
    "loading": _loading,
}


def _alone(trial: Trial) -> None:
    pass


def _zygote_too(trial: Trial) -> None:
    process = trial.server.process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # neither sees the other die
    trial.zygote.kill()


def _zygote_stopped(trial: Trial) -> None:
    trial.zygote.suspend()


DEATHS: dict[str, Callable[[Trial], None]] = {
    "server": _alone,
    "server and zygote": _zygote_too,
    "server beside a stopped zygote": _zygote_stopped,
}


def run(budget: Budget) -> list[Outcome]:
    """Kill `n` servers."""
    count = budget.trials(MOST, 1.5)
    kinds = [(state, death) for state in STATES for death in DEATHS]
    made: Counter[str] = Counter()
    survivors, gone_s, rebind_s = 0, [0.0], [0.0]
    with tempfile.TemporaryDirectory() as root, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        store = Server(Path(root))
        store.pack("clinging", "clinging.py")
        store.pack("slow", "slow_load.py")
        for index in range(count):
            state, death = kinds[index % len(kinds)]
            trial = Trial(Path(root), port)
            left, took_s, bound_s = _one(trial, STATES[state], DEATHS[death])
            survivors += left
            gone_s.append(took_s)
            rebind_s.append(bound_s)
            made[f"{state}, {death}"] += 1
            if left or took_s > LIMIT_S / 2 or index % 50 == 49:
                print(f"{index + 1}: {state}; {death}: {left} left, {took_s:.2f} s", flush=True)
            if budget.is_over:
                break
    n = sum(made.values())
    return [
        Outcome(
            "processes alive 2 s after the server was killed",
            n,
            "0",
            f"{survivors} (the slowest ended after {max(gone_s):.2f} s)",
            survivors == 0,
            f"F12, F03; {len(made)} combinations of state and death; "
            "every next server took the same port and served",
            failures=survivors,
            unit="kill",
        ),
        Outcome(
            "until the port of a killed server can be bound",
            n,
            f"≤ {REBIND_S:g} s",
            f"{max(rebind_s):.2f} s",
            max(rebind_s) <= REBIND_S,
            "F12",
        ),
    ]


def _one(
    trial: Trial, come_into: Callable[[Trial], None], prepare: Callable[[Trial], None]
) -> tuple[int, float, float]:
    """Survivors after two seconds, seconds until all were gone, until the port was free."""
    trial.start()
    come_into(trial)
    prepare(trial)
    trial.server.stop(signal.SIGKILL)
    died_at = time.monotonic()
    bound_s = _until_bound(trial.port, died_at)
    survivors = 0
    while True:
        left = trial.living()
        took_s = time.monotonic() - died_at
        if took_s >= LIMIT_S and not survivors:
            survivors = len(left)
        if not left and not lives(trial.warden.pid):
            break
        assert took_s < _PATIENCE_S, f"still there: {left}"
        time.sleep(0.005)
    trial.join()
    return survivors, took_s, bound_s


def _until_bound(port: int, since: float) -> float:
    while time.monotonic() - since < _PATIENCE_S:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                return time.monotonic() - since
        time.sleep(0.005)
    return _PATIENCE_S


if __name__ == "__main__":
    standalone(run)
