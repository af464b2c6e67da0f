"""Square crops of photographs, as guided diffusion made them (Dhariwal & Nichol 2021, "ADM") and the field kept them.

The short side is brought to the wanted length by halving with a box filter while it is at least twice as long, then by
one bicubic step. Pillow's filters are part of the definition, and measuring keeps to them bit by bit. Training brings
as much of the image to the same scale, but cuts it out first, at whole pixels of the source, and resizes what it keeps
with torch's filter: six times as fast.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from tokscale.data.decoding import UnreadableImage

_SMALLEST_SHARE = 0.8  # of the short side, in a random crop
_MAX_PIXELS = 2**27


def center_crop(image: Image.Image, resolution: int) -> NDArray[np.uint8]:
    """The middle square (h, w, c) of an RGB image after its short side was brought to ``resolution``."""
    image = _shrink(image, resolution)
    top, left = (image.height - resolution) // 2, (image.width - resolution) // 2
    return np.asarray(image)[top : top + resolution, left : left + resolution]


def random_crop(image: NDArray[np.uint8], resolution: int, scale: float, top: float, left: float) -> NDArray[np.uint8]:
    """A square (h, w, c) with a side between 0.8 and 1 of the short side, placed anywhere; the draws are in [0, 1).

    An image that is smaller than it should be is made larger first, so that it can be cut between its own pixels too.
    """
    short_side = random_short_side(resolution, scale)
    if min(image.shape[:2]) >= 2 * short_side:
        image = np.array(_halved(Image.fromarray(image), short_side))
    wide = _size(image.shape[1], image.shape[0], short_side)
    if min(image.shape[:2]) < short_side:
        return _cut(_resized(image, wide[1], wide[0]), resolution, top, left)
    side = max(resolution, round(resolution * min(image.shape[:2]) / short_side))
    return _resized(_cut(image, side, top, left), resolution, resolution)


def random_short_side(resolution: int, scale: float) -> int:
    """What the short side of an image is brought to for a random crop with the draw ``scale`` in [0, 1)."""
    return resolution + int(scale * (math.ceil(resolution / _SMALLEST_SHARE) - resolution + 1))


def _cut(image: NDArray[np.uint8], side: int, top: float, left: float) -> NDArray[np.uint8]:
    row, column = (int(draw * (whole - side + 1)) for draw, whole in zip((top, left), image.shape[:2], strict=True))
    return image[row : row + side, column : column + side]


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if (height, width) == image.shape[:2]:
        return image
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    return F.interpolate(planes, (height, width), mode="bicubic", antialias=True)[0].permute(1, 2, 0).numpy()


def _shrink(image: Image.Image, short_side: int) -> Image.Image:
    image = _halved(image, short_side)
    return image.resize(_size(image.width, image.height, short_side), resample=Image.Resampling.BICUBIC)


def _halved(image: Image.Image, short_side: int) -> Image.Image:
    while min(image.size) >= 2 * short_side:
        image = image.resize((image.width // 2, image.height // 2), resample=Image.Resampling.BOX)
    return image


def _size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height after the last step; ``UnreadableImage`` for what would fill the memory."""
    scale = short_side / min(width, height)
    wanted = round(width * scale), round(height * scale)
    if wanted[0] * wanted[1] > _MAX_PIXELS:
        raise UnreadableImage(f"too elongated: {width} x {height} would become {wanted[0]} x {wanted[1]} pixels")
    return wanted
