"""The one interface to image data: a set of labelled images, each a pure function of its index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokscale.data.randomness import Words

Split = Literal["train", "validation"]
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Skipped:
    """An input that was left out, and why."""

    path: str
    reason: str


def left_out(skipped: Sequence[Skipped]) -> str:
    """The first reasons as an end to a message, for what was left out may explain what is missing; else nothing."""
    return "".join(f"; left out {item.path}: {item.reason}" for item in skipped[:3])


class ImageSet(ABC):
    """Labelled square images, or clips, of one split; ``size`` is None where there is no end of them.

    Where a set is of clips, what is said of images (b, 3, h, w) holds of clips (b, 3, t, h, w), t being ``frames``.
    """

    num_classes: int
    resolution: int
    frames: int = 1
    size: int | None
    class_names: list[str]

    @property
    def skipped(self) -> list[Skipped]:
        """What was found unreadable so far, each once."""
        return []

    @property
    @abstractmethod
    def reference(self) -> str:
        """Short name of this very set of images, to tell apart what Fréchet distances were measured against."""

    @abstractmethod
    def images(self, indices: Sequence[int]) -> Batch:
        """Images (b, 3, h, w) uint8, by the evaluation transform, and labels (b,) int64.

        An image that cannot be read is replaced by the next of the set that can.
        """

    def augmented_images(self, indices: Sequence[int], draws: Words) -> Batch:
        """As ``images``, with the random crop and flip that the draws (b,) stand for, where the set has any."""
        return self.images(indices)

    def readable_images(self, indices: Sequence[int]) -> Batch:
        """As ``images``, without those that cannot be read: none takes another's place."""
        return self.images(indices)


def as_batch(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Batch:
    """Images (b, 3, h, w) and labels (b,) as tensors."""
    return torch.from_numpy(images), torch.from_numpy(labels)


def frames_of(images: Tensor) -> Tensor:
    """The frames (b t, 3, h, w) of clips (b, 3, t, h, w), clip by clip; images (b, 3, h, w) as they are."""
    return images if images.ndim == 4 else images.transpose(1, 2).flatten(0, 1)
