"""A tiny image model, so that the example needs no download."""

import torch
from torch import nn


class TinyNet(nn.Module):
    """Colour images of shape (n, 3, 32, 32) in, three logits per image out."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
        self.classify = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.features(images).mean(dim=(2, 3))
        logits: torch.Tensor = self.classify(pooled)
        return logits
