"""``data: {kind: procedural}`` and ``procedural_video``: dead leaves, still or moving, without end, made as needed."""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from tokscale.config import ProceduralData, ProceduralVideoData
from tokscale.data.dead_leaves import STYLES, render, scenes
from tokscale.data.images import Batch, ImageSet, Split, as_batch
from tokscale.data.moving_leaves import clips
from tokscale.memory import KEPT_PICTURES, RENDERED_PIXELS


class RenderedBlocks:
    """Blocks of pictures that this process rendered, for whoever asks for the same again: a worker trains the trials of
    a sweep one after another, and most see the same images, whose rendering takes a third of a small tokenizer's step.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self._kept: dict[Hashable, Batch] = {}

    def find(self, key: Hashable) -> Batch | None:
        """A block that is kept."""
        return self._kept.get(key)

    def keep(self, key: Hashable, block: Batch, needed: Container[Hashable]) -> bool:
        """Keep a block if there is room, for which those make way, oldest first, that are not ``needed``.

        Whoever passes through more than there is room for thus keeps the beginning, and finds it the next time.
        """
        size = sum(part.nbytes for part in block)
        for old in [old for old in self._kept if old not in needed]:
            if self.bytes + size <= self.most_bytes:
                break
            self.bytes -= sum(part.nbytes for part in self._kept.pop(old))
        if self.bytes + size > self.most_bytes:
            return False
        self._kept[key] = block
        self.bytes += size
        return True


rendered_here = RenderedBlocks(KEPT_PICTURES)
"""the blocks of this process"""


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
        self._blocks: dict[int, Batch] = {}  # the newest two
        self._used: set[Hashable] = set()  # of the blocks that the process keeps
        self._name = f"{split} {config.model_dump_json()}"

    @property
    def reference(self) -> str:
        name = f"procedural-{self.num_classes}c-s{self.seed}-{self.resolution}px-{self.split}"
        return name if self.size is None else f"{name}-{self.size}"

    def images(self, indices: Sequence[int]) -> Batch:
        wanted = np.asarray(indices, np.int64)
        if len(wanted) and (wanted.min() < 0 or (self.size is not None and wanted.max() >= self.size)):
            raise IndexError(f"image {int(wanted.max())} of {self.size}")
        block = max(1, RENDERED_PIXELS // (self.frames * self.resolution**2))
        consecutive = bool((np.diff(wanted) == 1).all())
        # A worker of a loader makes every n-th batch: the rest of a block would be another's.
        if not consecutive or not len(wanted) or get_worker_info() is not None:
            return self._rendered(wanted)
        first, end = int(wanted[0]), int(wanted[-1]) + 1
        parts = []
        for number in range(first // block, -(-end // block)):
            inside = slice(max(0, first - number * block), end - number * block)
            parts.append(tuple(whole[inside] for whole in self._block(number, block)))
        # Always a copy: whoever asked may write to it.
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _rendered(self, indices: NDArray[np.int64]) -> Batch:
        which = scenes(self.seed, self.split, indices, self.num_classes)
        return as_batch(render(which, self.resolution), which.labels)

    def _block(self, number: int, size: int) -> Batch:
        """Images number * size and on: a few hundred at once cost a third of what they do sixteen by sixteen."""
        if number not in self._blocks:
            for old in list(self._blocks)[:-1]:
                del self._blocks[old]
            self._blocks[number] = self._kept_or_rendered(number, size)
        return self._blocks[number]

    def _kept_or_rendered(self, number: int, size: int) -> Batch:
        key = (self._name, number, size)
        block = rendered_here.find(key)
        if block is None:
            block = self._rendered(np.arange(number * size, (number + 1) * size))
            if not rendered_here.keep(key, block, self._used):
                return block
        self._used.add(key)
        return block


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
