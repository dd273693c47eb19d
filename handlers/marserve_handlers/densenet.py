"""Tensors in, tensors out: the handler for clients that speak `torch.save` themselves."""

from __future__ import annotations

import io
import pickle
from typing import Any

import torch

from marserve_handlers.errors import PredictionException
from marserve_handlers.row import row_value
from marserve_handlers.timing import timed
from marserve_handlers.torch import BaseHandler
from marserve_handlers.weights import UnreadableError, read_plain


class DenseNetHandler(BaseHandler):
    """Answers a tensor, written with `torch.save`, with the model's output in the same form.

    The answer to one request has a first dimension of one, as the output of a batch has.
    """

    @timed
    def preprocess(self, data: Any) -> Any:
        """The tensors of all rows as one batch.

        Raises:
            PredictionException: a row is no tensor, or the tensors differ in shape (400).
        """
        tensors = [_read(row_value(row)) for row in data]
        try:
            return torch.stack(tensors).to(self.device)
        except RuntimeError as error:
            raise PredictionException(
                f"The tensors of a batch must agree in shape: {error}", 400
            ) from error

    @timed
    def postprocess(self, data: Any) -> list[Any]:
        """One tensor per row."""
        return [data[index : index + 1].clone() for index in range(len(data))]


def _read(body: Any) -> torch.Tensor:
    try:
        tensor = read_plain(io.BytesIO(body))
    except (TypeError, UnreadableError, pickle.UnpicklingError) as error:
        raise PredictionException(
            "The input must be a tensor as torch.save writes it, sent as the raw body "
            f"({type(error).__name__}).",
            400,
        ) from error
    if not isinstance(tensor, torch.Tensor):
        raise PredictionException(
            f"The input must be one tensor, not a {type(tensor).__name__}.", 400
        )
    return tensor
