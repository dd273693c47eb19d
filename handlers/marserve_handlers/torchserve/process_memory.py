"""How much memory processes hold, as `ts.metrics.process_memory_metric` tells it."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

_log = logging.getLogger("marserve_handlers.metrics")


def get_cpu_usage(pid: int | str) -> int:
    """Resident memory of a process, in bytes; 0, and a line in the log, if there is no such one."""
    import psutil  # only here: the names need it for nothing else

    try:
        return int(psutil.Process(int(pid)).memory_info().rss)
    except psutil.Error as error:
        _log.error("the memory of process %s is not known: %s", pid, error)
        return 0


def check_process_mem_usage(stdin: TextIO) -> None:
    """Print `pid:bytes` for each of the process ids that stand, comma-separated, in one line."""
    for pid in stdin.readline().strip().split(","):
        if pid:
            sys.stdout.write(f"{pid}:{get_cpu_usage(pid)}\n")
