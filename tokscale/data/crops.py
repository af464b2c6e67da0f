"""Square crops of photographs, as guided diffusion made them (Dhariwal & Nichol 2021, "ADM") and the field kept them.

The short side is brought to the wanted length by halving with a box filter while it is at least twice as long, then by
one bicubic step. Pillow's filters are part of the definition, and all crops keep to them bit by bit. Training brings as
much of the image to the same scale, but cuts it out first, at whole pixels of the source.

Crops are planes, and fill some (c, h, w) that are given. Where numba can be imported, compiled code makes them, eight
times as fast as Pillow; a process begins with Pillow, as to load or even compile that code pays off only where there is
much to crop.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tokscale.data.decoding import UnreadableImage
from tokscale.data.resampling import Line, by_pillow, halvings_of

Pixels = NDArray[np.uint8]

_SMALLEST_SHARE = 0.8  # of the short side, in a random crop
_MAX_PIXELS = 2**27
_FEW = 2**26  # pixels of images: Pillow resizes so many in the time in which the compiled code is loaded


def center_crop(out: Pixels, image: Pixels, flip: bool = False) -> None:
    """The middle square of an RGB image (h, w, 3) after its short side was brought to that of ``out``."""
    resolution = out.shape[-1]
    halvings = halvings_of(min(image.shape[:2]), resolution)
    sides = image.shape[0] >> halvings, image.shape[1] >> halvings
    rows, columns = (
        Line(0, side, out, (out - resolution) // 2, resolution)
        for side, out in zip(sides, _size(*sides, resolution), strict=True)
    )
    _squares.crop(out, image, halvings, rows, columns, flip)


def random_crop(out: Pixels, image: Pixels, scale: float, top: float, left: float, flip: bool = False) -> None:
    """A square with a side between 0.8 and 1 of the short side, placed anywhere; the draws are in [0, 1).

    An image (h, w, 3) that is smaller than it should be is made larger first, so that it can be cut between its own
    pixels too.
    """
    resolution = out.shape[-1]
    short_side = _random_short_side(resolution, scale)
    halvings = halvings_of(min(image.shape[:2]), short_side)
    sides = image.shape[0] >> halvings, image.shape[1] >> halvings
    wide = _size(*sides, short_side)
    if min(sides) < short_side:
        rows, columns = (
            Line(0, side, out, _place(draw, out, resolution), resolution)
            for side, out, draw in zip(sides, wide, (top, left), strict=True)
        )
    else:
        cut = max(resolution, round(resolution * min(sides) / short_side))
        rows, columns = (
            Line(_place(draw, side, cut), cut, resolution, 0, resolution)
            for side, draw in zip(sides, (top, left), strict=True)
        )
    _squares.crop(out, image, halvings, rows, columns, flip)


def largest_short_side(resolution: int) -> int:
    """What the short side of an image is brought to at most, for a random crop."""
    return math.ceil(resolution / _SMALLEST_SHARE)


def _random_short_side(resolution: int, scale: float) -> int:
    """What the short side of an image is brought to for a random crop with the draw ``scale`` in [0, 1)."""
    return resolution + int(scale * (largest_short_side(resolution) - resolution + 1))


def _place(draw: float, whole: int, side: int) -> int:
    return int(draw * (whole - side + 1))


def _size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width after the last step; ``UnreadableImage`` for what would fill the memory."""
    scale = short_side / min(width, height)
    wanted = round(height * scale), round(width * scale)
    if wanted[0] * wanted[1] > _MAX_PIXELS:
        raise UnreadableImage(f"too elongated: {width} x {height} would become {wanted[1]} x {wanted[0]} pixels")
    return wanted


class _Crop(Protocol):
    def __call__(self, out: Pixels, image: Pixels, halvings: int, rows: Line, columns: Line, flip: bool) -> None: ...


class _Squares:
    """Crops by Pillow at first, and by compiled code, to the same levels, after so many pixels where there is any."""

    def __init__(self) -> None:
        self.few = _FEW
        self.crop: _Crop = self._first

    def _first(self, out: Pixels, image: Pixels, halvings: int, rows: Line, columns: Line, flip: bool) -> None:
        self.few -= image.shape[0] * image.shape[1]
        if self.few < 0:
            self.take_over()
        by_pillow(out, image, halvings, rows, columns, flip)

    def take_over(self) -> None:
        """Leave all further crops to compiled code, where there is any."""
        self.crop = _compiled() or by_pillow


def _compiled() -> _Crop | None:
    try:
        from tokscale.data.compiled_resampling import by_machine_code
    except ImportError:  # numba refuses a numpy that is newer than itself
        return None
    return by_machine_code


_squares = _Squares()


def compiled_from_now_on() -> bool:
    """Let compiled code make all further crops of this process, where numba can be imported; whether it can."""
    _squares.take_over()
    return _squares.crop is not by_pillow
