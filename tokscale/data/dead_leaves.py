"""Dead leaves: random images with the statistics of natural ones, as pure functions of a key.

Opaque leaves of all sizes fall on one another (Ruderman 1997, "Origins of scaling in natural images"; Lee, Mumford and
Huang 2001, "Occlusion models for natural images"). With radii distributed as r^-3 every octave of sizes shows on the
same share of the area, statistics do not depend on scale, and the amplitude spectrum falls about as 1/f.

To paint a batch without a loop over leaves, the leaves of one octave lie in the cells of a lattice, at most one a cell
and wholly inside it. A layer is such a lattice with its own random offset; layers of all octaves cover one another, and
the chance that a cell is taken makes every layer visible on its share. Lengths are in sides of the image and know no
resolution; a layer whose cells are finer than two pixels fades into its mean colour.

The arithmetic on pixels uses only operations that IEEE 754 rounds exactly, so machines and batches agree to the bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokscale.data.leaf_shapes import SHAPES, Floats, Shape
from tokscale.data.randomness import Words, hash64, uniforms

Integers = NDArray[np.int64]

# Octave o has cells of side 2^-o and radii between a quarter and a half of that, so radii span 1/2 to 1/256. Every
# layer shows on the same share of the area; the second sweep makes large leaves also cover small ones.
_LAYERS = (0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3)
_BACKGROUND_SHARE = 2  # of the layers' shares, to what lies below all leaves
_MEAN_SQUARED_RADIUS = math.log(2) / 6  # in cells, of radii between 1/4 and 1/2 with density r^-3
_FINEST_CELL = 2  # pixels
MOVING = len(_LAYERS) + 1
"""what can be shifted by itself: the layers, and the texture on their leaves"""
_CHUNK, _BAND = 2**18, 2**15  # pixels painted together; pixels in one pass, so that the buffers stay in cache
_COLOUR, _LIGHT, _TINT, _TEXTURE = 0.17, 0.30, 0.10, 0.10  # of the range [0, 1]


@dataclass(frozen=True)
class Style:
    """What the images of one class share: hue and angles in degrees, the texture's wavelength in sides of the image.

    The hue is also the direction in which leaves move, where they do: from the right, clockwise.
    """

    name: str
    hue: float
    shape: str
    aspect: float
    angle: float
    spread: float
    wavelength: float

    def numbers(self) -> dict[str, float]:
        """What painting needs of the style: plain numbers, computed once and the same on every machine."""
        angle = math.radians(self.angle)
        numbers = {
            "aspect": self.aspect,
            "cos": math.cos(angle),
            "sin": math.sin(angle),
            "tangent": math.tan(math.radians(self.spread) / 2),
            "cover": SHAPES[self.shape].area(self.aspect) * _MEAN_SQUARED_RADIUS,
            "frequency": 1 / self.wavelength,
            "heading_cos": math.cos(math.radians(self.hue)),
            "heading_sin": math.sin(math.radians(self.hue)),
        }
        for number, channel in enumerate("rgb"):
            phase = math.radians(self.hue - 120 * number)
            numbers[f"mean_{channel}"] = 0.5 + _COLOUR * math.cos(phase)
            numbers[f"tint_{channel}"] = _TINT * math.cos(phase + math.pi / 2)
        return numbers


STYLES = (
    Style("red discs", 0, "disc", 1.0, 0, 90, 1 / 4),
    Style("orange bars", 36, "bar", 2.0, 0, 12, 1 / 8),
    Style("olive triangles", 72, "triangle", 1.0, 0, 15, 1 / 6),
    Style("green ellipses", 108, "disc", 2.0, 90, 12, 1 / 5),
    Style("mint squares", 144, "bar", 1.0, 0, 8, 1 / 8),
    Style("teal triangles", 180, "triangle", 1.0, 180, 15, 1 / 4),
    Style("azure bars", 216, "bar", 2.0, 90, 12, 1 / 6),
    Style("blue discs", 252, "disc", 1.0, 0, 90, 1 / 8),
    Style("purple diamonds", 288, "bar", 1.0, 45, 8, 1 / 5),
    Style("pink ellipses", 324, "disc", 2.0, 45, 12, 1 / 6),
)
_NUMBERS = {
    name: np.array([style.numbers()[name] for style in STYLES], np.float32)[:, None, None]
    for name in STYLES[0].numbers()
}


@dataclass(frozen=True)
class Scenes:
    """What there is to see, before a resolution or a time is chosen: keys (b,) uint64 and labels (b,) int64."""

    keys: Words
    labels: Integers

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: Integers) -> Scenes:
        return Scenes(self.keys[rows], self.labels[rows])

    def number(self, name: str) -> Floats:
        """One number of each scene's style, (b, 1, 1)."""
        return _NUMBERS[name][self.labels]


