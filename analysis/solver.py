"""Least squares of a law on points, for one data set or many at once: the first axis b is always "which problem".

Fitting many at once is what makes profile intervals, starts on a grid and simulated coverage affordable: a step of
all of them is a few NumPy calls on arrays (b, n, p).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.descent import Rows as Rows
from analysis.descent import derivatives, squares
from analysis.descent import minimise as minimise
from analysis.laws import Law
from analysis.search import best_minimum

Array = npt.NDArray[np.float64]

_MAX_POINTS = 2000  # more are gathered: a law is straight within 1/2000 of the span of ln x
_AT_BOUND = 1e-12  # of what is large for a coordinate
_LEAST_OF_GROUP = 40  # points of a sample of groups
_MANY = 20_000  # points, of which a sample finds the neighbourhood of the optimum
_CELLS = 20_000  # numbers in the derivatives (b, n, p) of data sets that are solved at once


@dataclass(frozen=True)
class Problem:
    """A law and points on the scale of its residuals.

    z (k, 1, n) is ln x minus ``center`` (k, 1); target (b, n) is y or ln y; weight (n,) is that of each point, and
    ``scatter`` (b,) is the sum of squares within gathered points, which no curve can explain. ``rows`` are counted
    before that. With ``delta`` the loss is Huber's with this threshold, else least squares.
    """

    law: Law
    z: Array
    target: Array
    weight: Array
    scatter: Array
    rows: int
    center: Array
    delta: float | None = None

    @property
    def freedom(self) -> int:
        return self.rows - len(self.law.parameters)

    def freedom_at(self, optima: Array) -> Array:
        """Degrees of freedom (b,) of the residuals about optima (b, p): what a bound at zero holds has fitted nothing.

        Given which bounds hold, the squares about a cone's least-squares fit have as many degrees of freedom as there
        are points more than free coordinates (Meyer and Woodroofe 2000, "On the degrees of freedom in shape-restricted
        regression"). At a law's technical limits it is not so: there a part is a kink or a step, which still has its
        choice among the points.
        """
        held = (self.law.limits()[0] == 0) & (optima <= _AT_BOUND * self.sizes)
        return np.asarray(self.freedom + held.sum(axis=1), dtype=np.float64)

    @property
    def sizes(self) -> Array:
        """What is large for each coordinate (p,): a level has the unit of y, exponents and logarithms have none."""
        y = np.exp(self.target) if self.law.log_residuals else self.target
        size = float(np.sqrt((y**2).mean())) or 1.0
        return np.array([1.0 if name in self.law.positive or "exponent" in name else size
                         for name in self.law.parameters])  # fmt: skip

    @property
    def magnitude(self) -> float:
        """The mean square beside which a squared residual is a rounding error."""
        return float((self.target**2).mean()) + (1.0 if self.law.log_residuals else 0.0)

    def model(self, coordinates: Array, z: Array | None = None) -> tuple[Array, Array]:
        """The curve on the scale of the residuals (b, n) and its derivatives (b, n, p)."""
        # Trial steps may leave the range of floats; their cost is then infinite, and they are not taken.
        with np.errstate(all="ignore"):
            value, slope = self.law.curve(coordinates, self.z if z is None else z)
            if self.law.log_residuals:
                slope /= value[..., None]  # in place: of many points and groups it is the largest array there is
                value = np.log(value)
            return value, slope

    def bend(self, coordinates: Array) -> Array:
        """Second derivatives (b, n, p, p) of the curve on the scale of the residuals."""
        with np.errstate(all="ignore"):
            bend = self.law.bend(coordinates, self.z)
            if not self.law.log_residuals:
                return bend
            value, slope = self.law.curve(coordinates, self.z)
            slope = slope / value[..., None]
            return np.asarray(bend / value[..., None, None] - slope[..., :, None] * slope[..., None, :])

    def local(self, coordinates: Array, which: Rows) -> tuple[Array, Array, Array]:
        """Sum of weighted squares (m,) of data sets ``which``, half its downhill gradient and half its Hessian."""
        value, slope = self.model(coordinates)
        residual, weight = self.target[which] - value, np.broadcast_to(self.weight, value.shape)
        return squares(residual, weight), *derivatives(residual, slope, self.bend(coordinates), weight)

    def starts(self) -> Array:
        """Where a fit of a nonlinear law starts: coordinates (b, s, p)."""
        assert self.law.starts is not None, self.law.name
        weighty = self.weight > 0
        target = self.target[:, weighty]
        y = np.exp(target) if self.law.log_residuals else target
        return np.clip(self.law.starts(self.z[:, :, weighty], y), *self.law.limits())

    def cost(self, coordinates: Array, which: Rows | slice = slice(None)) -> Array:
        """The sum (m,) of weight x squared residual of data sets ``which``, scatter within gathered points included.

        With ``delta``: of weight x twice Huber's function, which is the square up to the threshold.
        """
        residual = self.target[which] - self.model(coordinates)[0]
        loss = residual**2 if self.delta is None else huber_loss(residual, self.delta)
        total: Array = (self.weight * loss).sum(axis=1) + self.scatter[which]
        return total


def huber_loss(residual: Array, delta: float) -> Array:
    """Twice Huber's function: r^2 up to delta, 2 delta |r| - delta^2 beyond (Huber 1964)."""
    size = np.abs(residual)
    return np.where(size <= delta, size**2, delta * (2 * size - delta))


def problem(
    law: Law, x: Array, y: Array, weight: npt.ArrayLike | None = None, delta: float | None = None
) -> Problem:  # fmt: skip
    """The problem of a law on sizes x (k, n), measures y (b, n) and weights of the points (n,), one each if not given.

    For a law of groups x has one more row, the number of each point's group. Least squares, or Huber's loss with the
    threshold ``delta`` on the residuals.
    """
    z = law.z(x)
    target = np.log(y) if law.log_residuals else y
    weight = np.ones(z.shape[1]) if weight is None else np.asarray(weight, dtype=np.float64)
    rows, scatter = int((weight > 0).sum()), np.zeros(len(y))
    # Laws without a scale that takes on the unit of x are fitted in ln x itself, and need no translation back.
    center = np.zeros((len(z), 1))
    if law.powers:
        center[: law.x_columns] = z[: law.x_columns].mean(axis=1, keepdims=True)
    if z.shape[1] > _MAX_POINTS and len(z) == 1 and not law.linear and delta is None:
        gathered = _gather(z, target, weight)
        # Clustered sizes may share so few bins that the bins no longer tell the parameters apart.
        if gathered[0].shape[1] > len(law.parameters):
            z, target, weight, scatter = gathered
    return Problem(law, (z - center)[:, None, :], target, weight, scatter, rows, center, delta)


def _gather(z: Array, target: Array, weight: Array) -> tuple[Array, Array, Array, Array]:
    """Replace the points of each narrow bin of z by their weighted mean: z, target, weight, scatter.

    Exact where the points of a bin share one z; else the scatter holds the curve's fall within a bin as well.
    """
    z, target, weight = z[:, weight > 0], target[:, weight > 0], weight[weight > 0]
    low, high = z.min(), z.max()
    places = np.minimum(((z[0] - low) / (high - low) * _MAX_POINTS).astype(np.int64), _MAX_POINTS - 1)
    _, places = np.unique(places, return_inverse=True)
    weights: Array = np.asarray(np.bincount(places, weights=weight), dtype=np.float64)
    means = np.stack([np.bincount(places, weights=weight * row) for row in target]) / weights
    middle = np.bincount(places, weights=weight * z[0]) / weights
    scatter: Array = (weight * (target - means[:, places]) ** 2).sum(axis=1)
    return middle[None], means, weights, scatter


@dataclass(frozen=True)
class Solution:
    """Coordinates (b, p) of least cost, and that cost (b,)."""

    coordinates: Array
    cost: Array


def solve(task: Problem) -> Solution:
    """The global optimum: QR for linear laws and squares, else the best minimum that the law's own starts lead to.

    Parts of a law that may change places are in their order.
    """
    found = _optimum(task)
    return found if task.law.ordered is None else replace(found, coordinates=task.law.ordered(found.coordinates))


def _optimum(task: Problem) -> Solution:
    if task.delta is not None:
        from analysis.huber import minimise_huber  # which itself needs this module

        return minimise_huber(task)
    if task.law.linear:
        return _solve_linear(task)
    if task.z.shape[2] > _MANY or (task.law.groups and task.z.shape[2] > _MAX_POINTS):
        return _solve_many(task)
    return _searched(task)


def _searched(task: Problem) -> Solution:
    """The best minimum from the law's own starts, of as many data sets at a time as fit the cache."""
    size = max(1, _CELLS // (task.z.shape[2] * len(task.law.parameters)))
    parts = [best_minimum(replace(task, target=target, scatter=np.zeros(len(target))))
             for target in np.split(task.target, range(size, len(task.target), size))]  # fmt: skip
    coordinates, cost = (np.concatenate(sides) for sides in zip(*parts, strict=True))
    return Solution(coordinates, cost + task.scatter)


def _solve_linear(task: Problem) -> Solution:
    root = np.sqrt(task.weight)
    basis = task.model(np.zeros((1, len(task.law.parameters))))[1][0] * root[:, None]
    orthogonal, triangular = np.linalg.qr(basis)
    coordinates = np.linalg.solve(triangular, orthogonal.T @ (task.target * root).T).T
    return Solution(coordinates, task.cost(coordinates))


def _solve_many(task: Problem) -> Solution:
    """From the optimum of a sample of the points to that of all."""
    sample = _sample(task)
    part = replace(task, z=task.z[:, :, sample], target=task.target[:, sample], weight=task.weight[sample])
    low, high = task.law.limits()
    start = _searched(replace(part, scatter=np.zeros(len(part.target)))).coordinates
    coordinates, cost = minimise(lambda at, _: task.model(at), task.target, task.weight, start, low, high,
                                 tolerance=1e-11, first_damping=1e-8)  # fmt: skip
    return Solution(coordinates, cost + task.scatter)


def _sample(task: Problem) -> Rows:
    """Some ``_MAX_POINTS`` of the points; of groups alike from each, over all its sizes, and of small ones all."""
    n = task.z.shape[2]
    if not task.law.groups:
        return np.random.default_rng(0).choice(n, _MAX_POINTS, replace=False)
    order = np.lexsort(task.z[:, 0])  # by group, then by size
    counts = np.bincount(task.z[-1, 0].astype(np.int64), minlength=task.law.groups)
    steps = np.maximum(1, counts // max(_LEAST_OF_GROUP, _MAX_POINTS // task.law.groups))
    place = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[place % np.repeat(steps, counts) == 0])
