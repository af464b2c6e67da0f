"""Image sets that live in files: decoding on demand, cropping, and what happens to images that cannot be read."""

from __future__ import annotations

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tokscale.data.crops import center_crop, largest_short_side, random_crop
from tokscale.data.decoding import UnreadableImage, decode
from tokscale.data.images import Batch, ImageSet, Skipped, Split, as_batch
from tokscale.data.kept_pixels import kept_pixels, name_of, stamp
from tokscale.data.randomness import Words, uniforms
from tokscale.errors import DataError

Pixels = NDArray[np.uint8]
Integers = NDArray[np.int64]

VERIFIED_AT_ONCE = 2048  # validation images; larger sets are verified as they are read
_MOST_IN_A_ROW = 1000

_log = logging.getLogger(__name__)


class Transform(Protocol):
    """What a data config says about size and augmentation."""

    @property
    def resolution(self) -> int: ...
    @property
    def crop(self) -> str: ...
    @property
    def flip(self) -> bool: ...


def refuse_shared(shared: Collection[str], where: str) -> None:
    """Raise ``DataError`` when files are in both splits: what was trained on measures nothing."""
    if shared:
        raise DataError(
            f"train and validation share {len(shared)} files", where=where, given=min(shared),
            allowed="validation images that are not trained on",
        )  # fmt: skip


