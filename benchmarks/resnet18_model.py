"""The model file of the archives that `resnet18.py` and `optimize.py` make."""

from torchvision.models.resnet import BasicBlock, ResNet


class ResNet18(ResNet):
    """ResNet-18 with 1000 classes."""

    def __init__(self):
        super().__init__(BasicBlock, [2, 2, 2, 2])
