"""The model file of the archives that `worker_start.py` and `memory.py` make."""

from torchvision.models.resnet import Bottleneck, ResNet


class ResNet50(ResNet):
    """As torchvision's `resnet50()` makes it."""

    def __init__(self):
        super().__init__(Bottleneck, [3, 4, 6, 3])
