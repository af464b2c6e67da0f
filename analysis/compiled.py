"""The descent of ``newton``, one problem after the other, compiled by numba: for the many refits of a bootstrap.

Step for step the method of ``newton.minimise``, for laws that are sums of terms. Compiled code may leave out the points
of no weight (a third of them in a bootstrap) and needs no array of all problems at once. Threads are not used: what
counts is processor time, and whoever wants more runs more processes.

The code is kept as ``tokscale.machine_code`` says. numba notices changes of this file only: who changes
``compiled_sums``, ``vector_math`` or a constant of ``newton`` saves this one too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

import tokscale.machine_code
from analysis import newton
from analysis.compiled_sums import evaluate, loss, normal, way_back, weigh
from analysis.laws import Terms
from analysis.vector_math import MATH, machine_code

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
_F = TypeVar("_F", bound=Callable[..., object])

_SHRINK, _STAGE, _SETTLED, _ROUNDING = newton.SHRINK, newton.STAGE, newton.SETTLED, newton.ROUNDING
_FIRST, _LEAST, _MOST, _RAISE = newton.FIRST_DAMPING, newton.LEAST_DAMPING, newton.MOST_DAMPING, newton.RAISE
_RIDGE, _NOTHING, _ITERATIONS = newton.RIDGE, newton.NOTHING, newton.ITERATIONS


def kept(function: _F) -> _F:
    """Compiled at the first call, with all it calls, with the liberties of ``MATH``, and kept on disk."""
    return tokscale.machine_code.kept(function, MATH)


def descend(
    terms: Terms, log_residuals: bool, limits: tuple[Array, Array], delta: float, target: Array, weight: Array,
    start: Array, first: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """As ``newton.minimise``: coordinates (b, p) and cost (b,); target and weight (b or 1, n), start (b, p)."""
    basis = np.concatenate([terms.linear[None], terms.exponents])  # (1 + t, n, p)
    owner, place = np.nonzero((basis != 0).any(axis=1))
    features = _plain(basis[owner, :, place])  # (f, n): what part ``owner`` takes from coordinate ``place``
    coordinates, cost = _plain(np.clip(start, *limits)), np.empty(len(start))
    low, high = limits
    b = len(start)
    assert len(first) == b, "compiled code checks no places"
    assert {len(target), len(weight)} <= {1, b}, "compiled code checks no places"
    _descend_all(
        features, owner.astype(np.int64), place.astype(np.int64), np.append(1.0, terms.signs), bool(log_residuals),
        _plain(target), _plain(weight), coordinates, _plain(low), _plain(high), float(delta), _plain(first), cost,
    )  # fmt: skip
    return coordinates, cost


def _plain(array: Array) -> Array:
    """A writable copy in C order: numba would compile all anew for any other kind."""
    return np.array(array, dtype=np.float64, order="C")


@kept
def _descend_all(
    features: Array, owner: Places, place: Places, signs: Array, log: bool, target: Array, weight: Array,
    coordinates: Array, low: Array, high: Array, delta: float, first: Array, cost: Array,
) -> None:  # fmt: skip
    """All problems in turn; ``coordinates`` are the starts and become the ends."""
    for b in range(len(coordinates)):
        m, size = 0, 0.0
        goal, heavy = target[b if len(target) > 1 else 0], weight[b if len(weight) > 1 else 0]
        for k in range(len(heavy)):
            m += heavy[k] > 0
        compact, points, weights = np.empty((len(features), m)), np.empty(m), np.empty(m)
        m = 0
        for k in range(len(heavy)):
            if heavy[k] > 0:
                points[m], weights[m] = goal[k], heavy[k]
                for f in range(len(features)):
                    compact[f, m] = features[f, k]
                size += weights[m] * (1.0 if log else points[m] ** 2)
                m += 1
        cost[b] = _descend(
            compact, owner, place, signs, log, points, weights, coordinates[b], low, high, delta,
            max(first[b], delta), _NOTHING * size,
        )  # fmt: skip


@machine_code
def _descend(
    features: Array, owner: Places, place: Places, signs: Array, log: bool, target: Array, weight: Array,
    at: Array, low: Array, high: Array, delta: float, threshold: float, nothing: float,
) -> float:  # fmt: skip
    """One problem, from ``at`` (p,), which is moved; its cost."""
    p, m = len(at), len(target)
    # Two of each, for the place that is held and the one that is tried: ``here`` says which is which.
    parts, residual, here = np.empty((2, len(signs), m)), np.empty((2, m)), 0
    slopes, pull, square, trial = np.empty((p, m)), np.empty(m), np.empty(m), np.empty(p)
    inside, before = np.zeros(m, np.bool_), np.zeros(m, np.bool_)
    move, back, unit, matrix = np.empty(p), np.empty(p), np.empty(p), np.empty((p, p))
    evaluate(at, features, owner, place, signs, log, target, parts[0], residual[0])
    cost = loss(residual[0], weight, threshold)
    damping, exact = _FIRST, True
    for _ in range(_ITERATIONS):
        weigh(residual[here], weight, threshold, damping, exact, before, inside, pull, square)
        normal(features, owner, place, log, parts[here], pull, square, exact, slopes, move, matrix)
        gain = _step(matrix, unit, move, at, low, high, exact, _RIDGE + 1e-2 * damping)
        trial_cost, most = np.inf, cost * (1 + _ROUNDING) + nothing
        if gain >= 0:
            _move(at, move, low, high, trial)
            evaluate(trial, features, owner, place, signs, log, target, parts[1 - here], residual[1 - here])
            trial_cost = loss(residual[1 - here], weight, threshold)
            if most < trial_cost < np.inf:
                way_back(slopes, weight, residual[here], residual[1 - here], inside, move, back)
                _substitute(matrix, unit, back)
                _move(trial, back, low, high, trial)
                evaluate(trial, features, owner, place, signs, log, target, parts[1 - here], residual[1 - here])
                trial_cost = loss(residual[1 - here], weight, threshold)
        if not trial_cost <= most:
            if gain < 0 and exact and damping > 1.0:
                damping, exact = _FIRST, False
            else:
                damping = max(damping * _RAISE, 1e-3)
            if damping > _MOST or not np.isfinite(cost):
                break
            continue
        ratio, small = (cost - trial_cost) / gain, damping < _FIRST
        settled = small and gain <= (_SETTLED if exact else 1e-3 * _SETTLED) * cost + nothing
        near = gain <= _STAGE * cost + nothing
        damping *= 0.1 if ratio > 0.5 else (1.0 if ratio > 0.1 else 3.0)
        damping = 0.0 if damping < _LEAST else damping
        exact, here, cost = exact or near, 1 - here, trial_cost
        for i in range(p):
            at[i] = trial[i]
        for k in range(m):
            before[k] = abs(residual[1 - here, k]) <= threshold
        if threshold <= delta:
            if settled:
                break
        elif near:
            spread = np.sqrt(loss(residual[here], weight, np.inf) / weight.sum())
            threshold = max(min(threshold, spread) / _SHRINK, delta)
            damping = min(damping, _FIRST)
            cost = loss(residual[here], weight, threshold)
    return loss(residual[here], weight, delta)


@machine_code
def _move(start: Array, move: Array, low: Array, high: Array, end: Array) -> None:
    for i in range(len(start)):
        end[i] = min(max(start[i] + move[i], low[i]), high[i])


@machine_code
def _step(
    matrix: Array, unit: Array, move: Array, at: Array, low: Array, high: Array, exact: bool, ridge: float
) -> float:  # fmt: skip
    """Turn the gradient ``move`` into the step, by Cholesky; what it should gain, or -1 where it is not defined.

    ``matrix`` becomes its factor, in units (p,) of its diagonal; a coordinate that is held has the unit 0.
    """
    p = len(move)
    for i in range(p):
        held = (at[i] <= low[i] and move[i] < 0) or (at[i] >= high[i] and move[i] > 0)
        unit[i] = 1 / np.sqrt(matrix[i, i]) if not held and matrix[i, i] > 0 else 0.0
        if exact and not held and not matrix[i, i] > 0:
            return -1.0
    for i in range(p):
        for j in range(i + 1):
            total = matrix[i, j] * unit[i] * unit[j] if i != j else 1 + ridge
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i != j:
                matrix[i, j] = total / matrix[j, j]
            elif total > 0.1 * _RIDGE:
                matrix[i, i] = np.sqrt(total)
            else:
                return -1.0
    gradient = move.copy()
    _substitute(matrix, unit, move)
    gain = 0.0
    for i in range(p):
        gain += move[i] * gradient[i]
    return gain


@machine_code
def _substitute(factor: Array, unit: Array, vector: Array) -> None:
    """Solve for a right side, in place, with the factor that ``_step`` has left."""
    p = len(vector)
    for i in range(p):
        vector[i] *= unit[i]
        for k in range(i):
            vector[i] -= factor[i, k] * vector[k]
        vector[i] /= factor[i, i]
    for i in range(p - 1, -1, -1):
        for k in range(i + 1, p):
            vector[i] -= factor[k, i] * vector[k]
        vector[i] /= factor[i, i]
    for i in range(p):
        vector[i] *= unit[i]
