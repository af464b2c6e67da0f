"""Square crops of photographs, as guided diffusion made them (Dhariwal & Nichol 2021, "ADM") and the field kept them.

The short side is brought to the wanted length by halving with a box filter while it is at least twice as long, then by
one bicubic step; Pillow's filters are part of the definition.
"""

from __future__ import annotations

import math

import numpy as np
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


def random_crop(image: Image.Image, resolution: int, scale: float, top: float, left: float) -> NDArray[np.uint8]:
    """A square (h, w, c) with a side between 0.8 and 1 of the short side, placed anywhere; the draws are in [0, 1)."""
    longest = math.ceil(resolution / _SMALLEST_SHARE)
    image = _shrink(image, resolution + int(scale * (longest - resolution + 1)))
    row, column = int(top * (image.height - resolution + 1)), int(left * (image.width - resolution + 1))
    return np.asarray(image)[row : row + resolution, column : column + resolution]


def _shrink(image: Image.Image, short_side: int) -> Image.Image:
    while min(image.size) >= 2 * short_side:
        image = image.resize((image.width // 2, image.height // 2), resample=Image.Resampling.BOX)
    scale = short_side / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    if width * height > _MAX_PIXELS:
        raise UnreadableImage(f"too elongated: {image.width} x {image.height} would become {width} x {height} pixels")
    return image.resize((width, height), resample=Image.Resampling.BICUBIC)
