"""Runs a handler in this process, without a server: for the tests of whoever writes one.

What the handler raises reaches the test unchanged. `sys.path`, and the modules imported from the
model directory, are put back afterwards, so one test's `handler.py` is not another's.
"""

from __future__ import annotations

import asyncio
import copy
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from marserve_handlers import builtin, torchserve
from marserve_handlers.contract import Context
from marserve_handlers.entry_point import EntryPoint, load_entry_point
from marserve_handlers.envelopes import wrap
from marserve_handlers.errors import HandlerError
from marserve_handlers.payload import encode_item

Handle = Callable[[Any, Context], Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What one client would get."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    pieces: tuple[bytes, ...] = ()
    """What came before the body, when the handler streams. Status and headers are the first's."""

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as decoded JSON."""
        return json.loads(self.body)


def run_handler(
    handler: str | type | Callable[..., Any],
    rows_or_bodies: Sequence[Any],
    *,
    model_dir: str | Path | None = None,
    manifest: dict[str, Any] | None = None,
    headers: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    model_yaml_config: dict[str, Any] | None = None,
    model_name: str = "model",
    gpu_id: int | None = None,
    envelope: str | None = None,
) -> list[Result]:
    """Load a handler, give it one batch, close it.

    A handler whose `handle` is asynchronous gets each request by itself, all at the same time, as
    in a worker.

    Args:
        handler: a class, a function, a file of `model_dir` (`handler.py`, `handler.py:function`)
            or the name of a built-in handler.
        rows_or_bodies: one entry per request. A dict is a row as the handler gets it; bytes are a
            raw body; anything else is a body that came decoded (text, or JSON).
        model_dir: where the model's files are; an empty directory if left out.
        manifest: what `context.manifest` holds; `{"model": {"modelName": model_name}}` if left out.
        headers: request headers, one dict for all requests or one per request.
        model_yaml_config: what `context.model_yaml_config` holds.
        model_name: the name of the model.
        gpu_id: the device that the worker would have been given.
        envelope: the server's `service_envelope`, if it has one.

    Returns:
        One result per request, in order.

    Raises:
        HandlerError: the handler cannot be loaded, or did not return one result per request.
    """
    rows = [_row(entry) for entry in rows_or_bodies]
    with _model_dir(model_dir) as directory, _imports_put_back(directory):
        torchserve.install()
        entry = _entry_point(handler, directory)
        context = Context(
            model_name=model_name,
            manifest=manifest or {"model": {"modelName": model_name}},
            model_dir=str(directory),
            batch_size=max(1, len(rows)),
            gpu=gpu_id,
            model_yaml_config=model_yaml_config,
        )
        entry.initialize(context)
        handle = wrap(envelope, entry.handle, entry.is_async) if envelope else entry.handle
        told = _headers(headers, len(rows))
        try:
            if entry.is_async:
                return asyncio.run(_run_each(handle, rows, told, context))
            return _run_batch(handle, rows, told, context)
        finally:
            entry.close()


def _run_batch(
    handle: Handle, rows: list[Any], headers: list[dict[str, Any]], context: Context
) -> list[Result]:
    pieces = _take_up(context, [f"request-{index}" for index in range(len(rows))], headers)
    return _results(handle(rows, context), context, pieces)


async def _run_each(
    handle: Handle, rows: list[Any], headers: list[dict[str, Any]], context: Context
) -> list[Result]:
    async def run(index: int) -> list[Result]:
        own = copy.deepcopy(context)
        pieces = _take_up(own, [f"request-{index}"], [headers[index]])
        return _results(await handle([rows[index]], own), own, pieces)

    answers = await asyncio.gather(*(run(index) for index in range(len(rows))))
    return [result for one in answers for result in one]


def _take_up(context: Context, ids: list[str], headers: list[dict[str, Any]]) -> list[list[Result]]:
    """Begin a batch; the result fills with the pieces that the handler sends, one list per row."""
    context.begin_batch(ids, headers)
    pieces: list[list[Result]] = [[] for _ in ids]

    def send_intermediate(results: list[object], of: Context) -> None:
        for own, result in zip(pieces, _plain_results(results, of, len(ids)), strict=True):
            own.append(result)

    context.send_intermediate = send_intermediate
    return pieces


def _entry_point(handler: str | type | Callable[..., Any], model_dir: Path) -> EntryPoint:
    if isinstance(handler, str):
        return load_entry_point(handler, model_dir, builtin.marserve_handler)
    return EntryPoint(handler, getattr(handler, "__name__", repr(handler)))


def _results(outputs: Any, context: Context, pieces: list[list[Result]]) -> list[Result]:
    last = _plain_results(outputs, context, len(pieces))
    return [
        replace(sent[0], body=result.body, pieces=tuple(one.body for one in sent))
        if sent
        else result
        for sent, result in zip(pieces, last, strict=True)
    ]


def _plain_results(outputs: Any, context: Context, expected: int) -> list[Result]:
    if not isinstance(outputs, list):
        raise HandlerError(f"handle must return a list, not {type(outputs).__name__}")
    if len(outputs) != expected:
        raise HandlerError(f"handle returned {len(outputs)} results for {expected} requests")
    return [
        Result(
            context.get_response_status(index)[0],
            dict(context.get_response_headers(index)),
            encode_item(output),
        )
        for index, output in enumerate(outputs)
    ]


def _row(entry: Any) -> dict[str, Any]:
    if isinstance(entry, dict):
        return entry
    if isinstance(entry, bytes | bytearray | memoryview):
        return {"body": bytearray(entry)}
    return {"body": entry}


def _headers(
    headers: Mapping[str, Any] | Sequence[Mapping[str, Any]], count: int
) -> list[dict[str, Any]]:
    if isinstance(headers, Mapping):
        return [dict(headers) for _ in range(count)]
    if headers and len(headers) != count:
        raise ValueError(f"headers has {len(headers)} entries for {count} requests")
    return [dict(entry) for entry in headers] or [{} for _ in range(count)]


@contextmanager
def _model_dir(given: str | Path | None) -> Iterator[Path]:
    if given is not None:
        yield Path(given).resolve()
        return
    with tempfile.TemporaryDirectory() as empty:
        yield Path(empty).resolve()


@contextmanager
def _imports_put_back(model_dir: Path) -> Iterator[None]:
    path = list(sys.path)
    before = dict(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "/").is_relative_to(model_dir):
                del sys.modules[name]
                if name in before:
                    sys.modules[name] = before[name]
