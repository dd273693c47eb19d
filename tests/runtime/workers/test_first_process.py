"""A server that is the first process of its container (F39)."""

import os
import signal
import subprocess
import sys

SCRIPT = """
import os, signal, sys, time
from marserve.workers import first_process, linux

linux.adopt_orphans()
first = os.getpid()
first_process.step_aside(is_first=True)
assert os.getppid() == first
for _ in range(50):
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            os._exit(5)
        os._exit(0)
    os.waitpid(middle, 0)
end = time.monotonic() + 30
def children():
    return open(f"/proc/{first}/task/{first}/children").read().split()
while children() != [str(os.getpid())]:
    assert time.monotonic() < end, children()
    time.sleep(0.01)
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
print("ready", flush=True)
while not told:
    time.sleep(0.01)
%s
"""


def ended(last_line):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT % last_line],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        return process.wait(30)


def test_it_reaps_strangers_hands_on_signals_and_ends_as_the_server_ends():
    assert ended("sys.exit(7)") == 7


def test_a_server_that_is_killed_is_told_apart():
    assert ended("os.kill(os.getpid(), signal.SIGKILL)") == 128 + signal.SIGKILL


def test_any_other_process_goes_on_by_itself():
    script = "import os; from marserve.workers import first_process as f; p = os.getpid()\n"
    script += "f.step_aside(); assert os.getpid() == p"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=environ).returncode == 0
