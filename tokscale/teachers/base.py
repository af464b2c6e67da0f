"""What a teacher is to a tokenizer: a frozen network that gives features of an image's patches."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class VisionTeacher(ABC):
    """Images to patch features; a new vision encoder is one subclass.

    It is no module, so that neither checkpoints nor optimizers take its weights for the tokenizer's.
    """

    def __init__(self, name: str, module: nn.Module, dim: int) -> None:
        self.name = name
        self.module = module.eval().requires_grad_(False)
        self.dim = dim
        """channels of the features"""

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) in [-1, 1] to the features of a square grid of patches, row by row; (b, n, dim)."""
        found = self.look(images)
        assert found.shape[0] == len(images), f"{self.name} gave features of {found.shape[0]} images"
        assert found.shape[2] == self.dim, f"{self.name} is {found.shape[2]} wide, not {self.dim}"
        return found

    @abstractmethod
    def look(self, images: Tensor) -> Tensor:
        """``features``, before their shape is checked."""

    def to(self, device: torch.device) -> None:
        """Move the network to a device."""
        self.module.to(device)

    @property
    def params(self) -> int:
        """Parameters of the frozen network."""
        return sum(parameter.numel() for parameter in self.module.parameters())
