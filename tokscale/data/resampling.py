"""What Pillow's filters do to 8-bit images, as tables: which pixels of a line become which, with what weights.

An image is resized along its rows first and along its columns then, with levels rounded and clipped in between, as
Pillow has always done for photographs. (From version 13 on, it takes the columns of some upright images first, which
moves single levels: whoever resizes by Pillow here asks for one direction at a time.) A weight is a whole number of
``2**-22``: of the filter's value at the pixel's centre, over the sum of all values, rounded half away from zero. A
filter is as much wider than its definition as the image becomes smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Weights = NDArray[np.int32]

UNIT = 22  # bits: a weight of one is 2**22
_KEPT = 1024  # tables: of 10 kB each for crops of 256 pixels
WIDTHS = (4, 6, 8)  # pixels that a level is made from, at less than twice the size: there is compiled code for each


@dataclass(frozen=True)
class Line:
    """What is done in one direction after all halvings: of a line, ``length`` pixels from ``begin`` on are cut out.

    They become ``out`` pixels by the bicubic filter, of which ``count`` are kept, from ``kept`` on.
    """

    begin: int
    length: int
    out: int
    kept: int
    count: int


@dataclass(frozen=True)
class Halving:
    """One halving of a line by the box filter: output k is the mean of 2 or 3 pixels.

    The first of them is ``2 k`` for k before ``turn`` and ``2 k + 1`` from there on; ``triples`` are the k of 3.
    """

    size: int
    turn: int
    triples: tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """How the kept pixels of a line come about, and from which.

    ``windows`` are the pixels that matter, begin and end, before each halving and after the last one. Output k of those
    kept is made from the pixels from ``first[k]`` on, counted within the last window, with ``weights[k]``.
    """

    halvings: tuple[Halving, ...]
    windows: tuple[tuple[int, int], ...]
    first: Places
    weights: Weights


def halvings_of(shorter: int, wanted: int) -> int:
    """How often a side is halved, rounding down, before it is less than twice as long as wanted."""
    count = 0
    while shorter >= 2 * wanted:
        shorter, count = shorter // 2, count + 1
    return count


@lru_cache(maxsize=_KEPT)
def axis(size: int, halvings: int, line: Line, flip: bool) -> Axis:
    """What becomes of a line of ``size`` pixels; kept pixels are made last to first with ``flip``."""
    steps: list[Halving] = []
    for _ in range(halvings):
        steps.append(halving(size))
        size //= 2
    first, weights = bicubic(line.length, line.out, line.kept, line.count, flip)
    low, high = int(first.min()), int(first.max()) + weights.shape[1]
    windows = [(line.begin + low, line.begin + min(high, line.length))]
    for step in reversed(steps):
        begin, last = windows[0][0], windows[0][1] - 1
        end = 2 * last + (last >= step.turn) + (3 if last in step.triples else 2)
        windows.insert(0, (2 * begin + (begin >= step.turn), end))
    return Axis(tuple(steps), tuple(windows), first - low, weights)


def by_pillow(out: Pixels, image: Pixels, halvings: int, rows: Line, columns: Line, flip: bool) -> None:
    """Fill planes (3, h, w) with what is kept of an image (h, w, 3), columns last to first with ``flip``."""
    picture = Image.fromarray(image)
    for _ in range(halvings):
        picture = _resized(picture, picture.width // 2, picture.height // 2, Image.Resampling.BOX)
    picture = picture.crop((columns.begin, rows.begin, columns.begin + columns.length, rows.begin + rows.length))
    pixels = np.asarray(_resized(picture, columns.out, rows.out, Image.Resampling.BICUBIC))
    square = pixels[rows.kept : rows.kept + rows.count, columns.kept : columns.kept + columns.count]
    out[:] = (square[:, ::-1] if flip else square).transpose(2, 0, 1)


def _resized(picture: Image.Image, width: int, height: int, filtered: Image.Resampling) -> Image.Image:
    return picture.resize((width, picture.height), filtered).resize((width, height), filtered)


@lru_cache(maxsize=_KEPT)
def bicubic(size: int, out: int, begin: int, count: int, flip: bool) -> tuple[Places, Weights]:
    """First pixel (n,) and weights (n, 4, 6 or 8) of n = ``count`` of the ``out`` pixels that ``size`` become.

    Those are the ones from ``begin`` on. The filter is Keys's with a = -1/2. Weights of pixels beyond the end of the
    line are zero.
    """
    first, weights = _table(size, out, np.arange(begin, begin + count), 2.0, _keys)
    width = next(width for width in WIDTHS if weights.shape[1] <= width)
    weights = np.pad(weights, ((0, 0), (0, width - weights.shape[1])))
    if flip:
        first, weights = first[::-1], weights[::-1]
    return np.ascontiguousarray(first), np.ascontiguousarray(weights)


@lru_cache(maxsize=_KEPT)
def halving(size: int) -> Halving:
    """How the box filter makes ``size // 2`` pixels: of an odd line, three are one somewhere near its middle."""
    first, weights = _table(size, size // 2, np.arange(size // 2), 0.5, _box)
    used = weights > 0
    shift = first + used.argmax(1) - 2 * np.arange(size // 2)
    return Halving(size, int((shift == 0).sum()), tuple(np.flatnonzero(used.sum(1) == 3).tolist()))


def _table(
    size: int, out: int, kept: Places, support: float, filtered: Callable[[Floats], Floats]
) -> tuple[Places, Weights]:
    """First pixel and weights of the outputs ``kept``; the weights of one output stand from its first pixel on."""
    scale = size / out
    wide = max(scale, 1.0)
    centre = (kept + 0.5) * scale
    first = np.maximum((centre - support * wide + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + support * wide + 0.5).astype(np.int64), size)
    pixel = first[:, None] + np.arange((end - first).max())
    values = filtered((pixel - centre[:, None] + 0.5) * (1 / wide))
    values = np.where(pixel < end[:, None], values, 0.0)
    shares = values / np.cumsum(values, 1)[:, -1:]  # a sum in this order, as the last bits may count
    return first, np.trunc(shares * 2**UNIT + np.copysign(0.5, shares)).astype(np.int32)


def _box(x: Floats) -> Floats:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _keys(x: Floats) -> Floats:
    x, a = np.abs(x), -0.5
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
