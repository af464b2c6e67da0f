"""Batches of an image set: an endless, resumable stream for training, each image once for evaluation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from tokscale.data.images import Batch, ImageSet
from tokscale.data.randomness import hash64, shuffled
from tokscale.errors import ConfigError

_AUGMENTATION, _STREAM = 1, 2**40


class TrainBatches(IterableDataset[Batch]):
    """An endless stream whose batch number t is a pure function of seed and t.

    It goes into a ``DataLoader`` with ``batch_size=None`` and any number of workers: batch t is made by worker
    t mod n, and the loader takes turns among its workers, so the order does not change.
    """

    def __init__(
        self,
        image_set: ImageSet,
        *,
        batch_size: int,
        seed: int,
        start_batch: int,
        rank: int,
        world_size: int,
        augment: bool,
    ):
        self.image_set, self.batch_size, self.seed, self.start_batch = image_set, batch_size, seed, start_batch
        self.rank, self.world_size, self.augment = rank, world_size, augment

    def batch(self, number: int) -> Batch:
        """This rank's part of batch ``number``: images (b / world_size, 3, h, w) uint8 and labels int64."""
        part = self.batch_size // self.world_size
        first = number * self.batch_size + self.rank * part
        positions = np.arange(first, first + part)
        size = self.image_set.size
        if size is None:
            # Index 0 and on are left to encoding and looking: with every seed, images that training has not seen.
            indices = positions + (self.seed % 2**22 + 1) * _STREAM
        else:
            indices = shuffled(positions, size, seed=self.seed)
        if not self.augment:
            return self.image_set.images(indices.tolist())
        return self.image_set.augmented_images(indices.tolist(), hash64(self.seed, _AUGMENTATION, positions))

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, step = self.start_batch, 1
        if worker is not None:
            number, step = self.start_batch + worker.id, worker.num_workers
        while True:
            yield self.batch(number)
            number += step


def train_batches(
    image_set: ImageSet,
    *,
    batch_size: int,
    seed: int,
    start_batch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    augment: bool = True,
) -> TrainBatches:
    """An endless stream of (images, labels) batches, of which a resumed run takes up number ``start_batch``.

    A finite set is gone through in a new order every epoch, each image once; an infinite one from a place of the seed's
    own, so far on that the streams of two seeds never meet, nor the first images, which are left to encoding.
    ``batch_size`` counts all ranks together; the ranks' parts of batch t, one after another, are the batch t of one
    process alone.
    """
    if batch_size % world_size:
        raise ConfigError(
            "a batch cannot be shared equally", where="training.batch_size", given=batch_size,
            allowed=f"a multiple of the number of processes, {world_size}",
        )  # fmt: skip
    return TrainBatches(
        image_set, batch_size=batch_size, seed=seed, start_batch=start_batch,
        rank=rank, world_size=world_size, augment=augment,
    )  # fmt: skip


def evaluation_batches(image_set: ImageSet, *, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
    """Images (b, 3, h, w) uint8 and labels (b,) in order, each readable image once, up to the first ``limit``."""
    if image_set.size is None and limit is None:
        raise ConfigError("a set without end is evaluated up to a limit", given="no limit", allowed="limit=N")
    end = min(size for size in (image_set.size, limit) if size is not None)
    for start in range(0, end, batch_size):
        images, labels = image_set.readable_images(range(start, min(start + batch_size, end)))
        if len(images):
            yield images, labels


def to_model_range(images: Tensor) -> Tensor:
    """From uint8 to float32 in [-1, 1]: 0 becomes -1 and 255 becomes 1."""
    return images.to(torch.float32, copy=True).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """From [-1, 1] to uint8, rounded to the nearest level and clamped; the inverse of ``to_model_range``."""
    return ((images.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
