"""The threads that numeric libraries of this worker process compute with.

Runs in the child. A library that was imported before the worker was forked has read the
environment long ago and is told; one that the handler imports later reads it. Whatever the handler
sets itself stays.
"""

from __future__ import annotations

import os
import sys

_VARIABLE = "OMP_NUM_THREADS"


class WorkerThreads:
    """Owns this process's number of threads, until the handler takes it over."""

    def __init__(self) -> None:
        self._given: int | None = None

    def use(self, threads: int | None) -> None:
        """From now on compute with so many threads; None: leave them as they are."""
        if threads is None or threads == self._given:
            return
        if self._is_taken_over():
            return
        self._given = threads
        os.environ[_VARIABLE] = str(threads)
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(threads)
        pools = sys.modules.get("threadpoolctl")  # with scikit-learn: OpenMP and BLAS alike
        if pools is not None:
            pools.threadpool_limits(limits=threads)

    def _is_taken_over(self) -> bool:
        """Whether the handler has set something else since."""
        if self._given is None:
            return False
        torch = sys.modules.get("torch")
        has_torch_changed = torch is not None and torch.get_num_threads() != self._given
        return has_torch_changed or os.environ.get(_VARIABLE) != str(self._given)