def scenes(seed: int, split: str, indices: Integers, classes: int) -> Scenes:
    """The scenes with these indices (b,); the label is the index modulo ``classes``, so that classes are balanced."""
    return Scenes(hash64(seed, int.from_bytes(split.encode(), "big"), indices), indices % classes)


def render(which: Scenes, resolution: int, shifts: Floats | None = None) -> NDArray[np.uint8]:
    """Pictures (b, 3, h, w) of the scenes, h = w = ``resolution``.

    ``shifts`` (b, ``MOVING``, 2) say how far each layer and, last, the texture are from where they were made: to the
    right and down, in sides of the image.
    """
    images = np.empty((len(which), 3, resolution, resolution), np.uint8)
    shapes = np.array([style.shape for style in STYLES])[which.labels]
    step = max(1, _CHUNK // resolution**2)
    for name, shape in SHAPES.items():
        members = np.flatnonzero(shapes == name)
        for start in range(0, len(members), step):
            rows = members[start : start + step]
            moved = None if shifts is None else shifts[rows]
            images[rows] = _shade(which[rows], _paint(which[rows], shape, resolution, moved), moved)
    return images


def _paint(which: Scenes, shape: Shape, resolution: int, shifts: Floats | None) -> Floats:
    """Light and tint (2, b, h, w) of every pixel, in [-1, 1], of scenes whose leaves have the same shape."""
    rows = len(which) * resolution
    canvas = np.empty((2, len(which), resolution, resolution), np.float32)
    for plane, level in zip(canvas, uniforms(hash64(which.keys, 0)), strict=False):
        plane[:] = (2 * level - 1)[:, None, None]
    planes = canvas.reshape(2, rows, resolution)
    band = min(rows, max(1, _BAND // resolution))
    buffers = np.empty((7, band, resolution), np.float32)
    for number, octave in enumerate(_LAYERS, start=1):
        taken = np.minimum(np.float32(1 / (_BACKGROUND_SHARE + number)) / which.number("cover"), np.float32(1))
        if resolution < _FINEST_CELL * 2**octave:
            canvas *= 1 - taken * which.number("cover")
            continue
        tables, cell_rows, heights = _layer(which, shape, resolution, (number, octave), taken, shifts)
        for start in range(0, rows, band):
            here = slice(start, min(start + band, rows))
            fields = buffers[:, : here.stop - start]
            for table, field in zip(tables, fields, strict=True):
                table.take(cell_rows[here], axis=0, out=field, mode="clip")
            _cover(planes[:, here], fields, heights[here], shape)
    return canvas


def _cover(planes: Floats, fields: Floats, heights: Floats, shape: Shape) -> None:
    """Lay the leaves of a layer over a band of rows; ``fields`` (7, rows, w) is used up."""
    u, u_slope, v, v_slope, extent, *colours = fields
    np.add(u, np.multiply(u_slope, heights, out=u_slope), out=u)
    np.add(v, np.multiply(v_slope, heights, out=v_slope), out=v)
    coverage = np.subtract(extent, shape.gauge(u, v), out=extent)
    np.maximum(coverage, 0, out=coverage)
    np.minimum(coverage, 1, out=coverage)
    for plane, colour in zip(planes, colours, strict=True):
        np.subtract(colour, plane, out=colour)
        np.multiply(colour, coverage, out=colour)
        np.add(plane, colour, out=plane)


def _layer(
    which: Scenes, shape: Shape, resolution: int, layer: tuple[int, int], taken: Floats, shifts: Floats | None
) -> tuple[list[Floats], Integers, Floats]:
    """A layer's leaves, spread along the columns of the image.

    Returns seven tables (b * g, w) with a row for each of the g rows of cells in view; the table row of each image row
    (b * h,); and its height in cells (b * h, 1). The tables are u and v (a pixel's place in the leaf's own frame) at
    height 0, each followed by its slope with height, then the leaf's extent, light and tint.
    """
    number, octave = layer
    count, cells = len(which), 2**octave
    key = hash64(which.keys, number)
    right, down, *_ = uniforms(key)
    if shifts is not None:  # what is seen at a place came from where its layer was before
        right = right - np.float32(cells) * shifts[:, number - 1, 0]
        down = down - np.float32(cells) * shifts[:, number - 1, 1]
    centres = (np.arange(resolution, dtype=np.float32) + np.float32(0.5)) / np.float32(resolution) * np.float32(cells)
    across, first_column = _in_view(centres, right)
    along, first_row = _in_view(centres, down)
    view = np.arange(cells + 1)
    keys = hash64(key[:, None, None], (first_row + view)[:, :, None], (first_column + view)[:, None, :])
    leaves = _leaves(which, shape, keys, taken, resolution / cells)

    column, row = across.astype(np.int64), along.astype(np.int64)
    starts = np.arange(count * (cells + 1)).reshape(count, cells + 1, 1) * (cells + 1)
    spread = (starts + column[:, None, :]).ravel()
    cos, sin, u_shift, v_shift, extent, light, tint = (
        field.ravel().take(spread, mode="clip").reshape(count, cells + 1, resolution) for field in leaves
    )
    inside, aspect = (across - column).astype(np.float32)[:, None, :], which.number("aspect")
    tables = (cos * inside - u_shift, sin, v_shift - aspect * sin * inside, aspect * cos, extent, light, tint)
    cell_rows = np.arange(count)[:, None] * (cells + 1) + row
    return [table.reshape(-1, resolution) for table in tables], cell_rows.ravel(), along.reshape(-1, 1)


def _in_view(centres: Floats, offset: Floats) -> tuple[Floats, Integers]:
    """Pixel centres (b, w) in cells, counted from the first cell in view, and the number of that cell (b, 1)."""
    first = np.floor(offset)
    return centres[None] + (offset - first)[:, None], first.astype(np.int64)[:, None]


def _leaves(which: Scenes, shape: Shape, keys: Words, taken: Floats, cell: float) -> tuple[Floats, ...]:
    """The leaf of each cell (b, g, g), for cells of ``cell`` pixels: frame, shift of the frame, extent, light, tint."""
    size, x, y, turn = uniforms(hash64(keys, 1))
    light, tint, _, chance = uniforms(hash64(keys, 2))
    radius = np.float32(0.25) / np.sqrt(1 - np.float32(0.75) * size)
    x = radius + (1 - 2 * radius) * x
    y = radius + (1 - 2 * radius) * y + np.arange(keys.shape[1], dtype=np.float32)[:, None]
    aspect = which.number("aspect")
    scale, extent = shape.frame(radius * np.float32(cell), aspect)
    cos, sin = _turned(which, turn)
    cos, sin = cos * (scale * np.float32(cell)), sin * (scale * np.float32(cell))
    extent = np.where(chance < taken, extent + np.float32(0.5), np.float32(-1))
    return cos, sin, cos * x + sin * y, aspect * (sin * x - cos * y), extent, 2 * light - 1, 2 * tint - 1


def _turned(which: Scenes, turn: Floats) -> tuple[Floats, Floats]:
    """Cosine and sine of an angle within the class's spread of the class's angle; ``turn`` (b, ...) is in (0, 1)."""
    tangent = (2 * turn - 1) * which.number("tangent")  # of half the angle: no sine, whose last bit varies by machine
    square = tangent * tangent
    cos, sin = (1 - square) / (1 + square), 2 * tangent / (1 + square)
    middle_cos, middle_sin = which.number("cos"), which.number("sin")
    return middle_cos * cos - middle_sin * sin, middle_sin * cos + middle_cos * sin


def _shade(which: Scenes, canvas: Floats, shifts: Floats | None) -> NDArray[np.uint8]:
    """Colours (b, 3, h, w) of painted scenes: the class's palette, and its texture on the leaves of high tint."""
    light, tint = canvas
    texture = _texture(which, light.shape[-1], shifts) * (1 + tint)
    texture += np.float32(_LIGHT) * light
    images = np.empty((len(which), 3, *light.shape[1:]), np.uint8)
    for number, channel in enumerate("rgb"):
        level = texture + which.number(f"tint_{channel}") * tint
        level += which.number(f"mean_{channel}")
        level *= 255
        level += np.float32(0.5)
        images[:, number] = np.clip(level, 0, 255, out=level)
    return images


def _texture(which: Scenes, resolution: int, shifts: Floats | None) -> Floats:
    """A grating (b, h, w) at the class's angle and frequency, which fades as its wave comes near two pixels."""
    turn, phase, *_ = uniforms(hash64(which.keys, len(_LAYERS) + 1))
    cos, sin = _turned(which, turn[:, None, None])
    centres = (np.arange(resolution, dtype=np.float32) + np.float32(0.5)) / np.float32(resolution)
    frequency = which.number("frequency")
    if shifts is not None:
        right, down = shifts[:, -1, 0, None, None], shifts[:, -1, 1, None, None]
        phase = phase[:, None, None] - frequency * (cos * right + sin * down)
        phase = (phase - np.floor(phase))[:, 0, 0]
    wave = cos * frequency * centres[None, None, :] + phase[:, None, None] + sin * frequency * centres[None, :, None]
    wave -= np.floor(wave)
    ramp = np.abs(2 * wave - 1)
    amplitude = np.float32(_TEXTURE / 2) * np.maximum(1 - (2 * frequency / np.float32(resolution)) ** 2, 0)
    grating: Floats = amplitude * (ramp * ramp * (6 - 4 * ramp) - 1)
    return grating  # a smoothed triangle wave, within 1 % of a cosine
