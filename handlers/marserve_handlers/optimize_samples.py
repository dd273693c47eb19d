"""Inputs to compare an optimised model with the plain one on.

They pass through the handler's own preprocess, so they are what the model gets in service: a file
of the archive, rows that the handler can make up, or numbers of a given shape.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, Final

import torch

from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.optimize_settings import KEY
from marserve_handlers.weights import UnreadableError, read_plain

_SEED: Final = 20
MOST_ROWS: Final = 8
"""As many tell what a model does; more would only take longer."""


class NoSample(ValueError):
    """There is nothing to compare on; the text says why."""


class Samples:
    """Prepared inputs for one handler.

    Args:
        handler: its `preprocess` is used, unless the sample is what the model itself takes.
        wanted: `optimize.sample`.
        model_dir: where the archive's files are.

    Raises:
        HandlerLoadFailed: `wanted` names a file that is not there or cannot be read.
    """

    def __init__(self, handler: Any, wanted: str | tuple[int, ...] | None, model_dir: Path) -> None:
        self._handler = handler
        self._input: Any = None
        self._rows: list[dict[str, Any]] | None = None
        if isinstance(wanted, tuple):
            generator = torch.Generator().manual_seed(_SEED)
            self._input = torch.randn(wanted, generator=generator)
        elif wanted is not None and wanted.endswith((".pt", ".pth")):
            self._input = _read_tensors(_found(model_dir, wanted))
        elif wanted is not None:
            self._rows = [_read_row(_found(model_dir, wanted))] * MOST_ROWS

    def prepared(self, rows: int) -> Any:
        """An input of so many rows, as the handler's `inference` takes it.

        A shape, or tensors from a file, have the rows they have.

        Raises:
            NoSample: the handler cannot make any up, or its preprocess raised.
        """
        if self._input is not None:
            return _moved(self._input, self._handler.device)
        made = self._rows if self._rows is not None else self._made_up()
        context = self._handler.context
        context.begin_batch([f"sample-{index}" for index in range(rows)], [{}] * rows)
        try:
            return self._handler.preprocess([dict(row) for row in made[:rows]])
        except Exception as error:  # the handler's own code
            raise NoSample(
                f"the handler's preprocess fails on the sample: {type(error).__name__}: {error}"
            ) from error
        finally:
            context.request_ids = context.request_processor = None

    def _made_up(self) -> list[dict[str, Any]]:
        make: Any = getattr(self._handler, "sample_rows", None)
        made: Any = make(MOST_ROWS) if make is not None else None
        if made is None:
            raise NoSample(
                f"{type(self._handler).__name__} cannot make up an input to compare on; name one "
                f"in model-config.yaml: {KEY}: {{sample: a file of the archive, or a shape such as "
                "[1, 3, 224, 224]}"
            )
        rows: list[dict[str, Any]] = list(made)
        return rows


def _found(model_dir: Path, name: str) -> Path:
    root = model_dir.resolve()
    file = (root / name).resolve()
    if not file.is_relative_to(root) or not file.is_file():
        raise HandlerLoadFailed(
            f"{KEY}.sample names {name}, which is not in the archive; pack it with --extra-files"
        )
    return file


def _read_tensors(file: Path) -> Any:
    try:
        return read_plain(file)
    except (UnreadableError, pickle.UnpicklingError) as error:
        raise HandlerLoadFailed(
            f"{KEY}.sample names {file.name}, which holds no tensors that torch.save wrote: {error}"
        ) from error


def _read_row(file: Path) -> dict[str, Any]:
    """The file as the body of a request."""
    body = file.read_bytes()
    if file.suffix != ".json":
        return {"body": bytearray(body)}
    try:
        return {"body": json.loads(body)}
    except ValueError as error:
        raise HandlerLoadFailed(
            f"{KEY}.sample names {file.name}, which is no JSON: {error}"
        ) from error


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(one, device) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_moved(one, device) for one in value])
    return value
