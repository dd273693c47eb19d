"""Memory for large bodies is kept, so that it need not be had from the system again each time."""

import subprocess
import sys

SCRIPT = """
import resource
import sys
from marserve.heap import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
made = [bytearray(1 << 20) for _ in range(16)]
del made
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
made = [bytearray(1 << 20) for _ in range(16)]
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


def faulted_bytes(way):
    """How much of 16 MiB a process had to get anew that had freed as much just before."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, way], capture_output=True, text=True, timeout=60, check=True
    )
    return int(done.stdout)


def test_freed_memory_serves_the_next_large_bodies_without_the_system():
    assert faulted_bytes("kept") < 2 << 20 < faulted_bytes("as it is")
