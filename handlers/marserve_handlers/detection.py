"""What is where on an image: the handler for torchvision's detection models."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import transforms

from marserve_handlers.images import rgb
from marserve_handlers.labels import map_class_to_label
from marserve_handlers.optimize_changes import is_script
from marserve_handlers.row import row_value
from marserve_handlers.timing import timed
from marserve_handlers.vision import VisionHandler


class ObjectDetector(VisionHandler):
    """The objects on each image, with their boxes and scores.

    The answer to an image is a list with one `{label: [x1, y1, x2, y2], "score": p}` per object, in
    pixels of the image as it was sent.

    Attributes:
        threshold: the score from which on an object counts.
    """

    threshold: float = 0.5
    image_processing: Any = transforms.Compose([rgb, transforms.ToTensor()])

    @timed
    def preprocess(self, data: Any) -> Any:
        """The images: one tensor where all have the same size, otherwise a list of tensors.

        Raises:
            PredictionException: a row is no image (400).
        """
        images = [self._image(row_value(row)).to(self.device) for row in data]
        same_size = len({image.shape for image in images}) == 1
        # compiled models are strict: they take the list that torchvision's documentation names
        if same_size and not is_script(self.model):
            return torch.stack(images)
        return images

    @timed
    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Per image `{boxes, labels, scores}`."""
        with torch.inference_mode():
            found = self.model(data, *args, **kwargs)
        # as TorchScript these models return (losses, detections) in either mode
        return found[1] if isinstance(found, tuple) else found

    @timed
    def postprocess(self, data: Any) -> list[Any]:
        """Per image, the objects whose score reaches `threshold`."""
        return [self._objects(found) for found in data]

    def _objects(self, found: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
        counts = found["scores"] >= self.threshold
        boxes, labels, scores = (
            found[key][counts].tolist() for key in ("boxes", "labels", "scores")
        )
        objects: list[dict[str, Any]] = []
        for box, label, score in zip(boxes, labels, scores, strict=True):
            objects.append({**map_class_to_label([[box]], self.mapping, [[label]])[0]})
            objects[-1]["score"] = score
        return objects
