"""Halvings, cut and bicubic step of ``resampling`` in one go, compiled by numba: the same levels as Pillow's, sooner.

Only pixels that the kept part of the result depends on are looked at. Each direction has its own order of memory: along
columns, neighbouring levels of a row go through the processor's vectors side by side; along rows, those of a column do,
so 32 rows at a time are turned over, eight by eight bytes, as three rounds of swaps in 64-bit words.

Importing this module fails without numba; nothing is compiled before the first call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokscale.data.compiled_halving import halved
from tokscale.data.resampling import UNIT, Line, Pixels, Places, Weights, axis
from tokscale.machine_code import kept, machine_code

Words = NDArray[np.uint64]

_I, _U = np.int32, np.uint8
_HALF, _UNIT = _I(1 << (UNIT - 1)), _I(UNIT)
_ROWS = 32  # turned over together
_GROUPS = _ROWS // 8
_BYTES, _PAIRS, _FOURS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF), np.uint64(0x00000000FFFFFFFF)
_8, _16, _32 = np.uint64(8), np.uint64(16), np.uint64(32)


def by_machine_code(out: Pixels, image: Pixels, halvings: int, rows: Line, columns: Line, flip: bool) -> None:
    """As ``resampling.by_pillow``, level for level; each plane has its rows one after another in memory."""
    if not halvings and (rows.length, columns.length) == (rows.out, columns.out):
        lines = np.ascontiguousarray(image).reshape(len(image), -1)
        _parted(out[0], out[1], out[2], lines, rows.begin + rows.kept, 3 * (columns.begin + columns.kept), flip)
        return
    down, across = axis(image.shape[0], halvings, rows, False), axis(image.shape[1], halvings, columns, flip)
    lines = np.ascontiguousarray(image).reshape(len(image), -1)
    above, before = 0, 0
    for number, (y, x) in enumerate(zip(down.halvings, across.halvings, strict=True)):
        (top, bottom), (left, right) = down.windows[number + 1], across.windows[number + 1]
        lines = halved(
            lines, above, before, top, bottom, left, right,
            y.turn, np.array(y.triples, np.int64), x.turn, np.array(x.triples, np.int64),
        )  # fmt: skip
        above, before = top, left
    (top, bottom), (left, right) = down.windows[-1], across.windows[-1]
    _bicubic(
        out[0], out[1], out[2], lines, top - above, bottom - above, 3 * (left - before), 3 * (right - before),
        down.first, down.weights, across.first, across.weights,
    )  # fmt: skip


@kept
def _parted(red: Pixels, green: Pixels, blue: Pixels, lines: Pixels, top: int, left: int, flip: bool) -> None:
    """Fill planes with pixels as they are."""
    width = red.shape[1]
    for y in range(len(red)):
        line = lines[top + y][left : left + 3 * width]
        for plane, out in enumerate((red[y], green[y], blue[y])):
            if flip:
                for x in range(width):
                    out[width - 1 - x] = line[3 * x + plane]
            else:
                for x in range(width):
                    out[x] = line[3 * x + plane]


@kept
def _bicubic(
    red: Pixels, green: Pixels, blue: Pixels, lines: Pixels, top: int, bottom: int, left: int, right: int,
    first_y: Places, weights_y: Weights, first_x: Places, weights_x: Weights,
) -> None:  # fmt: skip
    """Fill planes (h, w) from a part of the lines, by its first and last rows and bytes."""
    height = bottom - top
    width = red.shape[1]
    words, wide = (3 * (first_x.max() + weights_x.shape[1]) + 7) // 8, (width + 7) // 8
    block, line = np.zeros((_ROWS, 8 * words), np.uint8), np.empty(_ROWS, np.uint8)
    parts, columns = np.empty((_GROUPS, 8, words), np.uint64), np.empty((8 * words, _GROUPS), np.uint64)
    back = np.zeros((_GROUPS, 8, wide), np.uint64)
    tall = max((height + _ROWS - 1) // _ROWS * _ROWS, first_y.max() + weights_y.shape[1])
    between = np.empty((3, tall, 8 * wide), np.uint8)
    block_words, between_words = block.view(np.uint64).reshape((_GROUPS, 8, words)), between.view(np.uint64)
    levels = columns.view(np.uint8).reshape(8 * words * _ROWS)
    for begin in range(0, height, _ROWS):
        for row in range(min(_ROWS, height - begin)):
            _copied(lines[top + begin + row][left:right], block[row])
        for group in range(_GROUPS):
            _turned(block_words[group], parts[group])
        _gathered(parts, columns)
        for plane in range(3):
            if weights_x.shape[1] == 4:
                _along_rows_4(levels, first_x, weights_x, plane, line, back)
            elif weights_x.shape[1] == 6:
                _along_rows_6(levels, first_x, weights_x, plane, line, back)
            else:
                _along_rows_8(levels, first_x, weights_x, plane, line, back)
            for group in range(_GROUPS):
                _turned(back[group], between_words[plane, begin + 8 * group : begin + 8 * group + 8])
    for plane, out in enumerate((red, green, blue)):
        if weights_y.shape[1] == 4:
            _along_columns_4(between[plane], first_y, weights_y, out)
        elif weights_y.shape[1] == 6:
            _along_columns_6(between[plane], first_y, weights_y, out)
        else:
            _along_columns_8(between[plane], first_y, weights_y, out)


@machine_code
def _copied(source: Pixels, target: Pixels) -> None:
    for k in range(min(len(source), len(target))):
        target[k] = source[k]


@machine_code
def _turned(rows: Words, columns: Words) -> None:
    """Eight rows of bytes (8, n) to columns (8, n): byte r of word (i, j) is byte i of word j of row r."""
    for j in range(rows.shape[1]):
        a, b, c, d, e, f, g, h = (
            rows[0, j], rows[1, j], rows[2, j], rows[3, j], rows[4, j], rows[5, j], rows[6, j], rows[7, j]
        )  # fmt: skip
        a, e = _swapped(a, e, _32, _FOURS)
        b, f = _swapped(b, f, _32, _FOURS)
        c, g = _swapped(c, g, _32, _FOURS)
        d, h = _swapped(d, h, _32, _FOURS)
        a, c = _swapped(a, c, _16, _PAIRS)
        b, d = _swapped(b, d, _16, _PAIRS)
        e, g = _swapped(e, g, _16, _PAIRS)
        f, h = _swapped(f, h, _16, _PAIRS)
        columns[0, j], columns[1, j] = _swapped(a, b, _8, _BYTES)
        columns[2, j], columns[3, j] = _swapped(c, d, _8, _BYTES)
        columns[4, j], columns[5, j] = _swapped(e, f, _8, _BYTES)
        columns[6, j], columns[7, j] = _swapped(g, h, _8, _BYTES)


@machine_code
def _swapped(low: np.uint64, high: np.uint64, bits: np.uint64, mask: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The upper parts of ``low`` for the lower parts of ``high``."""
    moved = ((low >> bits) ^ high) & mask
    return low ^ (moved << bits), high ^ moved


