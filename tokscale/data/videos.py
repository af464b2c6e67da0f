"""``data: {kind: video_folder}``: clips of videos in class folders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokscale.data.encoded import Pixels
from tokscale.data.folder import FolderImages, Medium
from tokscale.data.images import Batch, Split
from tokscale.data.randomness import Words, hash64, uniforms
from tokscale.data.video_reading import ENDINGS, read_clip
from tokscale.data_config import VideoFolderData

_START = 1  # apart from the words of crops


class FolderVideos(FolderImages):
    """Clips of the videos below a folder, found, split and skipped as images are; each video is one item.

    In training a clip begins anywhere in its video, and its frames share one crop and one flip; in evaluation it is the
    middle one. A video that is too short for a clip cannot be read.
    """

    medium = Medium("video", ENDINGS)

    def __init__(self, config: VideoFolderData, split: Split):
        self.frames, self.rate = config.frames, config.fps
        super().__init__(config, split)

    @property
    def item_shape(self) -> tuple[int, ...]:
        return self.frames, self.resolution, self.resolution

    @property
    def reference(self) -> str:
        rate = "" if self.rate is None else f"-{self.rate:g}fps"
        return f"{super().reference}-{self.frames}f{rate}"

    def augmented_images(self, indices: Sequence[int], draws: Words) -> Batch:
        starts, *_ = uniforms(hash64(draws, _START))
        numbers = np.stack((*uniforms(draws), starts), 1).tolist()
        return self._batch(indices, numbers)

    def decode(self, room: Pixels, file: int, draw: list[float] | None) -> None:
        place, crop = (None, None) if draw is None else (draw[-1], draw[:-1])
        for number, frame in enumerate(read_clip(self.path(file), self.frames, self.rate, place)):
            self._crop(room[:, number], frame, crop)
