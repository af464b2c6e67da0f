"""``data: {kind: procedural}``: dead-leaves images without end, made as they are needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokscale.config import ProceduralData
from tokscale.data.dead_leaves import STYLES, render, scenes
from tokscale.data.images import Batch, ImageSet, Split, as_batch


class ProceduralImages(ImageSet):
    """Class-conditional dead leaves: an image is a function of seed, split and index, its label the index mod classes.

    Training images have no end; validation images are the first ``validation_images`` of a stream of their own. They
    are never cropped or flipped: new ones cost no more, and orientation tells some classes apart.
    """

    def __init__(self, config: ProceduralData, split: Split):
        self.seed, self.split, self.resolution = config.seed, split, config.resolution
        self.num_classes = config.classes
        self.class_names = [style.name for style in STYLES[: config.classes]]
        self.size = config.validation_images if split == "validation" else None

    @property
    def reference(self) -> str:
        name = f"procedural-{self.num_classes}c-s{self.seed}-{self.resolution}px-{self.split}"
        return name if self.size is None else f"{name}-{self.size}"

    def images(self, indices: Sequence[int]) -> Batch:
        wanted = np.asarray(indices, np.int64)
        if len(wanted) and (wanted.min() < 0 or (self.size is not None and wanted.max() >= self.size)):
            raise IndexError(f"image {int(wanted.max())} of {self.size}")
        which = scenes(self.seed, self.split, wanted, self.num_classes)
        return as_batch(render(which, self.resolution), which.labels)
