"""Intervals of parameters, of the curve and of new points.

Linear laws: exact t intervals (and Fieller's for a parabola's turning point). Nonlinear laws: profile likelihood with
the F threshold, {h : min RSS subject to h <= RSS_min (1 + F(1, n - p) / (n - p))}, which follows the curvature that the
usual linear approximation forgets and keeps near-nominal coverage at six or eight points (Bates and Watts 1988, ch. 6).

The constrained minimum is reached without constraints: whatever minimises RSS + m (h - c)^2 is the least RSS among all
coordinates of the same h. So the profile is walked by moving c, and every step is an ordinary least-squares problem
with one point more. With m = 1 and h the curve itself, that point is a new measurement, and the interval of c is the
prediction interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.solver import Problem, Rows, Solution, minimise

Array = npt.NDArray[np.float64]
Quantity = Callable[[Array, Rows], tuple[Array, Array]]
"""Coordinates (m, p) of the quantities ``rows`` (m,) -> a number each (m,) and its derivatives (m, p)."""

_STIFFNESS = 100.0  # of the pull against the profile's own curvature; keeps the walk smooth where the profile flattens
_DOUBLINGS = 10  # a limit farther than 2^10 usual half-widths is no limit
_REFINEMENTS = 30


@dataclass(frozen=True)
class Limits:
    """Lower and upper limits; infinite where the data set none, NaN where no interval exists."""

    low: Array
    high: Array


def parameter_limits(task: Problem, solution: Solution, level: float) -> Limits:
    """Intervals of all parameters (b, p), as the formula names them."""
    b, p = solution.coordinates.shape
    to_natural = task.law.from_unit(task.center)
    values = solution.coordinates @ to_natural.T
    if task.law.linear:
        half = _student(task, level) * _deviation(task, solution)[:, None] * np.linalg.norm(_root(task), axis=1)
        limits = Limits(values - half, values + half)
    else:
        directions = np.tile(to_natural, (b, 1))

        def quantity(coordinates: Array, rows: Rows) -> tuple[Array, Array]:
            return (directions[rows] * coordinates).sum(axis=1), directions[rows]

        found = profile_limits(task, solution, np.repeat(np.arange(b), p), quantity, level)
        limits = _natural_bounds(task, Limits(found.low.reshape(b, p), found.high.reshape(b, p)))
    positive = np.array([name in task.law.positive for name in task.law.parameters])
    with np.errstate(over="ignore"):
        return Limits(*(np.where(positive, np.exp(np.where(positive, side, 0.0)), side)
                        for side in (limits.low, limits.high)))  # fmt: skip


def curve_limits(task: Problem, solution: Solution, z: Array, level: float, new_point: bool) -> Limits:
    """Intervals (m,) of the curve at z (k, m) in ln x, on the scale of the residuals, for a single data set (b = 1).

    With ``new_point`` they are prediction intervals: where one more measurement would fall.
    """
    sizes = z - task.center
    if task.law.linear:
        values, slopes = task.model(solution.coordinates, sizes[:, None, :])
        variance = ((slopes[0] @ _root(task)) ** 2).sum(axis=1) + float(new_point)
        half = _student(task, level) * _deviation(task, solution) * np.sqrt(variance)
        return Limits(values[0] - half, values[0] + half)

    def quantity(coordinates: Array, rows: Rows) -> tuple[Array, Array]:
        value, slope = task.model(coordinates, sizes[:, rows, None])
        return value[:, 0], slope[:, 0]

    return profile_limits(task, solution, np.zeros(z.shape[1], dtype=np.int64), quantity, level, new_point)


def turning_point_limits(task: Problem, solution: Solution, level: float) -> tuple[float, float] | None:
    """Fieller's interval of log2 x at a parabola's turning point; None unless its curvature is beyond doubt."""
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


def profile_limits(
    task: Problem, solution: Solution, which: Rows, quantity: Quantity, level: float,
    new_point: bool = False,
) -> Limits:  # fmt: skip
    """Profile-likelihood limits (m,) of one quantity each, of the data sets ``which`` (m,)."""
    m = len(which)
    if task.freedom < 1:
        return Limits(np.full(m, np.nan), np.full(m, np.nan))
    best = solution.coordinates[which]
    center, slope = quantity(best, np.arange(m))
    if _exact(task, solution):
        return Limits(center.copy(), center.copy())
    variance = _deviation(task, solution)[which] ** 2
    spread = np.maximum(variance * _leverage(task, best, slope), 1e-24 * (1 + center**2))
    stiffness = np.ones(m) if new_point else _STIFFNESS * variance / spread
    half = _student(task, level) * np.sqrt(spread + variance * new_point)
    walk = _Walk(task, quantity, np.tile(which, 2), np.tile(stiffness, 2), _student(task, level) ** 2, new_point)
    sides = np.concatenate([-half, half])
    ends = walk.ends(np.tile(center, 2), sides, np.tile(best, (2, 1)), np.tile(solution.cost[which], 2))
    return Limits(ends[:m], ends[m:])


@dataclass(frozen=True)
class _Walk:
    """Both directions of m profiles at once: items 0..m-1 go down, m..2m-1 go up."""

    task: Problem
    quantity: Quantity
    which: Rows
    stiffness: Array
    threshold: float
    new_point: bool

    def ends(self, center: Array, sides: Array, start: Array, least: Array) -> Array:
        """Where each profile crosses the threshold, in the quantity (or in c, for a new point)."""
        variance = least / self.task.freedom
        inner, outer = np.zeros(len(sides)), np.ones(len(sides))
        inner_rise, outer_rise = np.full(len(sides), -np.sqrt(self.threshold)), np.full(len(sides), np.nan)
        coordinates, value, stuck = start, center, np.zeros(len(sides), dtype=bool)
        for _ in range(_DOUBLINGS + 1):
            before = value
            coordinates, value, outer_rise = self.step(center + outer * sides, coordinates, least, variance)
            short = outer_rise < 0
            stuck |= short & (np.abs(value - before) <= 1e-9 * np.abs(sides))
            if not (short & ~stuck).any():
                break
            inner, inner_rise = np.where(short, outer, inner), np.where(short, outer_rise, inner_rise)
            outer = np.where(short & ~stuck, outer * 2, outer)
        endless = outer_rise < 0
        for round_ in range(_REFINEMENTS):
            # Regula falsi, with a bisection now and then: the rise is nearly straight unless the profile bends.
            straight = inner_rise / np.where(endless, -1.0, inner_rise - outer_rise)
            share = np.clip(straight, 0.02, 0.98) if round_ % 4 != 3 else 0.5
            middle = np.where(endless, outer, inner + share * (outer - inner))
            coordinates, value, rise = self.step(center + middle * sides, coordinates, least, variance)
            inside = rise < 0
            inner, inner_rise = np.where(inside, middle, inner), np.where(inside, rise, inner_rise)
            outer, outer_rise = np.where(inside, outer, middle), np.where(inside, outer_rise, rise)
            if (endless | (np.abs(rise) < 1e-4) | (outer - inner < 1e-6 * outer)).all():
                break
        found = center + middle * sides if self.new_point else value
        return np.where(endless, np.sign(sides) * np.inf, found)

    def step(self, goal: Array, start: Array, least: Array, variance: Array) -> tuple[Array, Array, Array]:
        """Pull the quantity towards a goal: coordinates, the quantity there, and how far beyond the threshold."""

        rows = np.arange(len(goal))

        def model(coordinates: Array, rows: Rows) -> tuple[Array, Array]:
            values, slopes = self.task.model(coordinates)
            value, slope = self.quantity(coordinates, rows % (len(goal) // 2))
            return np.append(values, value[:, None], axis=1), np.append(slopes, slope[:, None, :], axis=1)

        target = np.append(self.task.target[self.which], goal[:, None], axis=1)
        weight = np.tile(self.task.weight, (len(goal), 1))
        weight = np.append(weight, self.stiffness[:, None], axis=1)
        coordinates, total = minimise(
            model, target, weight, start, *self.task.law.limits(), tolerance=1e-9, iterations=80
        )
        cost = total + self.task.scatter[self.which] if self.new_point else self.task.cost(coordinates, self.which)
        excess = np.sqrt(np.maximum(cost - least, 0.0) / variance)
        return coordinates, self.quantity(coordinates, rows % (len(goal) // 2))[0], excess - np.sqrt(self.threshold)


def _natural_bounds(task: Problem, limits: Limits) -> Limits:
    """A profile without end stops at the limit of its parameter, where it has a finite one."""
    low, high = task.law.limits()
    return Limits(np.maximum(limits.low, low), np.where(np.isinf(limits.high), np.inf, np.minimum(limits.high, high)))


def _student(task: Problem, level: float) -> float:
    """The two-sided t quantile; its square is the F threshold. NaN without degrees of freedom."""
    return float(special.stdtrit(task.freedom, 0.5 + level / 2)) if task.freedom > 0 else float("nan")


def _deviation(task: Problem, solution: Solution) -> Array:
    """The residuals' standard deviation (b,)."""
    return np.asarray(np.sqrt(solution.cost / task.freedom if task.freedom > 0 else solution.cost * np.nan))


