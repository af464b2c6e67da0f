"""Intervals of parameters, of their differences, of the curve, of new points and of turning points.

Linear laws: exact t intervals (and Fieller's for a parabola's turning point). Other laws under least squares: profile
likelihood with the F threshold, {h : least cost at h <= cost_min (1 + F(1, n - p) / (n - p))}, which follows the
curvature that the usual linear approximation forgets (``analysis.profiles``). Huber fits, and whoever hands in
``draws``: the bootstrap (``analysis.bootstrap``).

All hold if the law is true; ``analysis.prediction`` adds what a wrong form does.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.profiles import Climb, Quantity, starts_within
from analysis.solver import Problem, Rows, Solution
from tokscale.errors import UsageError, one_of

if TYPE_CHECKING:
    from analysis.bootstrap import Draws

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_RANGE = 750.0  # logarithms of numbers lie within it: exp(-750) is 0, exp(750) infinite
_ENDLESS = 1000.0  # a limit farther than so many usual half-widths is no limit
_MANY = 20_000  # points: the region that they allow is so small that laws are straight in it
_STEP = 1e-6  # of a coordinate, for the slope of a turning point


@dataclass(frozen=True)
class Limits:
    """Lower and upper limits; infinite where the data set none, NaN where no interval exists."""

    low: Array
    high: Array


def parameter_limits(task: Problem, solution: Solution, level: float, draws: Draws | None = None) -> Limits:
    """Intervals of all parameters (b, p), as the formula names them.

    With ``draws`` they are those of a bootstrap, and so are those of Huber fits in any case, which draw by themselves;
    both are for a single data set (b = 1). A limit that is only the law's own technical one (an exponent of 30) is
    infinite; at a natural bound, as floor = 0, the interval ends there.
    """
    b, p = solution.coordinates.shape
    positive = np.array([name in task.law.positive for name in task.law.parameters])
    found = _combinations(task, solution, task.law.from_unit(task.center), positive, level, draws)
    bounded = _natural_bounds(task, Limits(found.low.reshape(b, p), found.high.reshape(b, p)))
    with np.errstate(over="ignore"):
        return Limits(*(np.where(positive, np.exp(np.where(positive, side, 0.0)), side)
                        for side in (bounded.low, bounded.high)))  # fmt: skip


def difference_limits(
    task: Problem, solution: Solution, first: str, second: str, level: float, draws: Draws | None = None
) -> Limits:
    """The interval (b,) of parameter ``first`` minus ``second``, such as ``exponent[1]`` and ``exponent[0]`` of groups.

    Of two positive parameters (scales) it is their ratio. Raises ``UsageError`` for names that are not of one kind.
    """
    law = task.law
    for name in (first, second):
        if name not in law.parameters:
            raise UsageError("a law has no such parameter", given=name, allowed=one_of(law.parameters, name))
    if (first in law.positive) != (second in law.positive):
        raise UsageError("parameters of two kinds have no difference", given=f"{first}, {second}")
    natural = law.from_unit(task.center)
    direction = natural[law.parameters.index(first)] - natural[law.parameters.index(second)]
    found = _combinations(task, solution, direction[None], np.array([first in law.positive]), level, draws)
    if first not in law.positive:
        return found
    with np.errstate(over="ignore"):
        return Limits(np.exp(found.low), np.exp(found.high))


def curve_limits(
    task: Problem,
    solution: Solution,
    z: Array,
    level: float,
    new_point: Array | float = 0.0,
    draws: Draws | None = None,
) -> Limits:
    """Intervals (m,) of the curve at z (k, m) in ln x, on the scale of the residuals, for a single data set (b = 1).

    With ``new_point``, one for all or (m,), they are prediction intervals: where one more measurement would fall whose
    error has so many times the variance of a residual of weight 1 (1 for one like the points).
    """
    sizes, extra = z - task.center, np.broadcast_to(np.asarray(new_point, dtype=np.float64), z.shape[1:])
    if (known := _draws(task, solution, draws)) is not None:
        return Limits(*known.limits(lambda at: task.model(at, sizes[:, None, :])[0], level, extra))
    if task.law.linear:
        values, slopes = task.model(solution.coordinates, sizes[:, None, :])
        variance = ((slopes[0] @ _root(task)) ** 2).sum(axis=1) + extra
        half = _student(task, level) * _deviation(task, solution) * np.sqrt(variance)
        return Limits(values[0] - half, values[0] + half)

    def quantity(coordinates: Array, rows: Rows) -> tuple[Array, Array]:
        value, slope = task.model(coordinates, sizes[:, rows, None])
        return value[:, 0], slope[:, 0]

    return profile_limits(task, solution, np.zeros(z.shape[1], dtype=np.int64), quantity, level, extra,
                          logarithms=task.law.log_residuals)  # fmt: skip


def turning_point_limits(
    task: Problem, solution: Solution, level: float, draws: Draws | None = None
) -> tuple[float, float] | None:
    """The interval of log2 x where the curve turns, for a single data set; an end is infinite where the data set none.

    None where nothing is known of it: a parabola whose curvature is not beyond doubt, a valley bounded on no side.
    """
    if task.freedom < 1 or task.law.turning_point is None:
        return None
    turning_point = task.law.turning_point
    if (known := _draws(task, solution, draws)) is not None:
        ends = np.ravel(known.limits(lambda at: turning_point(at)[:, None], level))
    elif task.law.linear:
        return _fieller(task, solution, level)
    else:
        found = profile_limits(task, solution, np.zeros(1, dtype=np.int64), turning_quantity(task), level,
                               logarithms=True)  # fmt: skip
        ends = np.array([found.low[0], found.high[0]])
    ends = (ends + float(task.center[0, 0])) / np.log(2)
    return None if np.isinf(ends).all() else (float(ends[0]), float(ends[1]))


def turning_quantity(task: Problem) -> Quantity:
    """The z of the law's turning point as a quantity with derivatives, which are taken by central differences."""
    turning_point = task.law.turning_point
    assert turning_point is not None, task.law.name
    low, high = task.law.limits()

    def quantity(coordinates: Array, rows: Rows) -> tuple[Array, Array]:
        slope = np.empty_like(coordinates)
        for place in range(coordinates.shape[1]):
            step = _STEP * (1e-2 + np.abs(coordinates[:, place]))
            ends = [coordinates.copy(), coordinates.copy()]
            ends[0][:, place] = np.maximum(coordinates[:, place] - step, low[place])
            ends[1][:, place] = np.minimum(coordinates[:, place] + step, high[place])
            with np.errstate(invalid="ignore"):  # a part without exponent turns nowhere
                rise = turning_point(ends[1]) - turning_point(ends[0])
            slope[:, place] = rise / (ends[1][:, place] - ends[0][:, place])
        return turning_point(coordinates), slope

    return quantity


