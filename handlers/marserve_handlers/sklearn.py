"""Serves scikit-learn estimators: one `predict` over all samples of a batch.

The serialized file is a joblib or pickle file. Reading one runs code from it, as importing the
handler of an archive does: serve only archives that you trust.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.row import row_value


@dataclass(frozen=True, slots=True)
class _Samples:
    """What one request asks about."""

    values: list[Any]
    is_single: bool


class SklearnHandler:
    """Answers `[1, 2, …]` with a prediction and `{"instances": [[…], …]}` with predictions.

    The answer to one sample is `{"prediction": p}`, to instances `{"predictions": [p, …]}`. With
    `handler: {probabilities: true}` in the model's YAML file each answer also has
    `probabilities`: class to probability, per sample.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.with_probabilities = False

    def initialize(self, context: Context) -> None:
        """Load the estimator.

        Raises:
            HandlerLoadFailed: there is no serialized file, it holds no estimator, or the estimator
                has no `predict_proba` although probabilities are wanted.
        """
        model = context.manifest.get("model") or {}
        name = model.get("serializedFile")
        if not name:
            raise HandlerLoadFailed(
                "the handler sklearn needs a serialized file; pack the estimator that joblib.dump "
                "wrote with --serialized-file"
            )
        self.model = joblib.load(Path(context.system_properties["model_dir"]) / name)
        settings = context.model_yaml_config.get("handler") or {}
        self.with_probabilities = settings.get("probabilities") is True
        wanted = ("predict", "predict_proba", "classes_")[: 3 if self.with_probabilities else 1]
        for attribute in wanted:
            if not hasattr(self.model, attribute):
                raise HandlerLoadFailed(
                    f"{name} holds a {type(self.model).__name__} without {attribute}"
                )
        if hasattr(self.model, "feature_names_in_"):
            # fitted on a data frame; samples come as lists in the same order, once per request
            warnings.filterwarnings("ignore", message="X does not have valid feature names")

    def handle(self, data: list[dict[str, Any]], context: Context) -> list[Any]:
        """One answer per row, from one call of the estimator.

        Raises:
            PredictionException: a row is no sample, or has the wrong number of features (400).
        """
        requests = [_samples(row_value(row)) for row in data]
        matrix = self._matrix([value for request in requests for value in request.values])
        answers: list[Any] = []
        predictions, probabilities = self._predict(matrix)
        start = 0
        for request in requests:
            end = start + len(request.values)
            answers.append(_answer(request, predictions[start:end], probabilities[start:end]))
            start = end
        return answers

    def _predict(self, matrix: Any) -> tuple[list[Any], list[dict[str, float]]]:
        if not len(matrix):
            return [], []
        try:
            predictions = self.model.predict(matrix).tolist()
        except ValueError as error:
            raise PredictionException(f"The model refuses the input: {error}", 400) from error
        if not self.with_probabilities:
            return predictions, []
        names = [str(name) for name in self.model.classes_]
        rows = self.model.predict_proba(matrix).tolist()
        return predictions, [dict(zip(names, row, strict=True)) for row in rows]

    def _matrix(self, samples: list[Any]) -> Any:
        expected = getattr(self.model, "n_features_in_", None)
        for sample in samples:
            if not isinstance(sample, list) or any(isinstance(x, list | dict) for x in sample):
                raise PredictionException(
                    "A sample must be a flat JSON list with one value per feature"
                    f"{f', {expected} in all' if expected is not None else ''}.",
                    400,
                )
            if expected is not None and len(sample) != expected:
                raise PredictionException(
                    f"A sample has {len(sample)} values, but the model expects {expected} features "
                    "(n_features_in_).",
                    400,
                )
        matrix = np.array(samples, dtype=object)
        try:
            return matrix.astype(np.float64)
        except (TypeError, ValueError):
            return matrix  # categories as text: pipelines with encoders take objects


def _samples(value: Any) -> _Samples:
    if isinstance(value, bytes | bytearray | str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise PredictionException(
                "The input must be JSON: a list with one value per feature, or "
                '{"instances": [[…], …]}.',
                400,
            ) from None
    if isinstance(value, dict) and isinstance(value.get("instances"), list):
        return _Samples(value["instances"], is_single=False)
    if isinstance(value, list):
        return _Samples([value], is_single=True)
    raise PredictionException(
        'The input must be a list with one value per feature, or {"instances": [[…], …]}.', 400
    )


def _answer(
    request: _Samples, predictions: list[Any], probabilities: list[dict[str, float]]
) -> dict[str, Any]:
    if request.is_single:
        single: dict[str, Any] = {"prediction": predictions[0]}
        return single | {"probabilities": probabilities[0]} if probabilities else single
    many: dict[str, Any] = {"predictions": predictions}
    return many | {"probabilities": probabilities} if probabilities else many