def _exact(task: Problem, solution: Solution) -> bool:
    """Residuals are rounding errors: nothing to be uncertain about."""
    size = 1e-20 * (task.weight * (1 + task.target**2)).sum(axis=1)
    return bool((solution.cost <= size).all())


def _root(task: Problem) -> Array:
    """R (p, p) of a linear law, with R R' = (J'J)^-1, the covariance in units of the residuals' variance."""
    basis = task.model(np.zeros((1, len(task.law.parameters))))[1][0] * np.sqrt(task.weight)[:, None]
    return np.asarray(np.linalg.inv(np.linalg.qr(basis)[1]), dtype=np.float64)


def _leverage(task: Problem, coordinates: Array, slope: Array) -> Array:
    """slope' (J'J)^-1 slope (m,): the quantity's variance in units of the residuals', in linear approximation."""
    slopes = task.model(coordinates)[1]
    curvature = np.swapaxes(slopes * task.weight[:, None], 1, 2) @ slopes
    unit = 1 / np.sqrt(np.maximum(np.einsum("mpp->mp", curvature), 1e-100))
    matrix = curvature * unit[:, :, None] * unit[:, None, :] + 1e-12 * np.eye(slope.shape[1])
    scaled = slope * unit
    return np.asarray((scaled * np.linalg.solve(matrix, scaled[..., None])[..., 0]).sum(axis=1))