def _fieller(task: Problem, solution: Solution, level: float) -> tuple[float, float] | None:
    """Fieller's interval of log2 x at a parabola's turning point."""
    slope, curvature = solution.coordinates[0, 1:]
    width = (_student(task, level) * _deviation(task, solution)[0]) ** 2
    root = _root(task)[1:]
    cov = root @ root.T * width
    # Points t with (slope + 2 t curvature)^2 <= width Var(...): a quadratic inequality in t.
    a = 4 * (curvature**2 - cov[1, 1])
    if not np.isfinite(a) or a <= 0:
        return None
    half_b = 2 * (slope * curvature - cov[0, 1])
    half = np.sqrt(max(half_b**2 - a * (slope**2 - cov[0, 0]), 0.0))
    return float((-half_b - half) / a), float((-half_b + half) / a)


def _draws(task: Problem, solution: Solution, draws: Draws | None) -> Draws | None:
    """The draws that were given or, for a Huber fit, the same ones for the same points every time."""
    if draws is not None or task.delta is None:
        return draws
    from analysis.bootstrap import bootstrap  # squares need nothing of it

    return bootstrap(task, solution, np.random.default_rng(zlib.crc32(task.target.tobytes())))


def _combinations(
    task: Problem, solution: Solution, directions: Array, logarithms: Mask, level: float, draws: Draws | None
) -> Limits:
    """Intervals (b * q,) of linear combinations (q, p) of the coordinates, all of a data set one after another.

    Of which some (q,) are ``logarithms``.
    """
    if (known := _draws(task, solution, draws)) is not None:
        return Limits(*known.limits(lambda at: at @ directions.T, level))
    b, q = len(solution.coordinates), len(directions)
    if task.law.linear:
        values = (solution.coordinates @ directions.T).ravel()
        size = np.linalg.norm(directions @ _root(task), axis=1)
        half = (_student(task, level) * _deviation(task, solution)[:, None] * size).ravel()
        return Limits(values - half, values + half)
    each = np.tile(directions, (b, 1))

    def quantity(coordinates: Array, rows: Rows) -> tuple[Array, Array]:
        return (each[rows] * coordinates).sum(axis=1), each[rows]

    return profile_limits(task, solution, np.repeat(np.arange(b), q), quantity, level,
                          logarithms=np.tile(logarithms, b))  # fmt: skip


