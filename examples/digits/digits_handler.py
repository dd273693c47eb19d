"""Says which digit is on each image: the rows of a batch become one tensor and one forward pass."""

import io
from typing import Any

import torch
from PIL import Image

from marserve_handlers import PredictionException
from marserve_handlers.torch import BaseHandler

SIDE = 8
BRIGHTEST = 16.0  # the data set counts grey levels from 0 to 16


class DigitsHandler(BaseHandler):
    """Takes an image file of any size, or 64 values from 0 to 16 as JSON (flat, or 8 rows of 8).

    Answers `{"digit": 3, "probabilities": {"0": 0.01, …}}`.
    """

    def preprocess(self, data: list[dict[str, Any]]) -> torch.Tensor:
        values = [row.get("data", row.get("body")) for row in data]
        if all(isinstance(value, bytes | bytearray) for value in values):
            return _from_image_files(values).to(self.device)
        return torch.stack([pixels(value) for value in values]).to(self.device)

    def postprocess(self, data: torch.Tensor) -> list[dict[str, Any]]:
        probabilities = torch.softmax(data, dim=1)
        digits = probabilities.argmax(dim=1).tolist()
        return [
            {"digit": digit, "probabilities": {str(i): round(p, 6) for i, p in enumerate(row)}}
            for digit, row in zip(digits, probabilities.tolist(), strict=True)
        ]


def pixels(value: Any) -> torch.Tensor:
    """One image of shape (1, 8, 8) with values 0..1."""
    if isinstance(value, bytes | bytearray):
        return _from_image_files([value])[0]
    if isinstance(value, list):
        return _from_numbers(value)
    raise PredictionException(
        "Send an image file, or a JSON list of 64 grey values from 0 to 16 with the header "
        "Content-Type: application/json.",
        400,
    )


def _from_image_files(files: list[bytes | bytearray]) -> torch.Tensor:
    """Shape (n, 1, 8, 8). One tensor for all: making one per image costs more than decoding it."""
    values = bytearray().join(map(_grey_levels, files))
    grey = torch.frombuffer(values, dtype=torch.uint8).reshape(-1, 1, SIDE, SIDE)
    return grey.to(torch.float32) / 255


def _grey_levels(data: bytes | bytearray) -> bytes:
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if image.mode != "L":
            image = image.convert("L")
        if image.size != (SIDE, SIDE):
            image = image.resize((SIDE, SIDE), Image.Resampling.BOX)
        return image.tobytes()
    except Exception as error:  # image decoders raise errors of every kind
        raise PredictionException("This is not an image that can be read.", 400) from error


def _from_numbers(values: list[Any]) -> torch.Tensor:
    try:
        image = torch.tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PredictionException(f"The list is not a list of numbers: {error}", 400) from error
    if image.shape not in {(SIDE * SIDE,), (SIDE, SIDE)}:
        raise PredictionException(
            f"An image has 64 values, flat or as 8 rows of 8; this one has shape "
            f"{tuple(image.shape)}.",
            400,
        )
    if not bool(((image >= 0) & (image <= BRIGHTEST)).all()):
        raise PredictionException("Grey values are numbers from 0 to 16.", 400)
    return image.reshape(1, SIDE, SIDE) / BRIGHTEST
