"""Training batches of cached latents: an endless stream that any step can be taken up from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from tokscale.data.latents import Array, Batch, LatentSplit
from tokscale.data.randomness import hash64, shuffled

_VARIANT = 2  # apart from the words of other draws


class LatentBatches(IterableDataset[Batch]):
    """An endless stream whose batch number t is a pure function of seed and t; each epoch sees every image once,
    in one of its variants.

    Epochs are joined end to end, so a batch may hold the end of one and the start of the next. It goes into a
    ``DataLoader`` with ``batch_size=None`` and any number of workers: they take turns, and the order does not change.
    """

    def __init__(self, split: LatentSplit, batch_size: int, seed: int, start_batch: int, rank: int, world_size: int):
        assert len(split) > 0, "an empty split has no batches"
        assert batch_size % world_size == 0, "a batch is shared equally among processes"
        self.split, self.batch_size, self.seed, self.start_batch = split, batch_size, seed, start_batch
        self.rank, self.world_size = rank, world_size

    def images(self, number: int) -> Array:
        """Indices (b / world_size,) of the images of this rank's part of batch ``number``."""
        return shuffled(self._positions(number), len(self.split), seed=self.seed)

    def variants(self, number: int) -> Array:
        """Which variant (b / world_size,) of each of these images, drawn anew in every epoch."""
        drawn = hash64(self.seed, _VARIANT, self._positions(number)) % np.uint64(self.split.variants)
        variants: Array = drawn.astype(np.int64)
        return variants

    def _positions(self, number: int) -> Array:
        part = self.batch_size // self.world_size
        first = number * self.batch_size + self.rank * part
        return np.arange(first, first + part)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for number in itertools.count(self.start_batch + first, step):
            yield self.split.batch(self.images(number), self.variants(number))


def latent_batches(
    split: LatentSplit, *, batch_size: int, seed: int, start_batch: int = 0, rank: int = 0, world_size: int = 1
) -> LatentBatches:
    """Training batches of ``split``, of which a resumed run takes up number ``start_batch``.

    ``batch_size`` counts all ranks together; the ranks' parts of batch t are the batch t of a single process.
    """
    return LatentBatches(split, batch_size, seed, start_batch, rank, world_size)
