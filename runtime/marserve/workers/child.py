"""The life of a worker process, inside it: load one model, answer batches until told to stop.

Everything here runs in the child. The channel is a blocking socket; when it ends, so does the
process. Exceptions of user code never cross the process line as objects: the server gets kind and
message, the worker's own output gets the traceback.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import io
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import msgspec
import yaml

import marserve_handlers.torchserve as torchserve_names
from marserve import __version__
from marserve.plugins import load_plugins
from marserve.workers.frames import Decoder, Frame, encode
from marserve.workers.messages import (
    Batch,
    BatchItem,
    Extra,
    Failure,
    FailureKind,
    FrameKind,
    Load,
    Loaded,
    LoadFailed,
    Metric,
    Result,
)
from marserve_handlers.contract import Context
from marserve_handlers.entry_point import EntryPoint, load_entry_point
from marserve_handlers.errors import HandlerError, UnsupportedOutput
from marserve_handlers.metrics import MetricSample
from marserve_handlers.payload import Part, decode_row, encode_item

_MAX_FRAME_BYTES = 1 << 40
"""The server is trusted with sizes: it has bounded every request before."""
_READ_BYTES = 1 << 18
_MAX_YAML_BYTES = 1 << 20
_MAX_MESSAGE_CHARS = 2000
_MAX_LOAD_MESSAGE_CHARS = 600


def main(channel: socket.socket, output_fd: int) -> NoReturn:
    """Serve one model over `channel`; what the handler prints goes to `output_fd`."""
    status = 1
    try:
        _redirect_output(output_fd)
        status = _Worker(channel).run()
    except (BrokenPipeError, ConnectionResetError):
        status = 0
    except BaseException:  # noqa: BLE001  the last frame of the process: there is nobody else to tell
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


ItemAnswer: TypeAlias = tuple[bytes, Extra | None]
"""Body, and whatever is not a plain 200."""


class _Worker:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._decoder = Decoder(_MAX_FRAME_BYTES)
        self._frames: list[Frame] = []

    def run(self) -> int:
        frame = self._next_frame()
        if frame is None or frame.kind is not FrameKind.LOAD:
            return 0
        load = msgspec.msgpack.decode(frame.meta, type=Load)
        model = self._load(load)
        if model is None:
            return 1
        batches = msgspec.msgpack.Decoder(Batch)
        while (frame := self._next_frame()) is not None:
            if frame.kind is not FrameKind.BATCH:
                break
            result, bodies = model.answer(batches.decode(frame.meta), frame.buffers)
            self._send(FrameKind.RESULT, result, bodies)
        model.close()
        return 0

    def _load(self, load: Load) -> _Model | None:
        started = time.monotonic()
        try:
            model = _Model(load)
        except BaseException as error:  # noqa: BLE001  user code: whatever it raises is its cause
            traceback.print_exc()
            message = str(error) if isinstance(error, HandlerError) else _sentence(error)
            line = " ".join(message.split())  # the whole of it is in the log
            self._send(FrameKind.LOAD_FAILED, LoadFailed(line[:_MAX_LOAD_MESSAGE_CHARS]))
            return None
        gc.collect()
        gc.freeze()
        self._send(FrameKind.LOADED, Loaded(time.monotonic() - started))
        return model

    def _next_frame(self) -> Frame | None:
        while not self._frames:
            data = self._channel.recv(max(_READ_BYTES, min(self._decoder.missing_bytes, 1 << 26)))
            if not data:
                return None
            self._frames.extend(self._decoder.feed(data))
        return self._frames.pop(0)

    def _send(self, kind: FrameKind, meta: msgspec.Struct, buffers: Sequence[bytes] = ()) -> None:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # the handler's to break
            sys.stdout.flush()
        self._channel.sendall(encode(kind, msgspec.msgpack.encode(meta), buffers))


class _Model:
    """The loaded handler of this process and its context."""

    def __init__(self, load: Load) -> None:
        self._load = load
        model_dir = Path(load.model_dir)
        os.chdir(model_dir)
        sys.path.insert(0, str(model_dir))
        torchserve_names.install()
        self._context = Context(
            model_name=load.model_name,
            manifest=_read_manifest(model_dir),
            model_dir=str(model_dir),
            batch_size=load.batch_size,
            gpu_id=load.gpu_id,
            model_yaml_config=_read_yaml(model_dir, load.config_file),
            limit_max_image_pixels=load.limit_image_pixels,
            server_version=__version__,
        )
        plugins = load_plugins()
        self._failure: ItemAnswer = b"", None
        self._entry: EntryPoint = load_entry_point(load.handler, model_dir, plugins.find_handler)
        self._entry.initialize(self._context)

    def answer(self, batch: Batch, buffers: memoryview) -> tuple[Result, list[bytes]]:
        """One answer per item, in order."""
        started = time.monotonic()
        items = batch.items
        if len({item.explain for item in items}) == 1:
            answers = self._run(items, buffers)
        else:  # handlers ask the first row whether to predict or to explain
            answers = []
            for item, own in zip(items, _cut(items, buffers), strict=True):
                answers += self._run([item], own)
        handler_s = time.monotonic() - started
        bodies = [body for body, _ in answers]
        extras = {index: extra for index, (_, extra) in enumerate(answers) if extra is not None}
        metrics = _metrics(self._context.metrics.drain())
        return Result(batch.id, handler_s, [len(b) for b in bodies], extras, metrics), bodies

    def close(self) -> None:
        """Let the handler release what it holds."""
        self._entry.close()

    def _run(self, items: Sequence[BatchItem], buffers: memoryview) -> list[ItemAnswer]:
        """Run the handler; when a batch fails as a whole, run it again for each item alone."""
        answers = self._try(items, _rows(items, buffers, self._load.decode_input))
        if answers is not None:
            return answers
        if len(items) == 1:
            return [self._failure]
        # One bad row must not fail its batch-mates. The rows are made anew, because the failed
        # run may have changed them.
        answers = []
        for item, row in zip(items, _rows(items, buffers, self._load.decode_input), strict=True):
            answers += self._try([item], [row]) or [self._failure]
        return answers

    def _try(
        self, items: Sequence[BatchItem], rows: list[dict[str, object]]
    ) -> list[ItemAnswer] | None:
        """Run the handler once. None when it failed as a whole: `self._failure` then says how."""
        context = self._context
        context.begin_batch([item.id for item in items], [_headers(item) for item in items])
        try:
            outputs = self._entry.handle(rows, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  user code: answered, not propagated
            traceback.print_exc()
            self._failure = b"", _raised(error)
            return None
        complaint = _complaint(outputs, len(items))
        if complaint is not None:
            self._failure = b"", _failure_extra(FailureKind.BAD_OUTPUT, complaint)
            return None
        return [self._encoded(index, output) for index, output in enumerate(outputs)]

    def _encoded(self, index: int, output: object) -> ItemAnswer:
        try:
            body = encode_item(output)
        except UnsupportedOutput as error:
            return b"", _failure_extra(FailureKind.BAD_OUTPUT, str(error))
        if len(body) > self._load.max_response_bytes:
            message = (
                f"The answer has {len(body)} bytes, more than "
                f"{self._load.max_response_bytes} (max_response_size)."
            )
            return b"", _failure_extra(FailureKind.TOO_LARGE, message)
        status, phrase = self._context.get_response_status(index)
        headers = self._context.get_response_headers(index)
        if status == 200 and not phrase and not headers:
            return body, None
        return body, Extra(int(status), phrase or None, list(headers.items()), None)


# --- pure helpers ---------------------------------------------------------------------------------


def _rows(items: Sequence[BatchItem], buffers: memoryview, decode: bool) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    start = 0
    for item in items:
        parts = []
        for part in item.parts:
            end = start + part.size_bytes
            parts.append(Part(part.name, part.content_type, buffers[start:end]))
            start = end
        rows.append(decode_row(parts, decode))
    return rows


def _cut(items: Sequence[BatchItem], buffers: memoryview) -> list[memoryview]:
    """Each item's own share of the buffers."""
    shares = []
    start = 0
    for item in items:
        end = start + sum(part.size_bytes for part in item.parts)
        shares.append(buffers[start:end])
        start = end
    return shares