class EncodedImages(ImageSet):
    """Images that are decoded when they are asked for, in a fixed pseudo-random order: any prefix is a fair sample.

    An image that cannot be read is named in ``skipped`` and logged, once. In training the next good image of the set
    stands in for it; in evaluation it is left out. Which images are bad is shared with loader workers and told back.
    """

    size: int
    item = "image"
    """what an item is called in messages"""
    rate: float | None = None
    """frames a second of an item that has several, where that is said"""

    def __init__(self, transform: Transform, split: Split, labels: Integers, class_names: list[str], name: str):
        self.transform, self.split, self.name = transform, split, name
        self.resolution = transform.resolution
        self.class_names, self.num_classes = class_names, len(class_names)
        self.order = np.arange(len(labels))
        self.size = len(labels)
        self.all_labels = labels
        self.left_out: list[Skipped] = []
        self._kept = kept_pixels()
        self._bad = torch.zeros(len(labels), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        self._reasons: dict[int, str] = {}

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Of one item, after its colours."""
        return self.resolution, self.resolution

    @abstractmethod
    def path(self, file: int) -> str:
        """Where the encoded image is, for messages."""

    @abstractmethod
    def fingerprint(self, file: int) -> str:
        """What tells this encoded image from others, without the folder that the set happens to lie in."""

    @abstractmethod
    def read(self, file: int) -> bytes:
        """The encoded image; raises ``OSError``."""

    @property
    def skipped(self) -> list[Skipped]:
        for file in torch.nonzero(self._bad).flatten().tolist():
            if file not in self._reasons:
                self._try(self._room(1)[0], file)
                self._reasons.setdefault(file, "could not be read by a loader worker")
        return self.left_out + [Skipped(self.path(file), self._reasons[file]) for file in sorted(self._reasons)]

    @cached_property
    def reference(self) -> str:
        listing = "\n".join(self.fingerprint(file) for file in self.order.tolist())
        digest = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return f"{self.name}-{self.resolution}px-{self.split}-{self.size}-{digest}"

    def images(self, indices: Sequence[int]) -> Batch:
        return self._batch(indices, [None] * len(indices))

    def augmented_images(self, indices: Sequence[int], draws: Words) -> Batch:
        return self._batch(indices, np.stack(uniforms(draws), 1).tolist())

    def readable_images(self, indices: Sequence[int]) -> Batch:
        images = self._room(len(indices))
        files: list[int] = []
        for file in self.order[list(indices)].tolist():
            if self._fill(images[len(files)], file):
                files.append(file)
        return as_batch(images[: len(files)], self.all_labels[files])

    def keep(self, limit: int | None) -> None:
        """Keep the first ``limit`` images. Up to 2048 of them are decoded now, so that only good ones are kept."""
        wanted = self.size if limit is None else min(limit, self.size)
        if wanted <= VERIFIED_AT_ONCE:
            good: list[int] = []
            room = self._room(1)[0]
            for file in self.order.tolist():
                if len(good) == wanted:
                    break
                if self._fill(room, file):
                    good.append(file)
            self.order = np.array(good, np.int64)
        else:
            self.order = self.order[:wanted]
        self.size = len(self.order)
        if not self.size:
            raise self._nothing()

    def _batch(self, indices: Sequence[int], draws: Sequence[list[float] | None]) -> Batch:
        images = self._room(len(indices))
        files = [self._or_next(*given) for given in zip(images, indices, draws, strict=True)]
        return as_batch(images, self.all_labels[files])

    def _room(self, items: int) -> Pixels:
        return np.empty((items, 3, *self.item_shape), np.uint8)

    def _or_next(self, room: Pixels, index: int, draw: list[float] | None) -> int:
        """Fill ``room`` with the item, or with the next that can be read; which file that is of."""
        if not 0 <= index < self.size:
            raise IndexError(f"image {index} of {self.size}")
        for step in range(min(self.size, _MOST_IN_A_ROW)):
            file = int(self.order[(index + step) % self.size])
            if self._fill(room, file, draw):
                return file
        raise self._nothing()

    def stamp(self, file: int) -> tuple[object, ...]:
        """What tells this encoded image from others, wherever they are, and from what it was before a change."""
        return stamp(self.path(file))

    def decode(self, room: Pixels, file: int, draw: list[float] | None) -> None:
        """Fill ``room`` with cropped pixels (c, h, w); raises ``OSError`` or ``UnreadableImage``."""
        if self._cut_anywhere(draw):
            self._crop(room, self._pixels(file), draw)
        else:
            self._crop(room, decode(self.read(file)), draw)

    def _pixels(self, file: int) -> Pixels:
        """An image as it is decoded for random crops."""
        enough = largest_short_side(self.resolution)
        if self._kept is None:
            return decode(self.read(file), enough)
        name = name_of("image", self.stamp(file), enough)
        pixels = self._kept.load(name)
        if pixels is None:
            pixels = decode(self.read(file), enough)
            self._kept.keep(name, pixels)
        return pixels

    def _cut_anywhere(self, draw: list[float] | None) -> bool:
        return draw is not None and self.transform.crop == "random"

    def _decode_once(self, room: Pixels, file: int, draw: list[float] | None) -> None:
        """As ``decode``, where evaluation's pixels, which are the same each time, are kept."""
        if self._kept is None or draw is not None:
            return self.decode(room, file, draw)
        name = name_of("crop", self.stamp(file), self.item_shape, self.rate)
        found = self._kept.load(name)
        if found is not None and found.shape == room.shape:
            room[:] = found
        else:
            self.decode(room, file, None)
            self._kept.keep(name, room)
        return None

    def _fill(self, room: Pixels, file: int, draw: list[float] | None = None) -> bool:
        """Fill ``room`` with cropped pixels; not with those of an image that cannot be read."""
        return not self._bad[file] and self._try(room, file, draw)

    def _try(self, room: Pixels, file: int, draw: list[float] | None = None) -> bool:
        try:
            self._decode_once(room, file, draw)
        except OSError as error:
            self._skip(file, error.strerror or str(error))
        except UnreadableImage as error:
            self._skip(file, str(error))
        else:
            return True
        return False

    def _crop(self, room: Pixels, image: Pixels, draw: list[float] | None) -> None:
        if draw is None:
            return center_crop(room, image)
        scale, top, left, side = draw
        flip = self.transform.flip and side < 0.5
        if self._cut_anywhere(draw):
            return random_crop(room, image, scale, top, left, flip)
        return center_crop(room, image, flip)

    def _skip(self, file: int, reason: str) -> None:
        self._reasons[file] = reason
        if not self._bad[file]:
            self._bad[file] = 1
            _log.warning("skipped %s: %s", self.path(file), reason)

    def _nothing(self) -> DataError:
        first = self.skipped[0]
        return DataError(
            f"no {self.split} {self.item} of {self.name} can be read", where=first.path, given=first.reason,
            allowed=f"at least one readable {self.item}",
        )  # fmt: skip
