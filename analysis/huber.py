"""The global minimum of Huber's loss, summed over points, on the residuals of any law.

Beside the basins that starts are made for, a small threshold leaves shallow minima of its own near the optimum, each
with other points exactly on the curve. They are left by a detour: the points get random weights, the optimum moves, and
from where it then is the true problem leads down again, to a lower minimum or back (the ratchet of Nixon 1999).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from analysis.curves import Curve, curve_of
from analysis.newton import Descend, descent
from analysis.search import settle
from analysis.solver import Problem, Solution, solve

Array = npt.NDArray[np.float64]

_KEPT = 12  # starts that are followed to their end
_DETOURS, _ROUNDS = 8, 8
_MANY = 20_000  # points, of which a sample finds the neighbourhood of the optimum
_SAMPLE = 2_000
_FEW = 100  # points, that may have a minimum in any corner
_NEAR = 1e-4  # share of the cost that a step may still gain where curves are compared
_ALIKE = 0.05  # of the middle residual: curves that differ by less lead to one minimum
_AWAY = 1e-3  # share of the cost that a step may still gain where a detour among many points turns back
_BETTER = 1e-12  # share of the cost by which a minimum is another one


def minimise_huber(task: Problem, starts: Array | None = None) -> Solution:
    """The best minimum that can be found: coordinates (b, p), cost (b,); from starts (b, s, p), the law's own if None.

    A law that is linear on the scale of its residuals has one minimum only, and needs no start.
    """
    assert task.delta is not None
    b, n = task.target.shape
    if task.law.linear:
        starts = np.zeros((b, 1, len(task.law.parameters)))
    elif n > _MANY:
        starts = _sampled(task).coordinates[:, None]
    starts = _starts(task) if starts is None else starts
    curve = curve_of(task)
    descend = descent(task, curve)
    coordinates, cost = optima(task, curve, descend, starts)
    rows = np.arange(b)
    place = cost.argmin(axis=1)
    best, least = coordinates[rows, place], cost[rows, place]
    if not task.law.linear:
        away_by = descent(task, curve, _AWAY) if n >= _FEW else descend
        best, least = _by_detours(task, descend, away_by, best, least)
    return Solution(best, least + task.scatter)


def _starts(task: Problem) -> Array:
    """The law's own starts; of a law of breaks, whose minima are many, the optimum of squares and the best of those."""
    if task.law.terms is not None:
        return task.starts()
    squares, starts = replace(task, delta=None), task.starts()
    b, s, p = starts.shape
    which = np.repeat(np.arange(b), s)
    settled = settle(squares, starts.reshape(-1, p), which)
    size = np.abs(task.target[which] - task.model(settled)[0])
    # With hardly more points than parameters half of the points lie on many a poor curve.
    chosen = [
        np.nan_to_num(measure, nan=np.inf).reshape(b, s).argsort(axis=1)[:, :_KEPT]
        for measure in (np.median(size, axis=1), task.cost(settled, which))
    ]
    best = np.take_along_axis(settled.reshape(b, s, p), np.concatenate(chosen, axis=1)[..., None], axis=1)
    return np.concatenate([solve(squares).coordinates[:, None], best], axis=1)


def optima(task: Problem, curve: Curve, descend: Descend, starts: Array) -> tuple[Array, Array]:
    """Where the best of the starts (b, s, p) lead: coordinates (b, m, p) and cost (b, m), scatter left out.

    Each begins with a threshold of the size of its own residuals, so that outliers do not decide where it goes; the
    best one goes through least squares as well.
    """
    b, _, p = starts.shape
    starts = np.clip(starts, *task.law.limits())
    value = curve.at(starts.reshape(-1, p))[0].reshape(b, -1, task.target.shape[1])
    size = np.abs(task.target[:, None] - value)
    middle = np.nan_to_num(np.median(size, axis=2), nan=np.inf)
    order = middle.argsort(axis=1)[:, : _KEPT if task.law.terms is not None else 1 + 2 * _KEPT]
    order = np.concatenate([order, order[:, :1]], axis=1)
    first = np.take_along_axis(middle, order, axis=1)
    first[:, -1] = np.inf
    chosen = np.take_along_axis(starts, order[:, :, None], axis=1)
    if b == 1 and task.target.shape[1] >= _FEW:
        chosen, first = _told_apart(task, curve, chosen[0], first[0])
    return _each(descend, task.target, task.weight[None], chosen, first)


def _told_apart(task: Problem, curve: Curve, starts: Array, first: Array) -> tuple[Array, Array]:
    """Starts (1, s, p) and thresholds (1, s) to go on with after a way down at their first thresholds: one a curve.

    Of the starts (m, p) of many points most lead to one and the same curve, and the rest of the way is gone once.
    """
    on_way = np.inf if task.delta is None else max(float(first.min()), task.delta)
    at, cost = descent(replace(task, delta=on_way), curve, _NEAR)(task.target, task.weight[None], starts, first)
    value = curve.at(at)[0]
    residual = np.abs(task.target - value)
    kept: list[int] = []
    for place in cost.argsort():
        apart = np.sqrt(((value[kept] - value[place]) ** 2).mean(axis=1))
        if (apart > _ALIKE * np.median(residual[place])).all():
            kept.append(int(place))
    return at[None, kept], np.median(residual[kept], axis=1)[None]


def _each(descend: Descend, target: Array, weight: Array, starts: Array, first: Array) -> tuple[Array, Array]:
    """Minima (b, m, p) and costs (b, m) of targets (b, n) from starts (b, m, p), each with weights (m or 1, n)."""
    b, m, p = starts.shape
    weight = weight if len(weight) == 1 else np.tile(weight, (b, 1))
    coordinates, cost = descend(np.repeat(target, m, axis=0), weight, starts.reshape(-1, p), first.reshape(-1))
    return coordinates.reshape(b, m, p), cost.reshape(b, m)


def _by_detours(task: Problem, descend: Descend, away_by: Descend, best: Array, least: Array) -> tuple[Array, Array]:
    """The best of the minima around the best (b, p), until a round of detours leads to no other."""
    rng = np.random.default_rng(0)
    rows = np.arange(len(best))
    for _ in range(_ROUNDS):
        target = task.target[rows]
        starts = np.repeat(best[rows, None], _DETOURS, axis=1)
        first = np.zeros(starts.shape[:2])
        weight = task.weight * rng.exponential(size=(_DETOURS, len(task.weight)))
        away, _ = _each(away_by, target, weight, starts, first)
        coordinates, cost = _each(descend, target, task.weight[None], away, first)
        place = cost.argmin(axis=1)
        found = cost[np.arange(len(rows)), place]
        lower = found < least[rows] * (1 - _BETTER)
        best[rows[lower]], least[rows[lower]] = coordinates[lower, place[lower]], found[lower]
        rows = rows[lower]
        if not len(rows):
            break
    return best, least


def _sampled(task: Problem) -> Solution:
    """The optimum of a sample of the points: where that of all of them is near."""
    sample = np.random.default_rng(0).choice(task.z.shape[2], _SAMPLE, replace=False)
    part = replace(task, z=task.z[:, :, sample], target=task.target[:, sample], weight=task.weight[sample])
    return minimise_huber(part)