@machine_code
def _gathered(parts: Words, columns: Words) -> None:
    """Groups of columns (4, 8, n) to whole columns (8 n, 4), in the order of the image."""
    a, b, c, d = parts[0], parts[1], parts[2], parts[3]
    for j in range(parts.shape[2]):
        for i in range(8):
            column = columns[8 * j + i]
            column[0], column[1], column[2], column[3] = a[i, j], b[i, j], c[i, j], d[i, j]


# A level from 4, 6 or 8 others is written out, twice each: loops over weights, or a function of its own, would keep the
# compiler from making vectors of it.
@machine_code
def _along_rows_4(columns: Pixels, first: Places, weights: Weights, plane: int, line: Pixels, parts: Words) -> None:
    """One plane of 32 rows, from columns of them; to groups of columns (4, 8, n), by way of one ``line`` (32,)."""
    step, words = 3 * _ROWS, line.view(np.uint64)
    for x in range(len(first)):
        n, m = (3 * first[x] + plane) * _ROWS, weights[x]
        a, b, c, d = columns[n:], columns[n + step :], columns[n + 2 * step :], columns[n + 3 * step :]
        s, t, u, v = m[0], m[1], m[2], m[3]
        for k in range(_ROWS):
            total = _I(a[k]) * s + _I(b[k]) * t + _I(c[k]) * u + _I(d[k]) * v
            line[k] = _U(min(max(_I(_I(total + _HALF) >> _UNIT), _I(0)), _I(255)))
        for group in range(_GROUPS):
            parts[group, x % 8, x // 8] = words[group]


@machine_code
def _along_rows_6(columns: Pixels, first: Places, weights: Weights, plane: int, line: Pixels, parts: Words) -> None:
    step, words = 3 * _ROWS, line.view(np.uint64)
    for x in range(len(first)):
        n, m = (3 * first[x] + plane) * _ROWS, weights[x]
        a, b, c, d = columns[n:], columns[n + step :], columns[n + 2 * step :], columns[n + 3 * step :]
        e, f = columns[n + 4 * step :], columns[n + 5 * step :]
        s, t, u, v, w, z = m[0], m[1], m[2], m[3], m[4], m[5]
        for k in range(_ROWS):
            total = _I(a[k]) * s + _I(b[k]) * t + _I(c[k]) * u + _I(d[k]) * v + _I(e[k]) * w + _I(f[k]) * z
            line[k] = _U(min(max(_I(_I(total + _HALF) >> _UNIT), _I(0)), _I(255)))
        for group in range(_GROUPS):
            parts[group, x % 8, x // 8] = words[group]


@machine_code
def _along_rows_8(columns: Pixels, first: Places, weights: Weights, plane: int, line: Pixels, parts: Words) -> None:
    step, words = 3 * _ROWS, line.view(np.uint64)
    for x in range(len(first)):
        n, m = (3 * first[x] + plane) * _ROWS, weights[x]
        a, b, c, d = columns[n:], columns[n + step :], columns[n + 2 * step :], columns[n + 3 * step :]
        n += 4 * step
        e, f, g, h = columns[n:], columns[n + step :], columns[n + 2 * step :], columns[n + 3 * step :]
        s, t, u, v, w, z, i, j = m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7]
        for k in range(_ROWS):
            total = _I(a[k]) * s + _I(b[k]) * t + _I(c[k]) * u + _I(d[k]) * v + _I(e[k]) * w + _I(f[k]) * z
            total += _I(g[k]) * i + _I(h[k]) * j
            line[k] = _U(min(max(_I(_I(total + _HALF) >> _UNIT), _I(0)), _I(255)))
        for group in range(_GROUPS):
            parts[group, x % 8, x // 8] = words[group]


@machine_code
def _along_columns_4(rows: Pixels, first: Places, weights: Weights, out: Pixels) -> None:
    """One plane from its rows."""
    for y in range(len(first)):
        n, m, line = first[y], weights[y], out[y]
        a, b, c, d = rows[n], rows[n + 1], rows[n + 2], rows[n + 3]
        s, t, u, v = m[0], m[1], m[2], m[3]
        for k in range(len(line)):
            total = _I(a[k]) * s + _I(b[k]) * t + _I(c[k]) * u + _I(d[k]) * v
            line[k] = _U(min(max(_I(_I(total + _HALF) >> _UNIT), _I(0)), _I(255)))


@machine_code
def _along_columns_6(rows: Pixels, first: Places, weights: Weights, out: Pixels) -> None:
    for y in range(len(first)):
        n, m, line = first[y], weights[y], out[y]
        a, b, c, d, e, f = rows[n], rows[n + 1], rows[n + 2], rows[n + 3], rows[n + 4], rows[n + 5]
        s, t, u, v, w, z = m[0], m[1], m[2], m[3], m[4], m[5]
        for k in range(len(line)):
            total = _I(a[k]) * s + _I(b[k]) * t + _I(c[k]) * u + _I(d[k]) * v + _I(e[k]) * w + _I(f[k]) * z
            line[k] = _U(min(max(_I(_I(total + _HALF) >> _UNIT), _I(0)), _I(255)))


@machine_code
def _along_columns_8(rows: Pixels, first: Places, weights: Weights, out: Pixels) -> None:
    for y in range(len(first)):
        n, m, line = first[y], weights[y], out[y]
        a, b, c, d, e, f = rows[n], rows[n + 1], rows[n + 2], rows[n + 3], rows[n + 4], rows[n + 5]
        g, h = rows[n + 6], rows[n + 7]
        s, t, u, v, w, z, i, j = m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7]
        for k in range(len(line)):
            total = _I(a[k]) * s + _I(b[k]) * t + _I(c[k]) * u + _I(d[k]) * v + _I(e[k]) * w + _I(f[k]) * z
            total += _I(g[k]) * i + _I(h[k]) * j
            line[k] = _U(min(max(_I(_I(total + _HALF) >> _UNIT), _I(0)), _I(255)))
