"""Images in, classes out: the handlers for torchvision models.

`VisionHandler` turns rows into a batch of images; `ImageClassifier` names what is on them.
"""

from __future__ import annotations

import base64
import functools
import io
from typing import Any

import torch
from PIL import Image

from marserve_handlers.contract import Context
from marserve_handlers.devices import on_device
from marserve_handlers.errors import PredictionException
from marserve_handlers.explanations import captum_attr, class_index, known_class
from marserve_handlers.images import ImagenetTransforms, SideBySide, made_up_images
from marserve_handlers.labels import map_class_to_label
from marserve_handlers.row import row_value
from marserve_handlers.timing import timed
from marserve_handlers.torch import BaseHandler


class VisionHandler(BaseHandler):
    """Rows of images, stacked to one batch. Subclasses say `image_processing`.

    Attributes:
        image_processing: a callable from a PIL image to a tensor.
    """

    image_processing: Any = None

    def initialize(self, context: Context) -> None:
        """Load the model; lift PIL's limit on pixels where the operator has switched it off."""
        super().initialize(context)
        if not context.system_properties.get("limit_max_image_pixels", True):
            Image.MAX_IMAGE_PIXELS = None

    @functools.cached_property
    def ig(self) -> Any:
        """Captum's integrated gradients of the model, made when first asked for.

        Raises:
            PredictionException: captum is not installed (501).
        """
        return captum_attr().IntegratedGradients(self.model)

    def get_insights(self, tensor_data: torch.Tensor, _: Any, target: Any = 0) -> list[Any]:
        """How much each number of each prepared image speaks for class `target`; nested lists.

        Raises:
            PredictionException: there is no such class (400), or captum is not installed (501).
        """
        index = class_index(target)
        with known_class(index):
            found = self.ig.attribute(tensor_data, target=index, n_steps=15)
        attributions: list[Any] = found.tolist()
        return attributions

    @timed
    def preprocess(self, data: Any) -> Any:
        """One tensor for all rows: image bytes, base64 text or nested lists of numbers.

        Raises:
            PredictionException: a row is none of these (400).
        """
        values = [row_value(row) for row in data]
        return on_device(self._batch(values), self.device)

    def sample_rows(self, count: int) -> list[dict[str, Any]]:
        """Rows with made-up images, on which an optimised model is compared with the plain one."""
        return [{"body": bytearray(image)} for image in made_up_images(count)]

    def _batch(self, values: list[Any]) -> torch.Tensor:
        usual = self.image_processing
        is_usual = isinstance(usual, ImagenetTransforms) and usual.is_untouched
        if is_usual and values and not any(isinstance(value, list) for value in values):
            # only here: transforms of somebody else's need not stand threads
            pixels = self._side_by_side.map(lambda one: usual.pixels(_image_of(one)), values)
            batch: torch.Tensor = usual.normalised(pixels)
            return batch
        return torch.stack([self._image(value) for value in values])

    @functools.cached_property
    def _side_by_side(self) -> SideBySide:
        return SideBySide()

    def _image(self, value: Any) -> torch.Tensor:
        if isinstance(value, list):
            return _from_lists(value)
        tensor: torch.Tensor = self.image_processing(_image_of(value))
        return tensor


def imagenet_transforms() -> ImagenetTransforms:
    """A PIL image to a normalised tensor of shape (3, 224, 224): its middle, as ImageNet has it."""
    return ImagenetTransforms()


class ImageClassifier(VisionHandler):
    """The likeliest classes of each image, with their probabilities.

    Attributes:
        topk: how many classes a result names.
    """

    topk: int = 5
    image_processing: Any = imagenet_transforms()

    def set_max_result_classes(self, topk: int) -> None:
        """Name this many classes per result."""
        self.topk = topk

    def get_max_result_classes(self) -> int:
        """How many classes a result names."""
        return self.topk

    @timed
    def postprocess(self, data: Any) -> list[Any]:
        """Per image `{class name or index: probability}`, likeliest first."""
        return likeliest(data, self.topk, self.mapping)


def likeliest(scores: torch.Tensor, topk: int, mapping: dict[str, str] | None) -> list[Any]:
    """Per row of `scores` the `topk` likeliest classes: `{name or index: probability}`.

    Args:
        scores: what a classifier says before softmax, shape (rows, classes).
        topk: how many classes to name; a model with fewer has all of them named.
        mapping: class index (as text) to name.
    """
    probabilities = torch.softmax(scores, dim=1)
    count = min(topk, probabilities.shape[1])
    values, classes = torch.topk(probabilities, count, dim=1)
    return map_class_to_label(values.tolist(), mapping, classes.tolist())


def _image_of(value: Any) -> Image.Image:
    if isinstance(value, str):
        value = _from_base64(value)
    if not isinstance(value, bytes | bytearray):
        raise PredictionException(
            "The input must be an image file, its base64 text or a nested list of numbers, "
            f"not {type(value).__name__}.",
            400,
        )
    return _open(value)


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError as error:
        raise PredictionException(
            f"The input is text, but not the base64 of an image: {error}.", 400
        ) from error


def _from_lists(value: list[Any]) -> torch.Tensor:
    try:
        return torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise PredictionException(f"The input is not a tensor: {error}.", 400) from error


def _open(data: bytes | bytearray) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # the decoders raise errors of every kind on hostile bytes
        raise PredictionException(
            f"The input is not an image that can be read ({type(error).__name__}).", 400
        ) from error
    return image
