"""Halving by the box filter, compiled by numba: to the levels of ``resampling``.

At each place of a row the mean with the next pixel is taken, although only every other place is of use: so neighbouring
bytes go through the processor's vectors side by side. Who changes this file saves ``compiled_resampling`` too, as numba
notices changes only of the file that a kept function stands in.
"""

from __future__ import annotations

import numpy as np

from tokscale.data.resampling import UNIT, Pixels, Places
from tokscale.machine_code import kept, machine_code

_I, _U = np.int32, np.uint8
_ONE, _HALF, _UNIT, _THIRD = _I(1), _I(1 << (UNIT - 1)), _I(UNIT), _I(round(2**UNIT / 3))


@kept
def halved(
    lines: Pixels, above: int, before: int, top: int, bottom: int, left: int, right: int,
    turn_y: int, triples_y: Places, turn_x: int, triples_x: Places,
) -> Pixels:  # fmt: skip
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of half the image that ``lines`` are a part of.

    Their first row and column are number ``above`` and ``before`` of the image.
    """
    begin = 3 * (2 * left + (1 if left >= turn_x else 0) - before)
    end = 3 * (2 * right - 1 + (1 if right > turn_x else 0) - before)
    straight = min(max(turn_x, left), right) - left
    means, out = np.empty(end - begin, np.uint8), np.empty((bottom - top, 3 * (right - left)), np.uint8)
    for y in range(top, bottom):
        row = 2 * y + (1 if y >= turn_y else 0) - above
        three = _among(y, triples_y)
        a, b, c = lines[row], lines[row + 1], lines[row + (2 if three else 1)]
        _means(a[begin : end + 3], b[begin : end + 3], c[begin : end + 3], three, means)
        _every_other(means, straight, out[y - top])
        for x in triples_x:
            if left <= x < right:
                column = 3 * (2 * x + (1 if x >= turn_x else 0) - before)
                _means_of_three(a[column:], b[column:], c[column:], three, out[y - top, 3 * (x - left) :])
    return out


@machine_code
def _among(number: int, numbers: Places) -> bool:
    found = False
    for other in numbers:
        found |= number == other
    return found


@machine_code
def _mean(a: np.uint8, b: np.uint8) -> np.uint8:
    mean: np.uint8 = _U((_I(a) + _I(b) + _ONE) >> _ONE)
    return mean


@machine_code
def _third(a: np.uint8, b: np.uint8, c: np.uint8) -> np.uint8:
    mean: np.uint8 = _U(_I(_I(_I(_I(_I(a) + _I(b)) + _I(c)) * _THIRD) + _HALF) >> _UNIT)
    return mean


@machine_code
def _means(a: Pixels, b: Pixels, c: Pixels, three: bool, means: Pixels) -> None:
    """At each place the mean of two neighbours along the row, and of such means in two or three rows."""
    if three:
        for k in range(len(means)):
            means[k] = _third(_mean(a[k], a[k + 3]), _mean(b[k], b[k + 3]), _mean(c[k], c[k + 3]))
    else:
        for k in range(len(means)):
            means[k] = _mean(_mean(a[k], a[k + 3]), _mean(b[k], b[k + 3]))


@machine_code
def _means_of_three(a: Pixels, b: Pixels, c: Pixels, three: bool, means: Pixels) -> None:
    """One pixel that is made from three neighbours along the row, in two or three rows."""
    for k in range(3):
        first, second = _third(a[k], a[k + 3], a[k + 6]), _third(b[k], b[k + 3], b[k + 6])
        means[k] = _third(first, second, _third(c[k], c[k + 3], c[k + 6])) if three else _mean(first, second)


@machine_code
def _every_other(means: Pixels, straight: int, out: Pixels) -> None:
    """Every other pixel, from the first on; after so many of them, the next is one further."""
    for k in range(straight):
        for c in range(3):
            out[3 * k + c] = means[6 * k + c]
    rest, target = means[6 * straight + (3 if straight else 0) :], out[3 * straight :]
    for k in range(len(target) // 3):
        for c in range(3):
            target[3 * k + c] = rest[6 * k + c]
