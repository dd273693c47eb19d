"""From the bytes of images to one batch as ImageNet models take it.

Where the transforms are the usual ones, the images of a batch are decoded side by side, on as many
threads as the model may use, and the batch is normalised as a whole. The numbers are exactly those
of the transforms.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_SHORTER_SIDE: Final = 256
_CROP: Final = 224
_MOST_THREADS: Final = 16


def rgb(image: Image.Image) -> Image.Image:
    """Grey, palette and transparent images in the three channels that ImageNet models take."""
    return image if image.mode == "RGB" else image.convert("RGB")


class ImagenetTransforms(transforms.Compose):  # type: ignore[misc] # torchvision has no types
    """A PIL image to a normalised tensor of shape (3, 224, 224): its middle, as ImageNet has it.

    A composition like any other; what it does step by step, `pixels` and `normalised` do faster.
    """

    def __init__(self) -> None:
        steps = [
            rgb,
            transforms.Resize(_SHORTER_SIDE),
            transforms.CenterCrop(_CROP),
            transforms.ToTensor(),
            transforms.Normalize(mean=IMAGENET_MEAN, std=IMAGENET_STD),
        ]
        super().__init__(steps)
        self._steps = tuple(steps)

    @property
    def is_untouched(self) -> bool:
        """Whether its steps are still the ones it was made with."""
        return tuple(self.transforms) == self._steps

    def pixels(self, image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """What is left of the image after the crop: uint8, shape (224, 224, 3)."""
        image = rgb(image)
        wide, high = image.size
        if wide <= high:
            scaled = (_SHORTER_SIDE, int(_SHORTER_SIDE * high / wide))
        else:
            scaled = (int(_SHORTER_SIDE * wide / high), _SHORTER_SIDE)
        left, top = (round((side - _CROP) / 2.0) for side in scaled)
        # resizing only what survives the crop would save a tenth, but rounds some pixels otherwise
        whole = image.resize(scaled, Image.Resampling.BILINEAR)
        return np.asarray(whole.crop((left, top, left + _CROP, top + _CROP)))

    def normalised(self, pixels: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> torch.Tensor:
        """A batch of images as `pixels` gives them: float32, shape (rows, 3, 224, 224)."""
        batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
        numbers = batch.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        mean, std = (torch.tensor(one).view(3, 1, 1) for one in (IMAGENET_MEAN, IMAGENET_STD))
        return numbers.sub_(mean).div_(std)


class SideBySide:
    """Threads for work that leaves the interpreter, such as decoding images.

    As many as torch computes with in this process: that is the worker's share of the machine.
    """

    def __init__(self) -> None:
        self._threads = 0
        self._pool: ThreadPoolExecutor | None = None

    def map(self, work: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
        """The result for each value, in order; what the first failing one raises is raised."""
        threads = min(torch.get_num_threads(), _MOST_THREADS)
        if threads == 1 or len(values) == 1:
            return [work(value) for value in values]
        if self._pool is None or threads != self._threads:
            if self._pool is not None:
                self._pool.shutdown()
            self._pool, self._threads = ThreadPoolExecutor(threads, "images"), threads
        return list(self._pool.map(work, values))


def made_up_images(count: int) -> list[bytes]:
    """Pictures of waves and grain, as files; the same ones each time."""
    random = np.random.default_rng(20)
    down, across = np.mgrid[0:_SHORTER_SIDE, 0:_SHORTER_SIDE] / _SHORTER_SIDE
    files = []
    for _ in range(count):
        waves = random.uniform(2, 30, (3, 2))
        shifts = random.uniform(0, 6, 3)
        planes = [
            np.sin(x * across + y * down + shift)
            for (x, y), shift in zip(waves, shifts, strict=True)
        ]
        grain = random.normal(0, 20, (_SHORTER_SIDE, _SHORTER_SIDE, 3))
        values = np.clip(np.stack(planes, axis=2) * 90 + 128 + grain, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(values).save(file, "PNG")
        files.append(file.getvalue())
    return files
