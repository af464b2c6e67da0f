"""Least squares of a law on points, for one data set or many at once: the first axis b is always "which problem".

Fitting many at once is what makes profile intervals, starts on a grid and simulated coverage affordable: a step of
all of them is a few NumPy calls on arrays (b, n, p).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.laws import Law

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Model = Callable[[Array, Rows], tuple[Array, Array]]
"""Coordinates (m, p) of the problems ``rows`` (m,) -> values (m, n) and derivatives (m, n, p)."""

_MAX_POINTS = 2000  # more are gathered: a law is straight within 1/2000 of the span of ln x
_STARTS_KEPT = 8


@dataclass(frozen=True)
class Problem:
    """A law and points on the scale of its residuals.

    z (k, 1, n) is ln x minus ``center``; target (b, n) is y or ln y; weight (n,) counts rows that share a point, and
    ``scatter`` (b,) is the sum of squares within them, which no curve can explain. ``rows`` are counted before that.
    """

    law: Law
    z: Array
    target: Array
    weight: Array
    scatter: Array
    rows: int
    center: float

    @property
    def freedom(self) -> int:
        return self.rows - len(self.law.parameters)

    def model(self, coordinates: Array, z: Array | None = None) -> tuple[Array, Array]:
        """The curve on the scale of the residuals (b, n) and its derivatives (b, n, p)."""
        # Trial steps may leave the range of floats; their cost is then infinite, and they are not taken.
        with np.errstate(all="ignore"):
            value, slope = self.law.curve(coordinates, self.z if z is None else z)
            return (np.log(value), slope / value[..., None]) if self.law.log_residuals else (value, slope)

    def cost(self, coordinates: Array, which: Rows | slice = slice(None)) -> Array:
        """The residual sum of squares (m,) of data sets ``which``, scatter within gathered points included."""
        residual = self.target[which] - self.model(coordinates)[0]
        total: Array = (self.weight * residual**2).sum(axis=1) + self.scatter[which]
        return total


def problem(law: Law, x: Array, y: Array) -> Problem:
    """The least-squares problem of a law on sizes x (k, n) and measures y (b, n)."""
    z = np.log(x)
    target = np.log(y) if law.log_residuals else y
    # Linear laws are solved by QR, which needs no centre, and then need no translation back.
    center = 0.0 if law.linear else float(z.mean())
    weight, scatter = np.ones(z.shape[1]), np.zeros(len(y))
    if z.shape[1] > _MAX_POINTS and law.x_columns == 1 and not law.linear:
        gathered = _gather(z, target)
        # Clustered sizes may share so few bins that the bins no longer tell the parameters apart.
        if gathered[0].shape[1] > len(law.parameters):
            z, target, weight, scatter = gathered
    return Problem(law, (z - center)[:, None, :], target, weight, scatter, x.shape[1], center)


def _gather(z: Array, target: Array) -> tuple[Array, Array, Array, Array]:
    """Replace the points of each narrow bin of z by their mean: z, target, weight, scatter.

    Exact where the points of a bin share one z; else the scatter holds the curve's fall within a bin as well.
    """
    low, high = z.min(), z.max()
    places = np.minimum(((z[0] - low) / (high - low) * _MAX_POINTS).astype(np.int64), _MAX_POINTS - 1)
    _, places = np.unique(places, return_inverse=True)
    counts = np.bincount(places).astype(np.float64)
    means = np.stack([np.bincount(places, weights=row) for row in target]) / counts
    middle = np.bincount(places, weights=z[0]) / counts
    scatter: Array = ((target - means[:, places]) ** 2).sum(axis=1)
    return middle[None], means, counts, scatter


@dataclass(frozen=True)
class Solution:
    """Coordinates (b, p) of least cost, and that cost (b,)."""

    coordinates: Array
    cost: Array


def solve(task: Problem) -> Solution:
    """The global optimum: QR for linear laws, else Levenberg-Marquardt from the best of the law's starts."""
    if task.law.linear:
        return _solve_linear(task)
    assert task.law.starts is not None, task.law.name
    y = np.exp(task.target) if task.law.log_residuals else task.target
    low, high = task.law.limits()
    starts = np.clip(task.law.starts(task.z, y), low, high)
    b, s, p = starts.shape
    costs = np.stack([task.cost(starts[:, start]) for start in range(s)], axis=1)
    best = np.argsort(np.where(np.isfinite(costs), costs, np.inf), axis=1)[:, :_STARTS_KEPT]
    kept = np.take_along_axis(starts, best[:, :, None], axis=1).reshape(-1, p)
    target = np.repeat(task.target, best.shape[1], axis=0)
    coordinates, cost = minimise(lambda at, _: task.model(at), target, task.weight, kept, low, high)
    winner = cost.reshape(b, -1).argmin(axis=1)
    rows = np.arange(b)
    return Solution(coordinates.reshape(b, -1, p)[rows, winner], cost.reshape(b, -1)[rows, winner] + task.scatter)


