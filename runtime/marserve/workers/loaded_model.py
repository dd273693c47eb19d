"""The handler of a worker process and its context: loaded once, run over batch after batch.

Runs in the child. Everything that user code may do wrong here ends in an answer for the requests
concerned, and in a traceback on the worker's own output.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import yaml

import marserve_handlers.torchserve as torchserve_names
from marserve.foreign_settings import TORCHSERVE_VERSION
from marserve.plugins import find_handler
from marserve.registry import yaml_document
from marserve.request import forbids_retry
from marserve.workers import isolation, outcomes
from marserve.workers.device_memory import release_cached_memory
from marserve.workers.frames import Buffer
from marserve.workers.handler_environ import handler_environ
from marserve.workers.isolation import Failed
from marserve.workers.messages import Batch, BatchItem, FailureKind, Load, Result
from marserve.workers.outcomes import ItemAnswer
from marserve.workers.rows import cut, headers, rows
from marserve.workers.worker_threads import WorkerThreads
from marserve_handlers.contract import Context
from marserve_handlers.entry_point import EntryPoint, load_entry_point
from marserve_handlers.errors import HandlerError
from marserve_handlers.metrics import Metrics
from marserve_handlers.model_files import put_before_packages
from marserve_handlers.wire import STREAM_NEXT

SendPiece = Callable[[Result, list[Buffer]], None]


def prepare(load: Load) -> tuple[EntryPoint, Context]:
    """The handler, found but not initialised, in the surroundings that handlers expect.

    Raises:
        HandlerError: there is no such handler, or it cannot be imported.
    """
    model_dir = Path(load.model_dir)
    os.chdir(model_dir)
    os.environ.update(handler_environ(load, os.environ))
    put_before_packages(model_dir, *load.python_path)
    torchserve_names.install()
    metrics = Metrics(load.metrics_config, model_name=load.model_name)
    metrics.initialize_cache()
    context = Context(
        model_name=load.model_name,
        manifest=_read_manifest(model_dir),
        model_dir=str(model_dir),
        batch_size=load.batch_size,
        gpu=load.gpu_id,
        model_yaml_config=_read_yaml(model_dir, load.config_file),
        limit_max_image_pixels=load.limit_image_pixels,
        mms_version=TORCHSERVE_VERSION,
        metrics=metrics,
    )
    if load.sequence_headers is not None:
        (
            context.header_key_sequence_id,
            context.header_key_sequence_start,
            context.header_key_sequence_end,
        ) = load.sequence_headers
    entry = load_entry_point(load.handler, model_dir, find_handler)
    if load.is_async and not entry.is_async:
        raise HandlerError(
            f"{entry.name}: asyncCommunication is set, so its handle must be declared with "
            "async def"
        )
    if entry.is_async and not load.is_async:
        raise HandlerError(
            f"{entry.name}: its handle is declared with async def; set asyncCommunication: true "
            "in the model's YAML file, or declare it with def"
        )
    return entry, context


class LoadedModel:
    """A synchronous handler: one batch at a time."""

    def __init__(self, load: Load, send_piece: SendPiece) -> None:
        self._load = load
        self._send_piece = send_piece
        self.threads = WorkerThreads()
        self.threads.use(load.threads)
        self._entry, self._context = prepare(load)
        self._handle: Callable[..., Any] = self._entry.handle
        if load.envelope:
            from marserve_handlers.envelopes import wrap  # few servers have one

            self._handle = wrap(load.envelope, self._entry.handle)
        self._out_of_memory_at = 0
        self._ran_out_of_memory = False
        self._batch_id = 0
        self._has_streamed = False
        self._first = 0
        """Of the batch, the row with which the handler's run begins."""
        self._deadlines: dict[str, float] = {}
        self._entry.initialize(self._context)
        self._context.send_intermediate = self._send_intermediate

    def answer(self, batch: Batch, buffers: memoryview) -> tuple[Result, list[Buffer]]:
        """One answer per item, in order."""
        started = time.monotonic()
        self._batch_id = batch.id
        self._out_of_memory_at = 0
        self._ran_out_of_memory = False
        items = batch.items
        self._deadlines = deadlines(batch, started)
        if self._load.response_timeout_s is not None:
            self._context.ends_at = started + self._load.response_timeout_s
        if len({(item.explain, item.describe) for item in items}) == 1:
            answers = self._run(items, buffers, 0)
        else:  # handlers ask the first row whether to predict or to explain
            answers = []
            for row, (item, own) in enumerate(zip(items, cut(items, buffers), strict=True)):
                answers += self._run([item], own, row)
        handler_s = time.monotonic() - started
        bodies = [body for body, _ in answers]
        extras = {index: extra for index, (_, extra) in enumerate(answers) if extra is not None}
        metrics = outcomes.told_metrics(self._context.metrics.drain())
        sizes = [len(body) for body in bodies]
        result = Result(
            *(batch.id, handler_s, sizes, extras, metrics),
            out_of_memory_at=self._out_of_memory_at,
            ran_out_of_memory=self._ran_out_of_memory,
        )
        return result, bodies

    def close(self) -> None:
        """Let the handler release what it holds."""
        self._entry.close()

    def _run(self, items: Sequence[BatchItem], buffers: memoryview, first: int) -> list[ItemAnswer]:
        """Run the handler; when a batch fails as a whole, run its parts (`isolation.py`).

        `first`: the row of the batch that `items` begin with.
        """
        decode = self._load.decode_input
        shares: list[memoryview] = []

        def run(start: int, stop: int) -> list[ItemAnswer] | Failed:
            self._first = first + start
            if stop - start == len(items):
                return self._try(items, rows(items, buffers, decode))
            # the rows are made anew, because the failed run may have changed them
            if not shares:
                shares.extend(cut(items, buffers))
            parts = items[start:stop]
            made = [
                rows([item], share, decode)[0]
                for item, share in zip(parts, shares[start:stop], strict=True)
            ]
            return self._try(parts, made)

        return isolation.answers(len(items), run, lambda: self._run_once(items))

    def _run_once(self, items: Sequence[BatchItem]) -> Collection[int]:
        """The rows that must not be run a second time."""
        if not self._load.is_idempotent:
            return range(len(items))
        return [index for index, item in enumerate(items) if forbids_retry(item.headers)]

    def _try(
        self, items: Sequence[BatchItem], made: list[dict[str, object]]
    ) -> list[ItemAnswer] | Failed:
        """Run the handler once."""
        context = self._context
        context.begin_batch([item.id for item in items], [headers(item) for item in items])
        if self._deadlines:
            context.deadlines = tuple(self._deadlines[item.id] for item in items)
        self._has_streamed = False
        try:
            outputs = self._handle(made, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  user code: answered, not propagated
            outcomes.tell(error, [item.id for item in items])
            outcomes.leave_with_lost_device(error)
            self._ran_out_of_memory |= outcomes.is_out_of_memory(error)
            return self._failed(outcomes.raised(error), len(items), outcomes.is_too_large(error))
        problem = outcomes.complaint(outputs, len(items))
        if problem is not None:
            return self._failed(outcomes.failure(FailureKind.BAD_OUTPUT, problem), len(items))
        if context.stopping_criteria is not None:
            mark_finished(context, outputs)
        elif self._has_streamed:
            end_stream(context, len(items))
        limit = self._load.max_response_bytes
        return [outcomes.encoded(out, i, context, limit) for i, out in enumerate(outputs)]

    def _failed(self, answer: ItemAnswer, size: int, is_too_large: bool = False) -> Failed:
        """A run over `size` rows failed as a whole."""
        if is_too_large and size > 1:
            self._out_of_memory_at = min(size, self._out_of_memory_at or size)
            release_cached_memory()
        # pieces are out, or there is state, here or elsewhere
        is_final = self._has_streamed or self._load.is_continuous or self._load.in_step
        return Failed(answer, is_too_large, is_final)

    def _send_intermediate(self, results: list[Any], context: Context) -> None:
        """Give the server a piece of each answer of the batch that runs.

        Raises:
            HandlerError: there is not one result per request.
        """
        result, bodies = piece(
            self._batch_id,
            results,
            context,
            len(context.request_ids or ()),
            self._load,
            self._first,
        )
        self._has_streamed = True
        self._send_piece(result, bodies)


def piece(
    batch_id: int,
    results: list[Any],
    context: Context,
    expected: int,
    load: Load,
    first: int = 0,
) -> tuple[Result, list[Buffer]]:
    """One piece of each answer, as it goes to the server; `first` is the row they begin with.

    Raises:
        HandlerError: there is not one result per request.
    """
    problem = outcomes.complaint(results, expected)
    if problem is not None:
        raise HandlerError(problem)
    answers = [
        outcomes.encoded(one, index, context, load.max_response_bytes)
        for index, one in enumerate(results)
    ]
    extras = {index: extra for index, (_, extra) in enumerate(answers) if extra is not None}
    bodies = [body for body, _ in answers]
    sizes = [len(body) for body in bodies]
    return Result(batch_id, 0.0, sizes, extras, [], first=first), bodies


def deadlines(batch: Batch, now: float) -> dict[str, float]:
    """Until when the clients of a batch wait, by request id; empty where none of them says so."""
    if batch.left_s is None:
        return {}
    return {
        item.id: inf if left_s is None else now + left_s
        for item, left_s in zip(batch.items, batch.left_s, strict=True)
    }


def mark_finished(context: Context, outputs: Sequence[object]) -> None:
    """Ask each request's stopping criterion whether its answer is whole.

    A criterion that says None leaves its request as it is.
    """
    for index, (criterion, output) in enumerate(
        zip(context.stopping_criteria or (), outputs, strict=False)
    ):
        is_finished = criterion(output)
        if is_finished is not None:
            value = "false" if is_finished else "true"
            context.set_response_header(index, STREAM_NEXT, value)


def end_stream(context: Context, size: int) -> None:
    """What is returned after intermediate pieces is the last of them."""
    for index in range(size):
        context.set_response_header(index, STREAM_NEXT, "false")


def _read_manifest(model_dir: Path) -> dict[str, Any]:
    path = model_dir / "MAR-INF" / "MANIFEST.json"
    if not path.is_file():
        return {"runtime": "python", "model": {}}
    manifest = msgspec.json.decode(path.read_bytes())
    return manifest if isinstance(manifest, dict) else {}


def _read_yaml(model_dir: Path, name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    path = model_dir / name
    if path.stat().st_size > yaml_document.MAX_BYTES:
        raise HandlerError(f"{name} is larger than {yaml_document.MAX_BYTES} bytes.")
    loaded = yaml.safe_load(path.read_bytes())
    return loaded if isinstance(loaded, dict) else {}
