"""Images: procedural, from folders, from shards; one interface for all.

    image_set = open_images(config.data, "train")
    for images, labels in train_batches(image_set, batch_size=64, seed=0): ...

Batches are uint8 (b, 3, h, w) and int64 (b,); every batch is a pure function of the seed and its number.
"""

from __future__ import annotations

from tokscale.config import ImageFolderData, ProceduralData, ShardsData
from tokscale.data.batches import TrainBatches, evaluation_batches, to_model_range, to_uint8, train_batches
from tokscale.data.folder import FolderImages
from tokscale.data.images import Batch, ImageSet, Skipped, Split
from tokscale.data.procedural import ProceduralImages
from tokscale.data.shards import ShardImages

__all__ = [
    "Batch",
    "ImageSet",
    "Skipped",
    "Split",
    "TrainBatches",
    "evaluation_batches",
    "open_images",
    "to_model_range",
    "to_uint8",
    "train_batches",
]


def open_images(config: ProceduralData | ImageFolderData | ShardsData, split: Split) -> ImageSet:
    """The images of a data config and a split, "train" or "validation"; raises ``DataError`` when there are none."""
    if isinstance(config, ProceduralData):
        return ProceduralImages(config, split)
    if isinstance(config, ImageFolderData):
        return FolderImages(config, split)
    return ShardImages(config, split)