def _solve_linear(task: Problem) -> Solution:
    root = np.sqrt(task.weight)
    basis = task.model(np.zeros((1, len(task.law.parameters))))[1][0] * root[:, None]
    orthogonal, triangular = np.linalg.qr(basis)
    coordinates = np.linalg.solve(triangular, orthogonal.T @ (task.target * root).T).T
    return Solution(coordinates, task.cost(coordinates))


def minimise(
    model: Model,
    target: Array,
    weight: Array,
    start: Array,
    low: Array,
    high: Array,
    *,
    tolerance: float = 1e-13,
    iterations: int = 200,
) -> tuple[Array, Array]:
    """Levenberg-Marquardt within a box, for b problems at once: coordinates (b, p) and cost (b,).

    Target (b, n), weight (b, n) or (1, n), start (b, p), limits (p,). A coordinate at a limit that the gradient pushes
    against is held there. Steps are scaled by the curvature of each coordinate (Marquardt 1963), so units do not
    matter. A problem is settled, and no longer computed, when a step gains less than ``tolerance`` of its cost.
    """
    weight = np.broadcast_to(weight, target.shape)
    coordinates, damping, rows = start.copy(), np.full(len(start), 1e-3), np.arange(len(start))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        values, slopes = (np.array(part) for part in model(coordinates, rows))
        cost = _cost(target, values, weight)
        for _ in range(iterations):
            here = coordinates[rows]
            gradient, curvature = _normal_equations(target[rows] - values[rows], slopes[rows], weight[rows])
            held = ((here <= low) & (gradient < 0)) | ((here >= high) & (gradient > 0))
            trial = np.clip(here + _damped_step(gradient, curvature, held, damping[rows]), low, high)
            trial_values, trial_slopes = model(trial, rows)
            trial_cost = _cost(target[rows], trial_values, weight[rows])
            better = trial_cost <= cost[rows]
            settled = better & (cost[rows] - trial_cost <= tolerance * cost[rows])
            taken = rows[better]
            coordinates[taken], cost[taken] = trial[better], trial_cost[better]
            values[taken], slopes[taken] = trial_values[better], trial_slopes[better]
            damping[rows] *= np.where(better, 0.2, 5.0)
            rows = rows[~settled & (damping[rows] < 1e12)]
            if not len(rows):
                break
    return coordinates, cost


def _cost(target: Array, values: Array, weight: Array) -> Array:
    cost = (weight * (target - values) ** 2).sum(axis=1)
    return np.where(np.isfinite(cost), cost, np.inf)


def _normal_equations(residual: Array, slopes: Array, weight: Array) -> tuple[Array, Array]:
    weighted = slopes * weight[..., None]
    gradient = np.einsum("bnp,bn->bp", weighted, residual)
    curvature = np.swapaxes(weighted, 1, 2) @ slopes
    return np.nan_to_num(gradient), np.nan_to_num(curvature)


def _damped_step(gradient: Array, curvature: Array, held: npt.NDArray[np.bool_], damping: Array) -> Array:
    """Solve (H + damping diag H) step = gradient for the coordinates that are not held, in units of their curvature."""
    diagonal = np.einsum("bpp->bp", curvature)
    free = ~held & (diagonal > 0)
    unit = np.where(free, 1 / np.sqrt(np.where(free, diagonal, 1.0)), 0.0)
    matrix = curvature * unit[:, :, None] * unit[:, None, :]
    rank = np.arange(gradient.shape[1])
    matrix[:, rank, rank] = 1.0 + damping[:, None] + 1e-14
    return np.asarray(np.linalg.solve(matrix, (gradient * unit)[..., None])[..., 0] * unit, dtype=np.float64)