def profile_limits(
    task: Problem, solution: Solution, which: Rows, quantity: Quantity, level: float, new_point: Array | float = 0.0,
    logarithms: Mask | bool = False,
) -> Limits:  # fmt: skip
    """Profile-likelihood limits (m,) of one quantity each, of the data sets ``which`` (m,).

    With ``new_point`` the quantity is the curve, and the limits are those of one more measurement (``curve_limits``).
    Where quantities are ``logarithms`` (m,) of numbers, numbers beyond the range of floats are no limit.
    """
    m = len(which)
    extra = np.broadcast_to(np.asarray(new_point, dtype=np.float64), (m,))
    if task.freedom < 1:
        return Limits(np.full(m, np.nan), np.full(m, np.nan))
    best = solution.coordinates[which]
    center, slope = quantity(best, np.arange(m))
    if _exact(task, solution):
        return Limits(center.copy(), center.copy())
    freedom = task.freedom_at(solution.coordinates)
    residual = solution.cost / freedom
    threshold = special.stdtrit(freedom, 0.5 + level / 2) ** 2
    spread = np.maximum(residual[which] * (_leverage(task, solution, which, slope) + extra), 1e-24 * center**2 + 1e-300)
    usual = np.sqrt(threshold[which] * spread)
    if task.target.shape[1] > _MANY:
        return Limits(center - usual, center + usual)
    limit = solution.cost + residual * threshold
    both, sign = np.tile(which, 2), np.repeat([-1.0, 1.0], m)
    reach = np.tile(_ENDLESS * usual, 2)
    # A part that is absent has no usual half-width: without this its scale would sink for ever.
    longest = np.where(np.tile(np.broadcast_to(logarithms, (m,)), 2), _RANGE - sign * np.tile(center, 2), np.inf)
    climb = Climb(
        task, both, lambda at, rows: quantity(at, rows % m), sign, limit[both],
        np.minimum(reach, np.maximum(longest, 0.0)), np.tile(extra, 2),
    )  # fmt: skip
    ends = climb.limits(solution.coordinates, starts_within(task, solution.coordinates, limit))
    return Limits(ends[:m], ends[m:])


def _natural_bounds(task: Problem, limits: Limits) -> Limits:
    """Limits of coordinates (b, p), open where only a technical bound of the law ended the climb.

    A bootstrap's limits, which are distances from the estimate, end at a natural bound too.
    """
    low, high = task.law.limits()
    zero = np.where(low == 0, 0.0, -np.inf)
    limits = Limits(np.maximum(limits.low, zero), np.maximum(limits.high, zero))
    low, high = np.where(low < 0, low, -np.inf), high  # a bound at zero is natural
    near = 1e-6 * (1 + np.abs(np.where(np.isfinite(low), low, high)))
    with np.errstate(invalid="ignore"):
        return Limits(
            np.where(limits.low <= low + near, -np.inf, limits.low) + 0.0,  # no negative zero
            np.where(limits.high >= high - near, np.inf, limits.high),
        )


def _student(task: Problem, level: float) -> float:
    """The two-sided t quantile; its square is the F threshold. NaN without degrees of freedom."""
    return float(special.stdtrit(task.freedom, 0.5 + level / 2)) if task.freedom > 0 else float("nan")


def _deviation(task: Problem, solution: Solution) -> Array:
    """The standard deviation (b,) of a residual of weight 1."""
    return np.asarray(np.sqrt(solution.cost / task.freedom if task.freedom > 0 else solution.cost * np.nan))


def _exact(task: Problem, solution: Solution) -> bool:
    """Residuals are rounding errors: nothing to be uncertain about."""
    return bool((solution.cost <= 1e-20 * task.weight.sum() * task.magnitude).all())


def _root(task: Problem) -> Array:
    """R (p, p) of a linear law, with R R' = (J'J)^-1, the covariance in units of the residuals' variance."""
    basis = task.model(np.zeros((1, len(task.law.parameters))))[1][0] * np.sqrt(task.weight)[:, None]
    return np.asarray(np.linalg.inv(np.linalg.qr(basis)[1]), dtype=np.float64)


def _leverage(task: Problem, solution: Solution, which: Rows, slope: Array) -> Array:
    """slope' (J'J)^-1 slope (m,): the quantity's variance in units of the residuals', in linear approximation."""
    slopes = task.model(solution.coordinates)[1]
    curvature = np.swapaxes(slopes * task.weight[:, None], 1, 2) @ slopes
    unit = 1 / np.sqrt(np.maximum(np.einsum("bpp->bp", curvature), 1e-100))
    matrix = curvature * unit[:, :, None] * unit[:, None, :] + 1e-12 * np.eye(slope.shape[1])
    scaled = slope * unit[which]
    return np.asarray((scaled * np.linalg.solve(matrix[which], scaled[..., None])[..., 0]).sum(axis=1))
