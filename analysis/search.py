"""The best minimum of a nonlinear law on squares: from its starts, through steps from afar, to the last digit.

Most coordinates of a law are linear given a few others: level and scales given the exponents, slopes given the breaks.
They are settled, exactly and within their bounds, wherever the others go (variable projection, Golub and Pereyra 1973),
which leaves one to four coordinates to search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from analysis.descent import NOTHING, Rows, exact_step, finish, minimise, squares

if TYPE_CHECKING:
    from analysis.solver import Problem

Array = npt.NDArray[np.float64]

_FINISHED = 6  # minima that Newton's method follows to their end; twice as many of several breaks
_FAR = 25  # Gauss-Newton steps from each start
_NEARLY = 4  # steps after which candidates are settled well enough to be compared
_REACH = 3.0  # longest step of a logarithm: a part that vanishes does so at leisure
_ABSENT = 1e-250  # a scale as good as zero, which still has a logarithm
_SAME = 1e-7  # share of the cost by which two minima differ at least
_BETTER = 1e-10  # share of the cost by which a minimum replaces another one
_FLAT = 1e-9  # share of the cost by which a valley is lower than its sides
_EXACT = 1e-20  # share of the targets' squares below which the points lie on the curve
_ROUNDS, _DETOURS = 6, 12
_MANY = 3  # coordinates that are not separable: a grid of starts is then coarse


def best_minimum(task: Problem) -> tuple[Array, Array]:
    """Coordinates (b, p) of the least sum of weighted squares that the search reaches, and that sum (b,)."""
    law, starts, rng = task.law, task.starts(), np.random.default_rng(0)
    b, s, p = starts.shape
    everyone = np.arange(b)
    starts = settle(task, starts.reshape(-1, p), np.repeat(everyone, s), _NEARLY).reshape(b, s, p)
    ends = _from_afar(task, *_best(task, starts, -(-s // 2), everyone))
    several_breaks = law.terms is None and len(law.parameters) - len(law.separable) >= _MANY
    found, cost = _finished(task, ends.reshape(b, -1, p), _FINISHED * (1 + several_breaks), everyone)
    if law.moves is not None:
        _improve(task, found, cost, lambda rows: _by_moves(task, found[rows], rows))
    if several_breaks:
        _improve(task, found, cost, lambda rows: _by_detours(task, found[rows], rows, rng))
    return found, cost


def settle(task: Problem, coordinates: Array, which: Rows, iterations: int = 30) -> Array:
    """Coordinates (m, p) with those of ``law.separable`` at their best for data sets ``which`` (m,)."""
    law = task.law
    settled: Array = coordinates.copy()
    if not law.separable:
        return settled
    inner = np.array([law.parameters.index(name) for name in law.separable])
    # What enters a sum of terms linearly is the scale itself, not its logarithm.
    logs = np.array([name in law.positive for name in law.separable])
    low, high = (limits[inner] for limits in law.limits())
    if law.terms is None:
        return _settled_lines(task, settled, which, inner, low, high)
    low = np.where(logs, _ABSENT, low)

    def placed(linear: Array, rows: Rows) -> Array:
        full = coordinates[rows]
        full[:, inner] = np.where(logs, np.log(np.where(logs, linear, 1.0)), linear)
        return full

    def model(linear: Array, rows: Rows) -> tuple[Array, Array]:
        value, slope = task.model(placed(linear, rows))
        return value, slope[..., inner] / np.where(logs, linear, 1.0)[:, None, :]

    start = coordinates[:, inner]
    start = np.clip(np.where(logs, np.exp(np.where(logs, start, 0.0)), start), low, high)
    linear, _ = minimise(model, task.target[which], task.weight, start, low, high, tolerance=1e-14,
                         iterations=iterations, first_damping=1e-9)  # fmt: skip
    settled[:, inner] = placed(linear, np.arange(len(linear)))[:, inner]
    return settled


def _settled_lines(task: Problem, coordinates: Array, which: Rows, inner: Rows, low: Array, high: Array) -> Array:
    """The same where ln y is linear in what is settled: one exact step, and one for its rounding errors."""
    for _ in range(2):
        value, slope = task.model(coordinates)
        at = coordinates[:, inner]
        step = exact_step(task.target[which] - value, slope[..., inner], task.weight, (low - at, high - at))
        coordinates[:, inner] = np.clip(at + step, low, high)
    return coordinates


def _improve(task: Problem, best: Array, least: Array, elsewhere: Callable[[Rows], tuple[Array, Rows]]) -> None:
    """Replace minima (b, p) and their costs (b,) by better ones, while there are any near candidates ``elsewhere``.

    ``elsewhere`` gives candidates (m, s, p) for those of the data sets that have any, and which these are (m,).
    """
    rows = np.flatnonzero(least > _EXACT * squares(task.target, task.weight))
    for _ in range(_ROUNDS):
        if len(rows):
            candidates, rows = elsewhere(rows)
        if not len(rows):
            break
        found, cost = _finished(task, candidates, 2, rows)
        better = cost < least[rows] * (1 - _BETTER)
        rows = rows[better]
        best[rows], least[rows] = found[better], cost[better]


def _by_moves(task: Problem, best: Array, rows: Rows) -> tuple[Array, Rows]:
    """Other valleys on the lines along which one part of the curve moves from minima (m, p): candidates (m, s, p).

    The others are nearly settled on the way, so that most lines show that there is no other valley.
    """
    assert task.law.moves is not None
    moved = np.clip(task.law.moves(task.z, best), *task.law.limits())  # (m, k, s, p)
    which = np.repeat(rows, moved[0, ..., 0].size)
    moved = settle(task, moved.reshape(len(which), -1), which, _NEARLY).reshape(moved.shape)
    cost = task.cost(moved.reshape(len(which), -1), which).reshape(moved.shape[:3])
    beside = np.pad(cost, ((0, 0), (0, 0), (1, 1)), constant_values=np.inf)
    beside = np.minimum(beside[..., :-2], beside[..., 2:])
    here = task.cost(best, rows)[:, None, None]
    other = (cost < beside * (1 - _FLAT)) & (np.abs(cost - here) > _FLAT * here)
    some = other.any(axis=(1, 2))
    order = np.where(other, cost, np.inf)[some].reshape(int(some.sum()), other[0].size).argsort(axis=1)[:, :2]
    moved = moved[some].reshape(len(order), other[0].size, best.shape[1])
    return np.take_along_axis(moved, order[..., None], axis=1), rows[some]


def _by_detours(task: Problem, best: Array, rows: Rows, rng: np.random.Generator) -> tuple[Array, Rows]:
    """Where optima of the same points under other weights lead from minima (m, p): (m, s, p).

    Several breaks have a minimum near many groups of points; under random weights another of them is the best.
    """
    which = np.repeat(rows, _DETOURS)
    weight = task.weight * rng.exponential(size=(len(which), task.z.shape[2]))
    away = _from_afar(task, np.repeat(best, _DETOURS, axis=0), which, weight)
    return _from_afar(task, away, which).reshape(len(rows), _DETOURS, best.shape[1]), rows


def _from_afar(task: Problem, starts: Array, which: Rows, weight: Array | None = None) -> Array:
    """Where Gauss-Newton steps lead from starts (m, p) of data sets ``which`` (m,)."""
    reach = np.array([_REACH if name in task.law.positive else np.inf for name in task.law.parameters])
    return minimise(lambda at, _: task.model(at), task.target[which], task.weight if weight is None else weight,
                    starts, *task.law.limits(), iterations=_FAR, reach=reach)[0]  # fmt: skip


def _finished(task: Problem, candidates: Array, count: int, rows: Rows) -> tuple[Array, Array]:
    """Best minimum (b, p) and cost (b,) of data sets ``rows`` (b,) near the best ``count`` of candidates (b, s, p)."""
    ends, which = _best(task, candidates, count, rows)
    outer = np.array([i for i, name in enumerate(task.law.parameters) if name not in task.law.separable])
    coordinates, cost = finish(
        lambda at, rows: task.local(at, which[rows]), lambda at, rows: settle(task, at, which[rows]),
        outer, which, ends, *task.law.limits(), NOTHING * squares(task.target, task.weight)[which],
    )  # fmt: skip
    coordinates, cost = coordinates.reshape(len(rows), -1, ends.shape[1]), cost.reshape(len(rows), -1)
    place, b = cost.argmin(axis=1), np.arange(len(rows))
    return coordinates[b, place], cost[b, place]


def _best(task: Problem, candidates: Array, count: int, rows: Rows) -> tuple[Array, Rows]:
    """Of candidates (b, s, p) of data sets ``rows`` (b,) those of least cost (m, p), and whose they are (m,)."""
    b, s, p = candidates.shape
    cost = task.cost(candidates.reshape(-1, p), np.repeat(rows, s)).reshape(b, s)
    best = _distinct_first(np.where(np.isfinite(cost), cost, np.inf))[:, :count]
    kept = np.take_along_axis(candidates, best[:, :, None], axis=1)
    return kept.reshape(-1, p), np.repeat(rows, best.shape[1])


def _distinct_first(cost: Array) -> Rows:
    """The order (b, s) of rising cost, in which costs that were there before come last."""
    order = cost.argsort(axis=1)
    ranked = np.take_along_axis(cost, order, axis=1)
    repeated = np.zeros(cost.shape, dtype=bool)
    with np.errstate(invalid="ignore"):  # costs that do not exist are not told apart
        repeated[:, 1:] = ranked[:, 1:] - ranked[:, :-1] <= _SAME * ranked[:, :-1]
    return np.take_along_axis(order, np.argsort(repeated, axis=1, kind="stable"), axis=1)
