"""How many threads a worker computes with: its share of the cores. Pure.

The workers of one version share all cores. Other versions are not counted: most models wait most
of the time, and cores that were set aside for them would idle; when several are busy at once, the
kernel shares the cores out between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DECIDED_BY: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which an operator decides for all workers."""


def thread_share(cores: int, workers: int, environ: Mapping[str, str]) -> int | None:
    """The threads of each of so many workers, at least 1; None: the environment has decided.

    Args:
        cores: that the server may use.
        workers: of the version, as many as there are to be.
        environ: what every worker inherits.
    """
    if any(environ.get(name, "").strip() for name in DECIDED_BY):
        return None
    return max(1, cores // max(1, workers))