def _headers(item: BatchItem) -> dict[str, object]:
    headers: dict[str, object] = {
        part.name: {"content-type": part.content_type} for part in item.parts
    }
    if item.explain is not None:
        headers["explain"] = "True" if item.explain else "False"
    headers.update(item.headers)
    if item.url_path is not None:
        headers["url_path"] = item.url_path
    if item.describe:
        headers["describe"] = "True"
    return headers


def _failure_extra(kind: FailureKind, message: str, status: int | None = None) -> Extra:
    return Extra(500, None, [], Failure(kind, message[:_MAX_MESSAGE_CHARS], status))


def _complaint(outputs: object, expected: int) -> str | None:
    """What is wrong with the shape of the handler's result, if anything is."""
    if not isinstance(outputs, list):
        return (
            "Invalid model predict output: the handler must return a list, "
            f"not {type(outputs).__name__}"
        )
    if len(outputs) != expected:
        return (
            f"number of batch response mismatched: the handler returned {len(outputs)} results "
            f"for {expected} requests"
        )
    return None


def _raised(error: BaseException) -> Extra:
    if _is_out_of_memory(error):
        return _failure_extra(FailureKind.OUT_OF_MEMORY, f"Out of resources: {_sentence(error)}")
    status = getattr(error, "error_code", None)
    if isinstance(status, int) and not isinstance(status, bool) and 0 <= status <= 999:
        return _failure_extra(FailureKind.RAISED, _text(error), status)
    return _failure_extra(FailureKind.RAISED, f"Prediction failed: {_sentence(error)}")


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "CUDA" in str(error)
    )


def _text(error: BaseException) -> str:
    message = getattr(error, "message", None)
    return _clean(message) if isinstance(message, str) else _sentence(error)


def _sentence(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  user code: even describing its error may raise
        return name
    return _clean(f"{name}: {text}" if text else name)


def _clean(text: str) -> str:
    """What UTF-8 can carry of a text: handlers make messages of bytes that are no text."""
    return text.encode("utf-8", "replace").decode()


def _metrics(samples: Iterable[MetricSample]) -> list[Metric]:
    """What can be told of the figures; one with a name or value of another type is left out."""
    told = []
    for m in samples:
        try:
            dimensions = {_clean(k): _clean(v) for k, v in dict(m.dimensions).items()}
            told.append(Metric(_clean(m.name), float(m.value), _clean(m.unit), m.kind, dimensions))
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            sys.stderr.write(f"A metric was dropped: {_sentence(error)}\n")
    return told


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
    if path.stat().st_size > _MAX_YAML_BYTES:
        raise HandlerError(f"{name} is larger than {_MAX_YAML_BYTES} bytes.")
    loaded = yaml.safe_load(path.read_bytes())
    return loaded if isinstance(loaded, dict) else {}


def _redirect_output(output_fd: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    os.close(null)
    os.close(output_fd)
    sys.stdout, sys.stderr = _writer(1), _writer(2)
    faulthandler.enable(sys.stderr)


def _writer(descriptor: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="replace", line_buffering=True)
