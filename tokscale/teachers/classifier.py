"""A stand-in for DINOv2: a small ViT that learned the classes of the data, and knows nothing beyond them.

Its logits are the mean of its tokens' logits, so that the features of each patch bear on the class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokscale.config import ClassifierTeacher
from tokscale.models.vit import Tubelet, VitEncoder
from tokscale.teachers.base import VisionTeacher


class Classifier(nn.Module):
    """Images (b, 3, h, w) in [-1, 1] to logits (b, classes)."""

    def __init__(self, config: ClassifierTeacher, resolution: int, classes: int) -> None:
        super().__init__()
        side = resolution // config.patch
        self.encoder = VitEncoder(config.size, Tubelet(config.patch), (side, side), classes)
        self.width = config.size.width

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.encoder(images).float().mean(dim=1)
        return logits

    def patches(self, images: Tensor) -> Tensor:
        """Features of each patch after the last block, normed; (b, n, width)."""
        return self.encoder.tokens(images)


class StandInTeacher(VisionTeacher):
    """The patch features of a trained classifier."""

    name = "stand-in classifier"

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(self.name, classifier, classifier.width)
        self.classifier = classifier

    def look(self, images: Tensor) -> Tensor:
        return self.classifier.patches(images)


@torch.no_grad()
def correct(classifier: Classifier, images: Tensor, labels: Tensor) -> int:
    """How many of these images are given their class."""
    return int((classifier(images).argmax(dim=1) == labels).sum())
