"""How many NVIDIA GPUs this machine has, without initialising any of them."""

from __future__ import annotations

import logging
import subprocess

_log = logging.getLogger("marserve.workers")
_PATIENCE_S = 10.0


def count_gpus(limit: int | None = None) -> int:
    """As many as `nvidia-smi` lists, at most `limit`; 0 without such a tool.

    The tool is asked, not a library, so that the server itself never touches a driver.
    """
    if limit == 0:
        return 0
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        ).stdout
    except FileNotFoundError:
        return 0
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("nvidia-smi is here but does not answer, so no GPU is used: %s", error)
        return 0
    count = sum(line.startswith("GPU ") for line in listed.splitlines())
    return count if limit is None else min(count, limit)
