"""Images and clips: procedural, from folders, from shards; one interface for all.

    image_set = open_images(config.data, "train")
    for images, labels in train_batches(image_set, batch_size=64, seed=0): ...

Batches are uint8 (b, 3, h, w), of clips (b, 3, t, h, w), and int64 (b,); every batch is a pure function of the seed
and its number.
"""

from __future__ import annotations

from importlib.util import find_spec

from tokscale.config import (
    DataConfig,
    ImageFolderData,
    ProceduralData,
    ProceduralVideoData,
    VideoFolderData,
)
from tokscale.data.batches import TrainBatches, evaluation_batches, to_model_range, to_uint8, train_batches
from tokscale.data.folder import FolderImages
from tokscale.data.images import Batch, ImageSet, Skipped, Split, frames_of
from tokscale.data.procedural import ProceduralImages, ProceduralVideos
from tokscale.data.shards import ShardImages
from tokscale.errors import DataError

__all__ = [
    "Batch",
    "ImageSet",
    "Skipped",
    "Split",
    "TrainBatches",
    "evaluation_batches",
    "frames_of",
    "open_images",
    "to_model_range",
    "to_uint8",
    "train_batches",
]


def open_images(config: DataConfig, split: Split) -> ImageSet:
    """The images, or clips, of a data config and a split, "train" or "validation".

    Raises ``DataError`` when there are none.
    """
    if isinstance(config, ProceduralVideoData):
        return ProceduralVideos(config, split)
    if isinstance(config, VideoFolderData):
        return _open_videos(config, split)
    if isinstance(config, ProceduralData):
        return ProceduralImages(config, split)
    if isinstance(config, ImageFolderData):
        return FolderImages(config, split)
    return ShardImages(config, split)


def _open_videos(config: VideoFolderData, split: Split) -> ImageSet:
    if find_spec("av") is None:
        raise DataError("PyAV is not installed, and videos are read by it", where="data.kind video_folder",
                        allowed="pip install 'tokscale[video]'")  # fmt: skip
    from tokscale.data.videos import FolderVideos

    return FolderVideos(config, split)
