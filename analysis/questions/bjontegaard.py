"""The mean difference in rate of two rate-distortion curves at equal distortion, and the lower convex hull of points.

Bjontegaard (2001, VCEG-M33) compares codecs by the area between their curves of log rate over distortion; the curves
here are monotone piecewise cubic (Fritsch and Carlson 1980) as in the later JCT-VC practice, so that they do not swing
between points.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def mean_rate_difference(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[float, float, float] | None:
    """Mean of log rate of ``second`` less that of ``first`` over the distortions that both reach; these as low, high.

    Each curve is (log rate (n,), distortion (n,)), less distortion being better. None where they share no distortion,
    or where one has no two of them.
    """
    curves = [decreasing(*one) for one in (first, second)]
    if any(len(distortion) < 2 for _, distortion in curves):
        return None
    low = max(distortion.min() for _, distortion in curves)
    high = min(distortion.max() for _, distortion in curves)
    if not low < high:
        return None
    areas = [monotone_area(distortion[::-1], rate[::-1], low, high) for rate, distortion in curves]
    return (areas[1] - areas[0]) / float(high - low), float(low), float(high)


def monotone_area(x: Array, y: Array, low: float, high: float) -> float:
    """The integral from ``low`` to ``high`` of the monotone cubic through points of rising x (n,), y (n,), n > 1.

    Slopes at the points are Fritsch and Butland's (1984): harmonic means of the neighbours', and one-sided at the ends.
    """
    step = np.diff(x)
    rise = np.diff(y) / step
    slope = np.empty_like(y)
    slope[[0, -1]] = rise[[0, -1]]
    if len(x) > 2:
        first, second = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
        level = rise[:-1] * rise[1:] <= 0
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = (first + second) / (first / rise[:-1] + second / rise[1:])
        slope[1:-1] = np.where(level, 0.0, mean)
        slope[0] = _end_slope(step[0], step[1], rise[0], rise[1])
        slope[-1] = _end_slope(step[-1], step[-2], rise[-1], rise[-2])
    begin, end = np.clip(low, x[:-1], x[1:]) - x[:-1], np.clip(high, x[:-1], x[1:]) - x[:-1]
    square = (3 * rise - 2 * slope[:-1] - slope[1:]) / step
    cube = (slope[:-1] + slope[1:] - 2 * rise) / step**2
    area = [t * (y[:-1] + t * (slope[:-1] / 2 + t * (square / 3 + t * cube / 4))) for t in (begin, end)]
    return float((area[1] - area[0]).sum())


def _end_slope(step: float, next_step: float, rise: float, next_rise: float) -> float:
    """The slope of the parabola through the last three points, kept within what is monotone."""
    slope = ((2 * step + next_step) * rise - step * next_rise) / (step + next_step)
    if slope * rise <= 0:
        return 0.0
    return 3 * rise if rise * next_rise <= 0 and abs(slope) > 3 * abs(rise) else slope


def decreasing(rate: Array, distortion: Array) -> tuple[Array, Array]:
    """The points in the order of their rate, with distortion strictly falling: neighbours that rise are averaged.

    A rise is noise; averaging both coordinates of the violators keeps the curve between them, where dropping the worse
    ones would favour the curve with more points.
    """
    order = np.lexsort((distortion, rate))
    if (np.diff(distortion[order]) < 0).all():
        return rate[order], distortion[order]
    blocks: list[tuple[float, float, int]] = []
    for place in order:
        block = (float(rate[place]), float(distortion[place]), 1)
        while blocks and blocks[-1][1] <= block[1]:
            other = blocks.pop()
            total = other[2] + block[2]
            block = ((other[0] * other[2] + block[0] * block[2]) / total,
                     (other[1] * other[2] + block[1] * block[2]) / total, total)  # fmt: skip
        blocks.append(block)
    return np.array([one[0] for one in blocks]), np.array([one[1] for one in blocks])


def lower_hull(x: Array, y: Array) -> npt.NDArray[np.int64]:
    """Places (m,) of the vertices of the lower left convex hull of points x (n,), y (n,), from least x to least y.

    What mixes two tokenizers, one for some images and one for the others, reaches every point of it (Andrew 1979).
    """
    hull: list[int] = []
    for place in np.lexsort((y, x)):
        if hull and y[place] >= y[hull[-1]]:
            continue
        while len(hull) > 1 and _turn(x, y, hull[-2], hull[-1], int(place)) <= 0:
            hull.pop()
        hull.append(int(place))
    return np.array(hull, dtype=np.int64)


def _turn(x: Array, y: Array, a: int, b: int, c: int) -> float:
    return float((x[b] - x[a]) * (y[c] - y[a]) - (y[b] - y[a]) * (x[c] - x[a]))
