"""Down to a minimum of weighted squares within a box, for b problems at once: from far away, and to the last digit.

``minimise`` takes Gauss-Newton steps, which need no second derivatives and lead well from afar; ``finish`` takes Newton
steps with the exact Hessian, which converge where residuals are large or a valley is bent and almost flat.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Model = Callable[[Array, Rows], tuple[Array, Array]]
"""Coordinates (m, p) of the problems ``rows`` (m,) -> values (m, n) and derivatives (m, n, p)."""

Local = Callable[[Array, Rows], tuple[Array, Array, Array]]
"""Coordinates (m, p) of the problems ``rows`` (m,) -> cost (m,), half its downhill gradient and half its Hessian."""

_MOST_DAMPING = 1e12
_LITTLE_DAMPING = 1e-4
_SETTLED = 1e-13  # share of the cost that a Newton step promises when the minimum is reached
_PATIENCE, _HOPELESS = 4, 20.0
NOTHING = 1e-29  # share of the targets' squares that their rounding errors are
_EXCHANGES = 6  # rounds a coordinate, far more than it takes


def minimise(
    model: Model, target: Array, weight: Array, start: Array, low: Array, high: Array, *,
    tolerance: float = 1e-13, iterations: int = 200, reach: Array | float = np.inf, first_damping: float = 1e-3,
) -> tuple[Array, Array]:  # fmt: skip
    """Levenberg-Marquardt within a box, for b problems at once: coordinates (b, p) and cost (b,).

    Target (b, n), weight (b, n) or (1, n), start (b, p), limits (p,). A coordinate at a limit that the gradient pushes
    against is held there. Steps are scaled by the curvature of each coordinate (Marquardt 1963), so units do not
    matter, and no longer than ``reach`` (p,). A problem is settled, and no longer computed, when a step gains less than
    ``tolerance`` of its cost, or when the points lie on the curve.
    """
    weight = np.broadcast_to(weight, target.shape)
    nothing = NOTHING * squares(target, weight)
    ends, costs, rows = start.copy(), np.empty(len(start)), np.arange(len(start))
    here, damping = start, np.full(len(start), first_damping)  # of the problems that are not settled, as all below
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        values, slopes = model(here, rows)
        residual = target - values
        cost = squares(residual, weight)
        for _ in range(iterations):
            gradient, curvature = _normal_equations(residual, slopes, weight)
            step = _damped_step(gradient, curvature, _box(here, low, high, reach), damping)
            trial, promised = np.clip(here + step, low, high), (step * gradient).sum(axis=1)
            values, trial_slopes = model(trial, rows)
            trial_residual = target - values
            trial_cost = squares(trial_residual, weight)
            better = trial_cost <= cost
            settled = better & (cost - trial_cost <= tolerance * cost)
            settled |= (promised <= tolerance * cost) & (damping <= _LITTLE_DAMPING)
            settled |= cost <= nothing
            if better.all():
                here, residual, slopes, cost = trial, trial_residual, trial_slopes, trial_cost
            else:
                here, cost = np.where(better[:, None], trial, here), np.where(better, trial_cost, cost)
                residual = np.where(better[:, None], trial_residual, residual)
                slopes = np.where(better[:, None, None], trial_slopes, slopes)
            damping = damping * np.where(better, 0.2, 5.0)
            going = ~settled & (damping < _MOST_DAMPING)
            if going.all():
                continue
            ends[rows[~going]], costs[rows[~going]] = here[~going], cost[~going]
            if not going.any():
                return ends, costs
            rows = rows[going]
            here, damping, residual, slopes, cost, target, weight, nothing = (
                part[going] for part in (here, damping, residual, slopes, cost, target, weight, nothing)
            )
    ends[rows], costs[rows] = here, cost
    return ends, costs


def finish(
    local: Local, settle: Callable[[Array, Rows], Array], outer: Rows, rival: Rows, start: Array, low: Array,
    high: Array, nothing: Array, iterations: int = 60,
) -> tuple[Array, Array]:  # fmt: skip
    """Newton's method on the coordinates ``outer`` alone, from starts (b, p): coordinates (b, p) and cost (b,).

    ``settle`` brings the other coordinates of problems ``rows`` to their best for the outer ones (Golub and Pereyra
    1973): the valleys of a level and powers are bent and flat, and straight in what is left. Directions of negative
    curvature are taken with its absolute value, which leads away from saddles (Dauphin et al. 2014). Of starts with the
    same number ``rival`` (b,) those give up that lag behind the best by far more than their next step promises. Costs
    below ``nothing`` (b,) are rounding errors.
    """
    damping, rows, best = np.full(len(start), 1e-6), np.arange(len(start)), np.full(rival.max() + 1, np.inf)
    whole = np.zeros(len(start), dtype=bool)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        coordinates = settle(start, rows)
        cost, gradient, hessian = local(coordinates, rows)
        for round_ in range(iterations):
            trial = coordinates[rows]
            step = _outer_step(trial, gradient[rows], hessian[rows], damping[rows], outer, low, high, whole[rows])
            promised = (step * gradient[rows][:, outer]).sum(axis=1)
            trial[:, outer] = np.clip(trial[:, outer] + step, low[outer], high[outer])
            trial = settle(trial, rows)
            trial_cost, *derivatives = local(trial, rows)
            better = trial_cost <= cost[rows]
            taken = rows[better]
            coordinates[taken], cost[taken] = trial[better], trial_cost[better]
            gradient[taken], hessian[taken] = (part[better] for part in derivatives)
            done = (promised <= _SETTLED * cost[rows]) & (damping[rows] <= _LITTLE_DAMPING)
            done |= cost[rows] <= nothing[rows]
            if round_ >= _PATIENCE:
                np.minimum.at(best, rival, cost)
                done |= better & (cost[rows] - best[rival[rows]] > _HOPELESS * promised)
            damping[rows] = np.maximum(damping[rows] * np.where(better, 0.1, 10.0), 1e-14)
            whole[rows] ^= ~better
            rows = rows[~done & (damping[rows] < _MOST_DAMPING)]
            if not len(rows):
                break
    return coordinates, cost


def _outer_step(
    here: Array, gradient: Array, hessian: Array, damping: Array, outer: Rows, low: Array, high: Array, whole: Mask
) -> Array:
    """The step (b, q) of the outer coordinates: that of their profile, or where ``whole`` the step of all coordinates.

    The profile forgets that the others may come to a limit on the way, the step of all that their valley is bent.
    """
    held = ((here <= low) & (gradient <= 0)) | ((here >= high) & (gradient >= 0))
    box = low - here, high - here
    matrix, unit = _saddle_free(_profiled(hessian, outer, held), damping)
    step = _least_in_box(matrix, gradient[:, outer], unit, (box[0][:, outer], box[1][:, outer]))
    if whole.any():
        matrix, unit = _saddle_free(hessian[whole], damping[whole])
        limits = box[0][whole], box[1][whole]
        step[whole] = _least_in_box(matrix, gradient[whole], unit, limits)[:, outer]
    return step


def _profiled(hessian: Array, outer: Rows, held: Mask) -> Array:
    """The Hessian (b, q, q) in the outer coordinates when the others follow, but for those that limits hold."""
    inner = np.setdiff1d(np.arange(hessian.shape[1]), outer)
    matrix, unit = _in_units(np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)[:, inner[:, None], inner])
    matrix += 1e-13 * np.eye(len(inner)) + (unit == 0)[:, :, None] * np.eye(len(inner))
    across = hessian[:, inner[:, None], outer] * unit[:, :, None]
    return np.asarray(hessian[:, outer[:, None], outer] - np.swapaxes(across, 1, 2) @ np.linalg.solve(matrix, across))


def derivatives(residual: Array, slopes: Array, bends: Array, weight: Array) -> tuple[Array, Array]:
    """Half the downhill gradient (b, p) and half the Hessian (b, p, p) of a sum of weighted squares."""
    gradient, curvature = _normal_equations(residual, slopes, weight)
    return gradient, finite(curvature - np.einsum("bn,bnpq->bpq", weight * residual, bends, optimize=True))


def squares(residual: Array, weight: Array) -> Array:
    """The sum of weighted squares (b,), infinite where it does not exist."""
    cost = (weight * residual**2).sum(axis=1)
    return np.where(np.isfinite(cost), cost, np.inf)


def _normal_equations(residual: Array, slopes: Array, weight: Array) -> tuple[Array, Array]:
    weighted = slopes * weight[..., None]
    gradient = np.einsum("bnp,bn->bp", weighted, residual)
    curvature = np.swapaxes(weighted, 1, 2) @ slopes
    return finite(gradient), finite(curvature)


def finite(numbers: Array) -> Array:
    """The numbers with zero in place of NaN, and the largest float in place of an infinity."""
    return numbers if np.isfinite(numbers).all() else np.nan_to_num(numbers)


def exact_step(residual: Array, slopes: Array, weight: Array, box: tuple[Array, Array]) -> Array:
    """The step (b, p) in a box to the least sum of weighted squares of a model that is linear."""
    return _damped_step(*_normal_equations(residual, slopes, weight), box, np.zeros(len(residual)))


def _damped_step(gradient: Array, curvature: Array, box: tuple[Array, Array], damping: Array) -> Array:
    """The least of the quadratic with Hessian H + damping diag H in a box of steps."""
    matrix, unit = _in_units(curvature)
    rank = np.arange(gradient.shape[1])
    matrix[:, rank, rank] = 1.0 + damping[:, None] + 1e-14
    return _least_in_box(matrix, gradient, unit, box)


def _saddle_free(hessian: Array, damping: Array) -> tuple[Array, Array]:
    """abs(H) + damping, in units of the curvature, and these units."""
    matrix, unit = _in_units(hessian)
    values, vectors = np.linalg.eigh(matrix)
    sizes = np.abs(values) + damping[:, None] + 1e-14
    return (vectors * sizes[:, None, :]) @ np.swapaxes(vectors, 1, 2), unit


def _box(here: Array, low: Array, high: Array, reach: Array | float) -> tuple[Array, Array]:
    """The steps that limits and reach allow from here (b, p): the least and the most."""
    return np.maximum(low - here, -reach), np.minimum(high - here, reach)


def _in_units(curvature: Array) -> tuple[Array, Array]:
    """The matrix with a diagonal of 1 or -1 and the units (b, p): zero where a coordinate moves nothing."""
    diagonal = np.abs(np.einsum("bpp->bp", curvature))
    unit = np.where(diagonal > 0, 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    return curvature * unit[:, :, None] * unit[:, None, :], unit


def _least_in_box(matrix: Array, gradient: Array, unit: Array, box: tuple[Array, Array]) -> Array:
    """The step (b, p) that is best for downhill gradient and curvature within a box.

    A step that is merely cut off at a side would leave the valley that it follows, so the coordinates that end at a
    side are found by exchanging all that are wrong, and in the end one by one (Murty 1974, Kostreva 1978).
    """
    p = gradient.shape[1]
    pull, low, high = gradient * unit, *(np.where(unit > 0, side / np.where(unit > 0, unit, 1.0), 0.0) for side in box)
    if (unit > 0).all():  # mostly no side is met
        step = np.linalg.solve(matrix, pull[..., None])[..., 0]
        if ((step >= low) & (step <= high)).all():
            return np.clip(step * unit, *box)
    side, step, rows = np.where(unit > 0, 0, -1), np.zeros(gradient.shape), np.arange(len(gradient))
    for round_ in range(_EXCHANGES * p):
        at, held = side[rows], side[rows] != 0
        fixed = np.where(held, np.where(at < 0, low[rows], high[rows]), 0.0)
        reduced = np.where(held[:, :, None] | held[:, None, :], 0.0, matrix[rows])
        reduced[:, np.arange(p), np.arange(p)] += held
        right = np.where(held, fixed, pull[rows] - _times(matrix[rows], fixed))
        step[rows] = found = np.linalg.solve(reduced, right[..., None])[..., 0]
        left = at * (pull[rows] - _times(matrix[rows], found))
        wrong = np.where(held, (left < 0) & (unit[rows] > 0), (found < low[rows]) | (found > high[rows]))
        if round_ >= p:
            wrong &= np.cumsum(wrong, axis=1) == 1
        side[rows] = np.where(wrong, np.where(held, 0, np.where(found < low[rows], -1, 1)), at)
        rows = rows[wrong.any(axis=1)]
        if not len(rows):
            break
    return np.clip(step * unit, *box)


def _times(matrix: Array, vector: Array) -> Array:
    return np.asarray((matrix @ vector[..., None])[..., 0])
