"""``data: {kind: procedural}`` and ``procedural_video``: dead leaves, still or moving, without end, made as needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from tokscale.config import ProceduralData, ProceduralVideoData
from tokscale.data.dead_leaves import STYLES, render, scenes
from tokscale.data.images import Batch, ImageSet, Split, as_batch
from tokscale.data.moving_leaves import clips

_PIXELS_AT_ONCE = 1 << 18


class ProceduralImages(ImageSet):
    """Class-conditional dead leaves: an image is a function of seed, split and index, its label the index mod classes.

    Training images have no end; validation images are the first ``validation_images`` of a stream of their own. They
    are never cropped or flipped: new ones cost no more, and orientation tells some classes apart.
    """

    def __init__(self, config: ProceduralData | ProceduralVideoData, split: Split):
        self.seed, self.split, self.resolution = config.seed, split, config.resolution
        self.num_classes = config.classes
        self.class_names = [style.name for style in STYLES[: config.classes]]
        self.size = config.validation_images if split == "validation" else None
        self._blocks: dict[int, Batch] = {}

    @property
    def reference(self) -> str:
        name = f"procedural-{self.num_classes}c-s{self.seed}-{self.resolution}px-{self.split}"
        return name if self.size is None else f"{name}-{self.size}"

    def images(self, indices: Sequence[int]) -> Batch:
        wanted = np.asarray(indices, np.int64)
        if len(wanted) and (wanted.min() < 0 or (self.size is not None and wanted.max() >= self.size)):
            raise IndexError(f"image {int(wanted.max())} of {self.size}")
        block = max(1, _PIXELS_AT_ONCE // (self.frames * self.resolution**2))
        consecutive = bool((np.diff(wanted) == 1).all())
        # A worker of a loader makes every n-th batch: the rest of a block would be another's.
        if not consecutive or len(wanted) >= block or get_worker_info() is not None:
            return self._rendered(wanted)
        parts = []
        for number in range(wanted[0] // block, wanted[-1] // block + 1):
            pictures, labels = self._block(number, block)
            inside = wanted[wanted // block == number] % block
            parts.append((pictures[inside], labels[inside]))
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _rendered(self, indices: NDArray[np.int64]) -> Batch:
        which = scenes(self.seed, self.split, indices, self.num_classes)
        return as_batch(render(which, self.resolution), which.labels)

    def _block(self, number: int, size: int) -> Batch:
        """Images number * size and on: a few hundred at once cost a third of what they do sixteen by sixteen."""
        if number not in self._blocks:
            for old in list(self._blocks)[:-1]:
                del self._blocks[old]
            self._blocks[number] = self._rendered(np.arange(number * size, (number + 1) * size))
        return self._blocks[number]


class ProceduralVideos(ProceduralImages):
    """Class-conditional moving dead leaves; each clip begins with the procedural image of its index."""

    def __init__(self, config: ProceduralVideoData, split: Split):
        super().__init__(config, split)
        self.config, self.frames = config, config.frames

    @property
    def reference(self) -> str:
        config = self.config
        motion = f"{config.frames}f-v{config.speed:g}-p{config.parallax:g}-cut{config.cut_probability:g}"
        return super().reference.replace("procedural", f"procedural-video-{motion}", 1)

    def _rendered(self, indices: NDArray[np.int64]) -> Batch:
        which = scenes(self.seed, self.split, indices, self.num_classes)
        return as_batch(clips(which, self.config), which.labels)
