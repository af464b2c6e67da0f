"""Smoothly broken power laws (Caballero, Gupta, Rish and Krueger 2022, "Broken neural scaling laws", without floor).

ln y = ln scale - exponent z - sum_i change_i s_i ln(1 + e^u_i), with u_i = (z - ln break_i) / s_i. The sharpness s_i is
the width, in ln x, over which the exponent grows by exponent_change_i.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.laws.law import Array, Law, Starts
from analysis.laws.starts import profile

# A transition within 5 % of x is a kink, one over a factor of e^5 a parabola: points tell neither from more of it.
_SHARPNESS = (0.05, 5.0)
_STEEPEST = 30.0
_KNOTS = 80
_KEPT = {1: 24, 2: 72}
# Of the span of ln x.
_WIDTHS = np.geomspace(0.005, 1.0, 6)
_OUTSIDE = np.array([0.02, 0.1, 0.4])
_FEW, _SCATTERED = 12, 300  # as many points, and starts that follow no grid
_PAIRS = (-2.0, 0.0)  # decimal logarithm of the distance of two breaks that make a step, of that of points


def broken_law(breaks: int) -> Law:
    """The law of one or two breaks, in coordinates (ln scale, exponent, ln break, change, ln sharpness, ...)."""
    factors, parameters = [], ["scale", "exponent"]
    for i in range(1, breaks + 1):
        parameters += [f"break_{i}", f"exponent_change_{i}", f"sharpness_{i}"]
        factors.append(f"(1 + (x / break_{i})^(1 / sharpness_{i}))^(-exponent_change_{i} sharpness_{i})")
    slopes = [name for name in parameters if name.startswith("exponent")]
    return Law(
        "broken_power" if breaks == 1 else f"broken_power_{breaks}",
        " ".join(["y = scale x^-exponent", *factors]),
        tuple(parameters), _curve, _bend,
        log_residuals=True,
        positive=tuple(name for name in parameters if name not in slopes),
        bounds={**dict.fromkeys(slopes, (-_STEEPEST, _STEEPEST)),
                **{f"sharpness_{i}": (math.log(_SHARPNESS[0]), math.log(_SHARPNESS[1])) for i in range(1, breaks + 1)}},
        separable=("scale", *slopes),
        starts=_starts(breaks), ordered=_in_order if breaks > 1 else None,
    )  # fmt: skip


def _in_order(coordinates: Array) -> Array:
    """The first break is the one at smaller x, in coordinates (..., p)."""
    parts = coordinates[..., 2:].reshape(*coordinates.shape[:-1], -1, 3)
    order = np.argsort(parts[..., 0], axis=-1, kind="stable")
    sorted_parts = np.take_along_axis(parts, order[..., None], axis=-2)
    return np.concatenate([coordinates[..., :2], sorted_parts.reshape(*coordinates.shape[:-1], -1)], axis=-1)


def _logarithm(coordinates: Array, z: Array) -> tuple[Array, Array]:
    """ln y (b, n) and its derivatives (b, n, p)."""
    value = coordinates[:, :1] - coordinates[:, 1:2] * z[0]
    slopes = [np.ones_like(value), np.broadcast_to(-z[0], value.shape)]
    for place in range(2, coordinates.shape[1], 3):
        change, width, u, rise, share = _transition(coordinates, z, place)
        value = value - change * width * rise
        slopes += [change * share, -width * rise, -change * width * (rise - u * share)]
    return value, np.stack(slopes, axis=-1)


def _transition(coordinates: Array, z: Array, place: int) -> tuple[Array, Array, Array, Array, Array]:
    """Of one break: change (b, 1), width (b, 1), and u, ln(1 + e^u), its derivative, each (b, n)."""
    change, width = coordinates[:, place + 1, None], np.exp(coordinates[:, place + 2, None])
    u = (z[0] - coordinates[:, place, None]) / width
    fall = np.exp(-np.abs(u))
    share = np.where(u >= 0, 1.0, fall) / (1 + fall)
    return change, width, u, np.maximum(u, 0.0) + np.log1p(fall), share


def _curve(coordinates: Array, z: Array) -> tuple[Array, Array]:
    logarithm, slope = _logarithm(coordinates, z)
    value = np.exp(logarithm)
    return value, value[..., None] * slope


def _bend(coordinates: Array, z: Array) -> Array:
    logarithm, slope = _logarithm(coordinates, z)
    second = slope[..., :, None] * slope[..., None, :]
    for place in range(2, coordinates.shape[1], 3):
        change, width, u, rise, share = _transition(coordinates, z, place)
        curl = share * (1 - share)
        bent = rise - u * share
        pairs = {(0, 0): -change * curl / width, (0, 1): share, (0, 2): -change * u * curl,
                 (1, 2): -width * bent, (2, 2): -change * width * (bent + u**2 * curl)}  # fmt: skip
        for (i, j), part in pairs.items():
            second[..., place + i, place + j] += part
            if i != j:
                second[..., place + j, place + i] += part
    return np.asarray(np.exp(logarithm)[..., None, None] * second)


def _starts(breaks: int) -> Starts:
    """One start a choice of breaks and widths: given these, ln y is linear in all others."""

    def starts(z: Array, y: Array) -> Array:
        middle = float(z.mean())
        z = z[0, 0] - middle
        knots, widths = _knots(z, _KNOTS), np.unique(np.clip(np.ptp(z) * _WIDTHS, *_SHARPNESS))
        knot, width = (part.ravel() for part in np.meshgrid(knots, widths, indexing="ij"))  # each (m,)
        rises = -width[:, None] * np.logaddexp(0.0, (z - knot[:, None]) / width[:, None])
        rising = np.diff(np.indices((len(knot),) * breaks), axis=0) > 0
        linear, places = profile(
            np.stack([np.ones_like(z), -z]), np.stack([rises] * breaks), np.log(y), np.ones((1, len(z))),
            (False,) * (2 + breaks), _KEPT[breaks], shape=(len(knots), len(widths)),
            allowed=rising.all(axis=0).ravel(), apart=tuple(range(2, 2 + 2 * breaks, 2)),
        )  # fmt: skip
        coordinates = np.empty((*places.shape[:2], 2 + 3 * breaks))
        slopes = np.clip(linear[..., 1:], -_STEEPEST, _STEEPEST)
        level = np.log(y).mean(axis=1)[:, None] - (slopes[..., 1:] * rises.mean(axis=1)[places]).sum(axis=-1)
        coordinates[..., 0] = level + slopes[..., 0] * middle
        coordinates[..., 1] = slopes[..., 0]
        coordinates[..., 2::3] = knot[places] + middle
        coordinates[..., 3::3] = slopes[..., 1:]
        coordinates[..., 4::3] = np.log(width[places])
        if breaks == 1 or len(z) > _FEW:
            return coordinates
        return np.append(coordinates, _scattered(z + middle, len(y), breaks), axis=1)

    return starts


def _scattered(z: Array, b: int, breaks: int) -> Array:
    """Starts (b, s, p) with breaks and widths at random, and all that is linear left to be settled.

    Several breaks can meet few points in ways that no grid foresees: as a step between two neighbours, or from outside
    with a steep slope's last trace.
    """
    rng = np.random.default_rng(0)
    coordinates = np.zeros((_SCATTERED, 2 + 3 * breaks))
    reach = np.ptp(z) * _OUTSIDE[1]
    coordinates[:, 2::3] = rng.uniform(z.min() - reach, z.max() + reach, (_SCATTERED, breaks))
    pairs = coordinates[::2]
    pairs[:, 5::3] = pairs[:, 2:3] + np.ptp(z) / len(z) * 10 ** rng.uniform(*_PAIRS, (len(pairs), breaks - 1))
    least, most = map(math.log, _SHARPNESS)
    coordinates[:, 4::3] = rng.uniform(least, most, (_SCATTERED, breaks))
    return np.broadcast_to(_in_order(coordinates), (b, *coordinates.shape))


def _knots(z: Array, count: int) -> Array:
    """Where a break may be: at points and between them, for each may end in a minimum of its own, and outside."""
    points = np.unique(z)
    points = np.sort(np.append(points, (points[1:] + points[:-1]) / 2))
    if len(points) > count:
        points = np.quantile(points, np.linspace(0, 1, count))
    return np.concatenate([points[0] - np.ptp(z) * _OUTSIDE[::-1], points, points[-1] + np.ptp(z) * _OUTSIDE])
