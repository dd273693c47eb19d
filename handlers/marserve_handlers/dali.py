"""Images that NVIDIA DALI decodes and scales, on the GPU where there is one.

The YAML file's `dali` has `batch_size`, `num_threads`, `device_id` and `seed`, and may name a
`pipeline_file` (`*.dali`) of the archive; without one the pipeline is that of ImageNet models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.images import IMAGENET_MEAN, IMAGENET_STD
from marserve_handlers.packages import required
from marserve_handlers.row import row_value
from marserve_handlers.timing import timed
from marserve_handlers.vision import VisionHandler, likeliest

_WHO: Final = "the handler dali_image_classifier"
_INSTALL: Final = "nvidia-dali-cuda130 (or the one of your CUDA release)"


class DALIHandler(VisionHandler):
    """Rows of images, made one batch by a DALI pipeline.

    Attributes:
        pipeline: the DALI pipeline; its one input takes the files as they came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pipeline: Any = None
        self._limit = 1

    def initialize(self, context: Context) -> None:
        """Load the model and build the pipeline.

        Raises:
            HandlerLoadFailed: DALI is not installed, or the YAML file's `dali` or the pipeline file
                is missing.
        """
        super().initialize(context)
        self.initialized = False
        self.pipeline = get_dali_pipeline(context)
        self._limit = int(context.model_yaml_config["dali"]["batch_size"])
        self.initialized = True

    @timed
    def preprocess(self, data: Any) -> Any:
        """One tensor for all rows, which are image files.

        Raises:
            PredictionException: a row is no image file (400).
        """
        images = []
        for row in data:
            value = row_value(row)
            if not isinstance(value, bytes | bytearray) or not value:
                raise PredictionException("The input must be an image file.", 400)
            images.append(np.frombuffer(value, dtype=np.uint8))
        tensors: list[torch.Tensor] = []
        for start in range(0, len(images), self._limit):
            tensors += self._run(images[start : start + self._limit])
        return torch.stack(tensors).to(self.device)

    def _run(self, images: list[Any]) -> list[torch.Tensor]:
        try:
            [batch] = self.pipeline.run(source=images)
        except RuntimeError as error:
            # a pipeline that has met one broken image refuses every later one as well
            self.pipeline = get_dali_pipeline(self.context)
            raise PredictionException(
                "DALI cannot read the image; the worker's log has its words.", 400
            ) from error
        if hasattr(batch, "as_cpu"):
            batch = batch.as_cpu()
        return [torch.tensor(batch.at(index)) for index in range(len(images))]


class DALIImageClassifier(DALIHandler):
    """The likeliest classes of each image, with their probabilities.

    Attributes:
        topk: how many classes a result names.
    """

    topk: int = 5

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


def get_dali_pipeline(ctx: Context) -> Any:
    """The DALI pipeline that the model's YAML file describes.

    Raises:
        HandlerLoadFailed: DALI is not installed, or something of the description is missing.
    """
    settings = ctx.model_yaml_config.get("dali")
    if not isinstance(settings, dict):
        raise HandlerLoadFailed(f"{ctx.model_name} has no dali config in model config yaml file")
    missing = {"batch_size", "num_threads", "device_id", "seed"} - settings.keys()
    if missing:
        raise HandlerLoadFailed(f"dali in the YAML file lacks {', '.join(sorted(missing))}")
    dali: Any = required("nvidia.dali", _WHO, _INSTALL)
    required("nvidia.dali.fn", _WHO, _INSTALL)
    shape = {key: settings[key] for key in ("batch_size", "num_threads", "device_id", "seed")}
    if "pipeline_file" not in settings:
        return _imagenet_pipeline(dali, shape)
    path = Path(ctx.system_properties["model_dir"]) / Path(settings["pipeline_file"]).name
    if not path.is_file():
        raise HandlerLoadFailed(f"the DALI pipeline file {path.name} is missing in the archive")
    deserialize = dali.pipeline.Pipeline.deserialize
    return deserialize(filename=str(path), prefetch_queue_depth=1, **shape)


def _imagenet_pipeline(dali: Any, shape: dict[str, Any]) -> Any:
    """Shorter side to 256 pixels, the middle 224 x 224, normalised: shape (3, 224, 224)."""
    fn, types = dali.fn, dali.types
    pipeline = dali.pipeline.Pipeline(prefetch_queue_depth=1, **shape)
    with pipeline:
        files = fn.external_source(dtype=types.UINT8, name="source")
        device = "cpu" if shape["device_id"] is None else "mixed"
        images = fn.decoders.image(files, device=device, output_type=types.RGB)
        scaled = fn.resize(
            images,
            size=[256],
            mode="not_smaller",
            interp_type=types.INTERP_LINEAR,
            antialias=True,
            subpixel_scale=False,
        )
        normalised = fn.crop_mirror_normalize(
            scaled,
            crop=(224, 224),
            crop_pos_x=0.5,
            crop_pos_y=0.5,
            mean=[value * 255 for value in IMAGENET_MEAN],
            std=[value * 255 for value in IMAGENET_STD],
        )
        pipeline.set_outputs(normalised)
    pipeline.build()
    return pipeline
