"""Which class each pixel of an image is of: the handler for torchvision's segmentation models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from marserve_handlers.timing import timed
from marserve_handlers.vision import VisionHandler, imagenet_transforms


class ImageSegmenter(VisionHandler):
    """The likeliest class of every pixel, with its probability.

    The answer to an image is a list of rows of pixels, each `[class, probability]`, for the middle
    224 x 224 pixels of the image scaled to 256 on its shorter side.
    """

    image_processing: Any = imagenet_transforms()

    @timed
    def postprocess(self, data: Any) -> list[Any]:
        """Per image, H x W x 2 numbers as nested lists.

        Args:
            data: scores of shape (images, classes, H, W), or a map that has them under `out`.
        """
        scores = data["out"] if isinstance(data, Mapping) else data
        best = torch.softmax(scores, dim=1).max(dim=1)
        pixels = torch.stack([best.indices.to(best.values.dtype), best.values], dim=3)
        answers: list[Any] = pixels.tolist()
        return answers
