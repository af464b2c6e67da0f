"""Many fits of one law on the same points with other weights or other measures: what a bootstrap asks for.

Each refit starts at the optimum of all points, which is near its own. Where the law has other minima that some resample
may prefer, they are found once, on all points; a resample that they could suit is fitted from there as well, and so is
one that another resample's optimum suits better than its own. What that leaves, on the joint law with a threshold of a
twentieth of the noise, against ten more descents from the law's starts and eight detours each (see ``huber``): of 3,600
resamples of 240 points one missed its optimum, by 1e-5 of the cost; of 1,200 of 40 points none, but one in 60 (by up to
12 % of the cost) where 8 % of the points are gross outliers.

The descents are compiled (``compiled``, with numba) when the work is worth loading or compiling the machine code for,
and batched NumPy (``newton``) otherwise; both take the same steps. Chosen by measurement against torch, in
``benchmarks/fitting.py``: on arrays as small as these torch, eager or compiled, pays more for its calls than for the
arithmetic, while numba has no calls left.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from types import ModuleType

import numpy as np
import numpy.typing as npt

from analysis import newton
from analysis.curves import Curve, curve_of
from analysis.huber import minimise_huber, optima
from analysis.newton import Descend
from analysis.solver import Problem, Solution, huber_loss, solve

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_WORTH = 1_000_000  # points of all refits: NumPy's time for them is about that of loading the compiled code
_FIRST = 0.3  # threshold to begin with, of the middle size of residuals: lower ones see too few points of their way
_OTHER = 1e-6  # share of the cost by which minima differ
_MOST_OTHERS = 4
_OFFERED, _EXCHANGES = 64, 4
_FEW = 100  # points


def refit(
    task: Problem, counts: Array, start: Array | None = None, *, use_compiled: bool | None = None
) -> Solution:  # fmt: skip
    """The optima (b, p) and costs (b,) of a problem under b weightings of its points, squares or Huber's loss.

    ``counts`` (b or 1, n) multiply the weights of the points: how often each was drawn. The task has one data set, or b
    of them, measured at the same points. ``start`` (p,) is the optimum of all points, which is found if it is not
    given; (s, p) are several minima to start from. Scatter within gathered points is added as it is. ``use_compiled``
    says which code is used; by default what takes less time. The answers agree to rounding errors.
    """
    counts = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    b = max(len(counts), len(task.target))
    weight = np.broadcast_to(counts * task.weight, (b, counts.shape[1]))
    curve = curve_of(task)
    descend = _descent(task, curve, weight.size >= _WORTH if use_compiled is None else use_compiled)
    starts = _minima(task, curve, descend, start)
    delta = np.inf if task.delta is None else task.delta
    residual = task.target - task.model(starts[:1])[0]
    first = np.full(b, max(delta, _FIRST * float(np.median(np.abs(residual)))) if np.isfinite(delta) else np.inf)
    coordinates, cost = descend(task.target, weight, np.tile(starts[0], (b, 1)), first)
    found = Solution(coordinates, cost)
    for other in starts[1:]:
        _retry(task, descend, weight, found, np.tile(other, (b, 1)), _hopeful(task, weight, cost, starts[0], other))
    if not task.law.linear:
        _compare_notes(task, descend, weight, found)
    return Solution(coordinates, cost + task.scatter)


def _minima(task: Problem, curve: Curve, descend: Descend, start: Array | None) -> Array:
    """Where refits start: the optimum (first) and the other minima of the law on all points, (s, p)."""
    if start is not None and start.ndim == 2:
        return start
    if task.law.linear or len(task.target) > 1:  # one minimum; or data sets that have no points in common
        if start is None:
            middle = task.target.mean(axis=0, keepdims=True)
            start = _optimum(replace(task, target=middle, scatter=np.zeros(1)))
        return start[None]
    best = _optimum(task) if start is None else start
    coordinates, cost = optima(task, curve, descend, task.starts())
    order = cost[0].argsort()
    least = float(task.cost(best[None])[0] - task.scatter[0])
    kept, costs = [best], [least]
    for place in order:
        # A minimum that is twice as high is none that a resample of the points prefers.
        if all(abs(cost[0, place] - known) > _OTHER * least for known in costs) and cost[0, place] < 2 * least:
            kept.append(coordinates[0, place])
            costs.append(cost[0, place])
    return np.stack(kept[: 1 + _MOST_OTHERS])


def _optimum(task: Problem) -> Array:
    best: Array = (solve(task) if task.delta is None else minimise_huber(task)).coordinates[0]
    return best


def _retry(task: Problem, descend: Descend, weight: Array, found: Solution, starts: Array, rows: Rows) -> None:
    """Descend again in some rows, from other starts (b, p); what ends lower replaces what was found."""
    if not len(rows):
        return
    target = task.target[rows] if len(task.target) > 1 else task.target
    coordinates, cost = descend(target, weight[rows], starts[rows], np.zeros(len(rows)))
    better = cost < found.cost[rows]
    found.coordinates[rows[better]], found.cost[rows[better]] = coordinates[better], cost[better]


def _hopeful(task: Problem, weight: Array, cost: Array, start: Array, other: Array) -> Rows:
    """The refits that another minimum of all points may suit better than what they found.

    What a refit can gain from there is taken to be no more than twice what it gained from the first one.
    """
    before, there = _prices(task, weight, np.stack([start, other])).T
    return np.flatnonzero(there - 2 * (before - cost) < cost)


def _compare_notes(task: Problem, descend: Descend, weight: Array, found: Solution) -> None:
    """Offer each refit the law's own starts and the optima of other refits, and descend again where one is better.

    A refit that another's optimum suits better than its own has not found the global one: a proof that costs one
    product of matrices. Few points have minima in odd corners, so with few every refit tries the best offer once.
    """
    few = weight.shape[1] < _FEW and len(task.target) == 1
    if few:
        _retry(task, descend, weight, found, _best_offer(task, weight, found.cost, task.starts()[0])[0], _all(weight))
    for attempt in range(_EXCHANGES):
        some = np.linspace(0, len(weight) - 1, min(len(weight), _OFFERED)).astype(np.int64)
        offered, price = _best_offer(task, weight, found.cost, found.coordinates[some])
        rows = np.flatnonzero(price < found.cost * (1 - _OTHER))
        if few and attempt == 0:
            rows = _all(weight)
        if not len(rows):
            break
        _retry(task, descend, weight, found, offered, rows)


def _all(weight: Array) -> Rows:
    return np.arange(len(weight))


def _best_offer(task: Problem, weight: Array, own: Array, offers: Array) -> tuple[Array, Array]:
    """Of coordinates (m, p) those that cost each refit least (b, p), its own (b,) left out, and their cost (b,)."""
    prices = np.nan_to_num(_prices(task, weight, offers), nan=np.inf)
    prices[np.abs(prices - own[:, None]) <= 2 * _OTHER * own[:, None]] = np.inf
    place = prices.argmin(axis=1)
    return offers[place], prices[np.arange(len(place)), place]


def _prices(task: Problem, weight: Array, offers: Array) -> Array:
    """The cost (b, m) of each refit at m coordinates (m, p)."""
    value = task.model(offers)[0]
    with np.errstate(all="ignore"):
        if len(task.target) == 1:
            return np.asarray(weight @ _losses(task, value).T)
        return np.stack([(weight * _losses(task, one)).sum(axis=1) for one in value], axis=1)


def _losses(task: Problem, value: Array) -> Array:
    residual = task.target - value
    return residual**2 if task.delta is None else huber_loss(residual, task.delta)


def _descent(task: Problem, curve: Curve, fast: bool) -> Descend:
    """The descent for a law: compiled if it is worth that and can be, else NumPy's."""
    module = _compiled() if fast and task.law.terms is not None else None
    if module is None or task.law.terms is None:
        return newton.descent(task, curve)
    log, limits, delta = task.law.log_residuals, task.law.limits(), np.inf if task.delta is None else task.delta
    descend: Descend = functools.partial(module.descend, task.law.terms(task.z[:, 0]), log, limits, delta)
    return descend


@functools.cache
def _compiled() -> ModuleType | None:
    """The compiled descent, if numba is installed; importing it takes half a second."""
    try:
        from analysis import compiled
    except ImportError:
        return None
    return compiled
