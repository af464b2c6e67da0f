"""Hindcasts: one law fitted to many parts of the same points at once, to see what it would have foretold.

An origin is a size beyond which nothing is known yet; a window is the upper part of ln x that a fit looks at. Every
pair of them is a part of the points, and all parts are fitted in one batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.descent import minimise
from analysis.solver import Problem, Rows, solve

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ORIGINS = 6
_BACK = (1 / 18, 1 / 3)  # of the span of ln x: where the first and the last origin lie before the largest size
_KEPT = 3  # starts of each part that are followed to their end
_RIDGE = 1e-12
_MOST_CORRELATED = 0.9


@dataclass(frozen=True)
class Refits:
    """One law on ``parts`` (s, n) of the points: coordinates (s, p), covariance (s, p, p), residual variance (s,).

    Variances are those of a law that holds; without a degree of freedom they are infinite.
    """

    task: Problem
    parts: Mask
    coordinates: Array
    cost: Array
    variance: Array
    covariance: Array

    @property
    def rows(self) -> Rows:
        return np.asarray(self.parts.sum(axis=1))

    @property
    def residuals(self) -> list[Array]:
        """Those of each part, in order of size."""
        residual = (self.task.target - self.task.model(self.coordinates)[0]) * np.sqrt(self.task.weight)
        order = np.argsort(self.task.z[0, 0], kind="stable")
        return [row[order][part[order]] for row, part in zip(residual, self.parts, strict=True)]

    @property
    def inflation(self) -> Array:
        """By what the variance of a mean of residuals exceeds that of independent ones, (1 + r) / (1 - r), (s,)."""
        found = np.array([correlation(residual) for residual in self.residuals])
        return np.asarray((1 + found) / (1 - found))

    @property
    def dependence(self) -> Array:
        """The probability that the residuals of each part follow one another (s,)."""
        return np.array([dependence(residual, len(self.task.law.parameters)) for residual in self.residuals])

    def first(self, count: int) -> Refits:
        """The fits of the first parts only."""
        return Refits(self.task, self.parts[:count], self.coordinates[:count], self.cost[:count], self.variance[:count],
                      self.covariance[:count])  # fmt: skip

    def foretell(self, z: Array) -> tuple[Array, Array]:
        """The curve (s, m) at places z (k, m) in ln x, on the scale of the residuals, and its variance, less noise."""
        value, slope = self.task.model(self.coordinates, (z - self.task.center)[:, None, :])
        with np.errstate(all="ignore"):
            spread = np.einsum("smp,spq,smq->sm", slope, self.covariance, slope)
        return value, np.where(np.isfinite(spread), np.maximum(spread, 0.0), np.inf)


def origins(z: Array) -> Mask:
    """Which points are known at each origin (o, n), latest first, for sizes z (n,) in ln x.

    Origins lie evenly over the last third of ln x, where what comes is most like what is asked: what lies beyond.
    """
    span = float(np.ptp(z))
    known = z <= z.max() - span * np.linspace(*_BACK, ORIGINS)[:, None]
    _, first = np.unique(known.sum(axis=1), return_index=True)
    return np.asarray(known[np.sort(first)])


def refit(task: Problem, parts: Mask, kinds: int = 1, start: Array | None = None) -> Refits:
    """Fit the law of a single data set (b = 1) to parts of its points (s, n), by the task's own loss.

    Part s is like part s % ``kinds``, a little shorter, and takes that one's starts: finding starts costs more than
    what follows. ``start`` (p,) is tried beside them. Parts need at least as many points as the law has parameters.
    """
    if task.delta is not None:
        coordinates = np.concatenate([solve(part_of(task, part)).coordinates for part in parts])
    elif task.law.linear:
        coordinates = _linear(task, parts)
    else:
        coordinates = _descended(task, parts, kinds, start)
    value, slope = task.model(coordinates)
    weight = task.weight * parts
    squares = np.where(parts, weight * (task.target - value) ** 2, 0.0)
    cost, freedom = squares.sum(axis=1), parts.sum(axis=1) - len(task.law.parameters)
    variance = np.where(freedom > 0, cost / np.maximum(freedom, 1), np.inf)
    return Refits(task, parts, coordinates, cost, variance, _covariance(slope, weight, variance, coordinates, task))


def correlation(residual: Array) -> float:
    """Of residuals (n,) in order of size with the next one each, 0 where it is negative.

    Checkpoints of one run err together, and so do residuals of a law that does not hold.
    """
    total = float(residual @ residual)
    if len(residual) < 3 or total <= 0:
        return 0.0
    return min(max(float(residual[1:] @ residual[:-1]) / total, 0.0), _MOST_CORRELATED)


def dependence(residual: Array, parameters: int) -> float:
    """The probability that residuals (n,) in order of size follow one another, by AICc weights.

    Of a first-order autoregression, whose likelihood ratio is about -n ln(1 - r^2), against independent errors.
    """
    n, k = len(residual), parameters + 1
    if n - k - 2 < 1:
        return 0.0
    penalty = 2 + 2 * (k + 1) * (k + 2) / (n - k - 2) - 2 * k * (k + 1) / (n - k - 1)
    evidence = -n * np.log(1 - correlation(residual) ** 2) - penalty
    return float(special.expit(evidence / 2))


def part_of(task: Problem, part: Mask) -> Problem:
    """The problem of some of the points (n,)."""
    return replace(task, z=task.z[:, :, part], target=task.target[:, part], weight=task.weight[part],
                   scatter=np.zeros(1), rows=int(part.sum()))  # fmt: skip


def _linear(task: Problem, parts: Mask) -> Array:
    basis = task.model(np.zeros((1, len(task.law.parameters))))[1][0]
    root = np.sqrt(task.weight)
    solved = [np.linalg.lstsq(basis[part] * root[part, None], task.target[0, part] * root[part], rcond=None)[0]
              for part in parts]  # fmt: skip
    return np.array(solved)


def _descended(task: Problem, parts: Mask, kinds: int, start: Array | None) -> Array:
    """The best starts of all parts go down together; the lowest end of each part is its fit."""
    law, weight = task.law, task.weight * parts
    assert law.starts is not None, law.name
    low, high = law.limits()
    y = np.exp(task.target) if law.log_residuals else task.target
    own = [np.clip(law.starts(task.z[:, :, part], y[:, part])[0], low, high) for part in parts[:kinds]]
    each = [own[place % kinds] for place in range(len(parts))]
    starts, which = np.concatenate(each), np.repeat(np.arange(len(parts)), [len(found) for found in each])
    kept = _lowest(task, starts, which, weight, _KEPT)
    starts, which = starts[kept], which[kept]
    if start is not None:
        starts = np.append(starts, np.tile(start, (len(parts), 1)), axis=0)
        which = np.append(which, np.arange(len(parts)))
    coordinates, _ = minimise(
        lambda at, _: task.model(at), np.repeat(task.target, len(which), axis=0), weight[which], starts, low, high,
        tolerance=1e-9, iterations=60,
    )  # fmt: skip
    return coordinates[_lowest(task, coordinates, which, weight, 1)]


def _lowest(task: Problem, coordinates: Array, which: Rows, weight: Array, count: int) -> Rows:
    """The places of the ``count`` coordinates of least cost of each part, part by part."""
    with np.errstate(all="ignore"):
        residual = task.target - task.model(coordinates)[0]
        cost = np.where(weight[which] > 0, weight[which] * residual**2, 0.0).sum(axis=1)
    order = np.lexsort((np.where(np.isfinite(cost), cost, np.inf), which))
    rank = np.arange(len(order)) - np.searchsorted(which[order], which[order])
    return np.asarray(order[rank < count])


def _covariance(slope: Array, weight: Array, variance: Array, coordinates: Array, task: Problem) -> Array:
    """Of the coordinates (s, p, p), by the linear approximation; a coordinate at a limit does not move."""
    low, high = task.law.limits()
    free = ((coordinates > low) & (coordinates < high))[:, None, :]
    slope = np.where((weight > 0)[..., None] & free, slope, 0.0)
    curvature = np.einsum("snp,sn,snq->spq", slope, weight, slope)
    size = np.sqrt(np.einsum("spp->sp", curvature))
    unit = np.where(size > 0, 1 / np.where(size > 0, size, 1.0), 0.0)
    scaled = curvature * unit[:, :, None] * unit[:, None, :] + _RIDGE * np.eye(slope.shape[2])
    inverse = np.linalg.inv(scaled + np.eye(slope.shape[2]) * (unit == 0)[:, None, :])
    with np.errstate(invalid="ignore"):
        return np.asarray(variance[:, None, None] * inverse * unit[:, :, None] * unit[:, None, :])
