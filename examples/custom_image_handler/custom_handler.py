"""A handler as it is written for TorchServe: everything by hand, TorchServe's names imported.

It runs unchanged on MarServe. Which class wins, and how surely, is the answer to each image.
"""

import io
import json
import logging
from pathlib import Path

import torch
from model import TinyNet
from PIL import Image
from torchvision import transforms
from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import PredictionException

logger = logging.getLogger(__name__)


class TinyImageHandler(BaseHandler):
    to_tensor = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])

    def initialize(self, context):
        properties = context.system_properties
        model_dir = Path(properties.get("model_dir"))
        gpu_id = properties.get("gpu_id")
        use_gpu = torch.cuda.is_available() and gpu_id is not None
        self.device = torch.device(f"cuda:{gpu_id}" if use_gpu else "cpu")

        weights = model_dir / context.manifest["model"]["serializedFile"]
        self.model = TinyNet()
        self.model.load_state_dict(torch.load(weights, map_location=self.device, weights_only=True))
        self.model.to(self.device).eval()

        self.names = json.loads((model_dir / "index_to_name.json").read_text())
        logger.info("loaded %s", weights)
        self.initialized = True

    def preprocess(self, data):
        images = []
        for row in data:
            sent = row.get("data") or row.get("body")
            if not isinstance(sent, (bytes, bytearray)):
                raise PredictionException("Send an image file.", 400)
            try:
                image = Image.open(io.BytesIO(sent)).convert("RGB")
            except OSError as error:
                raise PredictionException(f"This is not an image: {error}", 400) from error
            images.append(self.to_tensor(image))
        return torch.stack(images).to(self.device)

    def inference(self, images):
        with torch.no_grad():
            return torch.softmax(self.model(images), dim=1)

    def postprocess(self, probabilities):
        best = probabilities.max(dim=1)
        return [
            {"class": self.names[str(index)], "probability": round(value, 4)}
            for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def handle(self, data, context):
        results = self.postprocess(self.inference(self.preprocess(data)))
        for index in range(len(results)):
            context.set_response_content_type(index, "application/json")
        context.metrics.add_counter("ImagesSeen", len(results))
        return results
