"""Splits a batch into slices that pass through preprocess, inference and postprocess like through
a pipeline: while one slice is in inference, the next is already preprocessed.

Each stage has threads of its own. They know the handler only by a weak reference, so that a
`MicroBatching` that nobody uses any more is collected, and its threads end.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

from marserve_handlers.contract import Context

STAGES: Final = ("preprocess", "inference", "postprocess")


@dataclass(slots=True)
class _Slice:
    """A part of a batch on its way; `value` is what the next stage gets."""

    index: int
    value: Any
    done: SimpleQueue[_Slice]
    error: BaseException | None = None


_Queue: TypeAlias = "SimpleQueue[_Slice | None]"
"""None ends one of the threads that read it."""


@dataclass(slots=True)
class _Stage:
    name: str
    queue: _Queue
    following: _Queue | None
    threads: list[threading.Thread] = field(default_factory=list)


class MicroBatching:
    """Stands in the place of a handler's `handle`, and can be changed while it is there.

        class Mine(ImageClassifier):
            def initialize(self, context):
                super().initialize(context)
                self.handle = MicroBatching(self, micro_batch_size=4)
                self.handle.parallelism = {"preprocess": 2}

    Results keep the order of the requests. What a stage raises, `handle` raises, after the other
    slices are through. A stage may run in several threads at once only if its code allows that.

    Args:
        parent_handler: has the methods `preprocess`, `inference` and `postprocess`.
        micro_batch_size: requests per slice, 1 or more.
        parallelism: threads per stage; 1 where nothing is said.

    Raises:
        ValueError: a size or a number of threads below 1, or a stage that does not exist.
    """

    def __init__(
        self,
        parent_handler: Any,
        micro_batch_size: int = 1,
        parallelism: Mapping[str, int] | None = None,
    ) -> None:
        self.handler = parent_handler
        self.micro_batch_size = micro_batch_size
        self._local = threading.local()
        self._stages = _stages()
        self._is_shut_down = False
        self._parallelism: dict[str, int] = {}
        _check_size(micro_batch_size)
        self._finalizer = weakref.finalize(self, _end, self._stages)
        self.parallelism = dict(parallelism or {})

    @property
    def parallelism(self) -> dict[str, int]:
        """Threads per stage, as they were set."""
        return self._parallelism

    @parallelism.setter
    def parallelism(self, parallelism: Mapping[str, int]) -> None:
        wanted = _checked_parallelism(parallelism)
        for stage in self._stages:
            self._resize(stage, wanted.get(stage.name, 1))
        self._parallelism = wanted

    def shutdown(self) -> None:
        """End all threads; wait until they have ended."""
        self._is_shut_down = True
        self._finalizer()
        for stage in self._stages:
            for thread in stage.threads:
                thread.join()
            stage.threads.clear()

    def handle(self, data: Sequence[Any]) -> list[Any]:
        """Run a batch through the stages.

        Args:
            data: one row per request.

        Returns:
            What `postprocess` returned for all slices, in the order of `data`.
        """
        if self._is_shut_down:
            raise RuntimeError("This MicroBatching was shut down; make a new one.")
        _check_size(self.micro_batch_size)
        done: SimpleQueue[_Slice] = SimpleQueue()
        starts = range(0, len(data), self.micro_batch_size)
        for index, start in enumerate(starts):
            part = data[start : start + self.micro_batch_size]
            self._stages[0].queue.put(_Slice(index, part, done))
        slices = sorted((done.get() for _ in starts), key=lambda one: one.index)
        for one in slices:
            if one.error is not None:
                raise one.error
        return [result for one in slices for result in one.value]

    def get_micro_batch_idx(self) -> int | None:
        """Which slice of the batch the calling thread works on; None outside the stages."""
        index: int | None = getattr(self._local, "index", None)
        return index

    def __call__(self, data: list[Any], context: Context) -> Any:
        """The handler's `handle`: describe, explain, or predict slice by slice.

        Reports its time as the metric `HandlerTime`, as `BaseHandler.handle` does.
        """
        started = time.perf_counter()
        self.handler.context = context
        if _is_asked(context, "describe"):
            return [self.handler.describe_handle()]
        if _is_asked(context, "explain"):
            output = self.handler.explain_handle(self.handler.preprocess(data), data)
        else:
            output = self.handle(data)
        duration_ms = round((time.perf_counter() - started) * 1000, 2)
        context.metrics.add_time("HandlerTime", duration_ms, None, "ms")
        return output

    def _resize(self, stage: _Stage, count: int) -> None:
        stage.threads = [thread for thread in stage.threads if thread.is_alive()]
        while len(stage.threads) < count:
            thread = threading.Thread(
                target=_work,
                args=(stage, weakref.ref(self.handler), self._local),
                name=f"micro-batching-{stage.name}-{len(stage.threads)}",
                daemon=True,
            )
            thread.start()
            stage.threads.append(thread)
        for _ in stage.threads[count:]:
            stage.queue.put(None)
        while sum(thread.is_alive() for thread in stage.threads) > count:
            for thread in stage.threads:
                thread.join(0.001)
        stage.threads = [thread for thread in stage.threads if thread.is_alive()]


def _work(stage: _Stage, handler: weakref.ref[Any], local: threading.local) -> None:
    """A thread of one stage. Knows no `MicroBatching`, so that it keeps none alive."""
    while (one := stage.queue.get()) is not None:
        if one.error is None:
            local.index = one.index
            try:
                one.value = getattr(handler(), stage.name)(one.value)
            except BaseException as error:  # noqa: BLE001  user code: raised again in `handle`
                one.error = error
        following = one.done if stage.following is None else stage.following
        following.put(one)
        del one, following  # a waiting thread holds no request


def _stages() -> list[_Stage]:
    queues: list[_Queue] = [SimpleQueue() for _ in STAGES]
    return [
        _Stage(name, queue, following)
        for name, queue, following in zip(STAGES, queues, [*queues[1:], None], strict=True)
    ]


def _end(stages: Sequence[_Stage]) -> None:
    for stage in stages:
        for _ in stage.threads:
            stage.queue.put(None)


def _is_asked(context: Context, what: str) -> bool:
    return bool(context.get_request_header(0, what) == "True")


def _checked_parallelism(parallelism: Mapping[str, int]) -> dict[str, int]:
    for name, count in parallelism.items():
        if name not in STAGES:
            raise ValueError(f"{name!r} is not a stage; stages are {', '.join(STAGES)}.")
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"The stage {name} needs one thread at least, not {count!r}.")
    return dict(parallelism)


def _check_size(micro_batch_size: int) -> None:
    if not isinstance(micro_batch_size, int) or micro_batch_size < 1:
        raise ValueError(f"A slice has one request at least, not {micro_batch_size!r}.")
