"""Variants of a training image that are encoded once and drawn from in every epoch: mirrored, or cropped and mirrored.

Ten crops as LlamaGen's (Sun et al. 2024): the middle square of the image at 1.1 times the resolution, and at 1.05
times, each cut at four corners and in the middle, as it is and mirrored; twenty variants in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from tokscale.config import DataConfig
from tokscale.data import ImageSet, Skipped, Split, open_images
from tokscale.errors import DataError
from tokscale.probe_config import VARIANTS, Augment

CROP_FACTORS = (1.1, 1.05)
Batch = tuple[Tensor, Tensor, int]


def ten_crops(images: Tensor, resolution: int) -> Tensor:
    """Square images (b, 3, s, s) to (b, 10, 3, r, r): the four corners and the middle, then the same mirrored."""
    margin = images.shape[-1] - resolution
    corners = [(0, 0), (0, margin), (margin, 0), (margin, margin), (margin // 2, margin // 2)]
    five = [images[..., top : top + resolution, left : left + resolution] for top, left in corners]
    return torch.stack([*five, *(crop.flip(-1) for crop in five)], dim=1)


@dataclass(frozen=True)
class Variants:
    """Images of one split with all their variants; more than one for the training split alone."""

    sets: tuple[ImageSet, ...]
    augment: Augment
    resolution: int

    @property
    def count(self) -> int:
        """Variants of each image."""
        return VARIANTS[self.augment]

    @property
    def size(self) -> int | None:
        """Images; None where there is no end of them."""
        return self.sets[0].size

    @property
    def frames(self) -> int:
        return self.sets[0].frames

    @property
    def num_classes(self) -> int:
        return self.sets[0].num_classes

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be read, each once."""
        return list(dict.fromkeys(item for images in self.sets for item in images.skipped))

    def batches(self, at_once: int, limit: int, start: int = 0) -> EncodedBatches:
        """Images ``start`` to ``limit`` in order, as a stream for a ``DataLoader`` with ``batch_size=None``.

        At most ``at_once`` pictures a batch, unless one image has more.
        """
        return EncodedBatches(self, at_once, start, limit)

    def batch(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Pictures (b v, 3, h, w) uint8 and labels (b v,), the v variants of an image one after another.

        Images that cannot be read are left out.
        """
        batches = [images.readable_images(range(start, end)) for images in self.sets]
        labels = batches[0][1]
        if any(not torch.equal(other, labels) for _, other in batches[1:]):
            raise DataError("an image could be read for one crop, not for another", where=self.sets[0].reference,
                            allowed="files that do not change while they are encoded")  # fmt: skip
        variants = torch.cat([self._of(images) for images, _ in batches], dim=1)
        return variants.flatten(0, 1), labels.repeat_interleave(self.count)

    def _of(self, images: Tensor) -> Tensor:
        if self.augment == "ten-crop":
            return ten_crops(images, self.resolution)
        shown = [images, images.flip(-1)] if self.augment == "flip" else [images]
        return torch.stack(shown, dim=1)


class EncodedBatches(IterableDataset[Batch]):
    """Batches of images with all their variants, each with the number of the image after its last; any number of
    workers take turns, and the order does not change."""

    def __init__(self, variants: Variants, at_once: int, start: int, limit: int) -> None:
        self.variants, self.at_once, self.start, self.limit = variants, at_once, start, limit

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        images = max(1, self.at_once // self.variants.count)
        for start in range(self.start + first * images, self.limit, step * images):
            end = min(start + images, self.limit)
            yield *self.variants.batch(start, end), end


def open_variants(data: DataConfig, split: Split, augment: Augment) -> Variants:
    """The images of a split as they are to be encoded."""
    augment = augment if split == "train" else "none"
    factors = CROP_FACTORS if augment == "ten-crop" else (1.0,)
    larger = [data.model_copy(update={"resolution": int(data.resolution * factor)}) for factor in factors]
    return Variants(tuple(open_images(config, split) for config in larger), augment, data.resolution)
