"""Down to a minimum of Huber's loss, or of squares as its limit: a semi-smooth Newton method for b problems at once.

The loss 2 rho(r) is r^2 up to the threshold delta and straight beyond it (Huber 1964). Its gradient has kinks where a
residual passes the threshold; between them it is smooth, so Newton steps with the exact Hessian of law and loss end at
machine precision as soon as the right points are inside (Qi and Sun 1993). A small threshold is reached through larger
ones (Madsen and Nielsen 1990), for a step from far away knows nothing of the kinks on its way. Steps are damped by the
curvature of the reweighted least squares that bounds the loss from above, which is of the right size at any threshold.

Where the points on the curve have to stay there while it moves along a bent valley, a straight step leaves it and is
refused. The same curvature then leads back: a second-order correction (Fletcher 1982) brings those points to where the
step meant them to be.

Here n is points, p coordinates; the first axis b is "which problem", as in ``solver``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from analysis.curves import Curve

if TYPE_CHECKING:
    from analysis.solver import Problem

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Descend = Callable[[Array, Array, Array, Array], tuple[Array, Array]]
"""Target (b or 1, n), weight (b or 1, n), start (b, p) and first threshold (b,) -> coordinates (b, p) and cost (b,)."""

SHRINK = 4.0  # of the threshold from one stage to the next
STAGE = 1e-2  # share of the cost that a step may still gain when a stage ends
SETTLED = 1e-12  # the same for the last stage: the step after would gain rounding errors only
NOTHING = 1e-30  # square of a relative error that is rounding
ROUNDING = 1e-14  # share of the cost that two sums of the same numbers may differ by
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING, RAISE = 0.05, 1e-7, 1e10, 8.0
RIDGE = 1e-13  # of each diagonal entry: parameters that the points do not tell apart stay where they are
ITERATIONS = 300
_CELLS = 60_000  # points of all problems at once: their arrays (b, n) stay in the cache


def descent(task: Problem, curve: Curve, settled: float = SETTLED) -> Descend:
    """``minimise`` with the limits and the loss of a problem."""
    limits, delta = task.law.limits(), np.inf if task.delta is None else task.delta

    def descend(target: Array, weight: Array, start: Array, first: Array) -> tuple[Array, Array]:
        return minimise(curve, target, weight, start, limits, delta, first, settled)

    return descend


def minimise(
    curve: Curve, target: Array, weight: Array, start: Array, limits: tuple[Array, Array], delta: float, first: Array,
    settled: float = SETTLED,
) -> tuple[Array, Array]:  # fmt: skip
    """Descend from each start (b, p), within limits (p,), to a minimum: coordinates (b, p) and cost (b,).

    Target and weight (b or 1, n); delta may be infinite: least squares; ``first`` (b,) are the thresholds to begin
    with. Where a start has no finite cost, the cost stays infinite. A descent ends when a step should gain less than a
    share ``settled`` of the cost.
    """
    b = len(start)
    coordinates, cost = np.clip(start, *limits), np.full(b, np.inf)
    with np.errstate(all="ignore"):
        for rows in np.array_split(np.arange(b), max(1, b * target.shape[1] // _CELLS)):
            goal, heavy = (np.broadcast_to(array, (b, array.shape[1]))[rows] for array in (target, weight))
            descent = _Descent(curve, goal, heavy, coordinates[rows], limits, delta, np.maximum(first[rows], delta),
                               settled)  # fmt: skip
            for _ in range(ITERATIONS):
                done = descent.step()
                if done.any():
                    ended = rows[done]
                    coordinates[ended], cost[ended] = descent.at[done], descent.final_cost()[done]
                    rows = rows[~done]
                    descent.keep(~done)
                    if not len(rows):
                        break
            coordinates[rows], cost[rows] = descent.at, descent.final_cost()
    return coordinates, cost


def loss(residual: Array, weight: Array, threshold: Array) -> Array:
    """The cost (b,): sum of weight x twice Huber's function; threshold (b,), infinite for squares."""
    size = np.abs(residual)
    inner = np.minimum(size, threshold[:, None])
    size *= 2
    size -= inner
    size *= inner
    total = np.einsum("bn,bn->b", size, weight)
    return np.where(np.isfinite(total), total, np.inf)


_OF_EACH = ("target", "weight", "at", "threshold", "damping", "exact", "inside", "residual", "parts", "cost", "nothing")


@dataclass(frozen=True)
class _Way:
    """Where to: the step (b, p), what it should gain (b,), whether the curvature was positive definite (b,), and the
    curvature (b, p, p) in units (b, p) of its diagonal, which are zero for coordinates that are held."""

    move: Array
    gain: Array
    solvable: Mask
    matrix: Array
    unit: Array


class _Descent:
    """The state of problems on their way down, and one step of all."""

    def __init__(
        self, curve: Curve, target: Array, weight: Array, start: Array, limits: tuple[Array, Array],
        delta: float, threshold: Array, settled: float,
    ):  # fmt: skip
        self.curve, self.limits, self.delta, self.settled = curve, limits, delta, settled
        self.target, self.weight, self.at, self.threshold = target, weight, start, threshold
        self.damping = np.full(len(start), FIRST_DAMPING)
        self.exact = np.ones(len(start), dtype=bool)  # steps use the law's second derivatives; else Gauss-Newton
        value, self.parts = curve.at(start)
        self.residual = target - value
        self.cost = loss(self.residual, weight, threshold)
        # Points within the threshold before the last step count as such for one more: else one that has just left
        # takes its curvature along, and the steps swing to and fro.
        self.inside = np.zeros(target.shape, dtype=bool)
        # Costs below this are rounding errors of the targets: the points lie on the curve.
        self.nothing = NOTHING * (weight * (1.0 if curve.log else target**2)).sum(axis=1)

    def step(self) -> Mask:
        """Try one step of each problem; true (b,) where a problem has come to its end."""
        way = self._direction()
        trial = np.clip(self.at + way.move, *self.limits)
        value, parts = self.curve.at(trial)
        residual = self.target - value
        cost = loss(residual, self.weight, self.threshold)
        most = self.cost * (1 + ROUNDING) + self.nothing
        bent = np.flatnonzero(way.solvable & (cost > most) & np.isfinite(cost))
        if len(bent):
            self._lead_back(bent, way, trial, residual, parts, cost)
        better = way.solvable & (cost <= most)
        small = better & (self.damping < FIRST_DAMPING)
        done = small & (way.gain <= np.where(self.exact, 1.0, 1e-3) * self.settled * self.cost + self.nothing)
        near = better & (way.gain <= STAGE * self.cost + self.nothing)
        self._damp((self.cost - cost) / way.gain, better, way.solvable, near)
        inside = np.abs(self.residual) <= self.threshold[:, None]
        if better.all():
            self.inside = inside
            self.at, self.residual, self.parts, self.cost = trial, residual, parts, cost
        else:
            taken = np.flatnonzero(better)
            self.inside[taken] = inside[taken]
            self.at[taken], self.residual[taken] = trial[taken], residual[taken]
            self.parts[taken], self.cost[taken] = parts[taken], cost[taken]
        last = self.threshold <= self.delta
        self._lower(np.flatnonzero(near & ~last))
        ended: Mask = (done & last) | (self.damping > MOST_DAMPING) | ~np.isfinite(self.cost)
        return ended

    def _direction(self) -> _Way:
        size, edge = np.abs(self.residual), self.threshold[:, None]
        inner = np.minimum(size, edge)
        pull = self.weight * np.copysign(inner, self.residual)
        share = np.where(size > 0, inner / size, 1.0)  # of a point's weight in reweighted least squares
        share *= np.where(self.exact, self.damping, 1 + self.damping)[:, None]
        share += ((size <= edge) | self.inside) & self.exact[:, None]
        gradient = self.curve.slopes(self.parts, pull)
        curvature = self.curve.curvature(self.at, self.parts, self.weight * share, -pull * self.exact[:, None])
        low, high = self.limits
        held = ((self.at <= low) & (gradient < 0)) | ((self.at >= high) & (gradient > 0))
        diagonal = np.einsum("bpp->bp", curvature)
        held |= (diagonal <= 0) & ~self.exact[:, None]  # a part of the curve that has vanished moves nothing
        gradient = np.where(held, 0.0, gradient)
        matrix, unit = in_units(curvature, held, RIDGE + 1e-2 * self.damping)
        move, solvable = solve_definite(matrix, gradient * unit)
        solvable &= ((diagonal > 0) | held).all(axis=1)
        return _Way(move * unit, np.einsum("bp,bp->b", move * unit, gradient), solvable, matrix, unit)

    def _lead_back(self, rows: Rows, way: _Way, trial: Array, residual: Array, parts: Array, cost: Array) -> None:
        """Correct the trials of some rows where that makes them better."""
        here, weight = self.residual[rows], self.weight[rows]
        meant = here - self.curve.along(self.parts[rows], way.move[rows])
        inside = (np.abs(here) <= self.threshold[rows, None]) | self.inside[rows]
        excess = np.where(inside, weight * (residual[rows] - meant), 0.0)
        pull = way.unit[rows] * self.curve.slopes(self.parts[rows], excess)
        back = np.linalg.solve(way.matrix[rows], pull[..., None])[..., 0]
        corrected = np.clip(trial[rows] + way.unit[rows] * back, *self.limits)
        value, new_parts = self.curve.at(corrected)
        new_residual = self.target[rows] - value
        new_cost = loss(new_residual, weight, self.threshold[rows])
        better = new_cost < cost[rows]
        taken = rows[better]
        trial[taken], residual[taken], cost[taken] = corrected[better], new_residual[better], new_cost[better]
        parts[taken] = new_parts[better]

    def _damp(self, ratio: Array, better: Mask, solvable: Mask, near: Mask) -> None:
        """Damp less after steps that gained what they should, more after the others.

        Where the exact curvature has a direction that bends down, Gauss-Newton steps lead out of there.
        """
        factor = np.where(ratio > 0.5, 0.1, np.where(ratio > 0.1, 1.0, 3.0))
        damping = np.where(better, self.damping * factor, np.maximum(self.damping * RAISE, 1e-3))
        # Near a minimum a little more damping mends it; far away the law's bend outweighs all else.
        hopeless = ~solvable & self.exact & (self.damping > 1.0)
        damping[hopeless] = FIRST_DAMPING
        self.damping = np.where(damping < LEAST_DAMPING, 0.0, damping)
        self.exact = ~hopeless & (self.exact | near)

    def _lower(self, rows: Rows) -> None:
        """The next stage, with a smaller threshold; from infinity it comes down to the size of the residuals."""
        residual, weight = self.residual[rows], self.weight[rows]
        spread = np.sqrt((weight * residual**2).sum(axis=1) / weight.sum(axis=1))
        self.threshold[rows] = np.maximum(np.minimum(self.threshold[rows], spread) / SHRINK, self.delta)
        self.damping[rows] = np.minimum(self.damping[rows], FIRST_DAMPING)
        self.cost[rows] = loss(residual, weight, self.threshold[rows])

    def final_cost(self) -> Array:
        """The cost at the threshold that was asked for, wherever the way ended."""
        return loss(self.residual, self.weight, np.full(len(self.at), self.delta))

    def keep(self, mask: Mask) -> None:
        for name in _OF_EACH:
            setattr(self, name, getattr(self, name)[mask])


def in_units(matrix: Array, held: Mask, ridge: Array) -> tuple[Array, Array]:
    """Symmetric matrices (b, p, p) in units (b, p) of their diagonals, to which ``ridge`` (b,) is added.

    ``held`` coordinates (b, p), and those without a positive diagonal, have the unit 0.
    """
    diagonal = np.einsum("bpp->bp", matrix)
    unit = np.where(held | (diagonal <= 0), 0.0, 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)))
    matrix = matrix * unit[:, :, None] * unit[:, None, :]
    rank = np.arange(matrix.shape[1])
    matrix[:, rank, rank] = (1 + ridge)[:, None]
    return matrix, unit


def solve_definite(matrix: Array, right: Array) -> tuple[Array, Mask]:
    """Solve symmetric systems (b, p, p) for right sides (b, p); false (b,) where one is not definite.

    NumPy's Cholesky stops at the first matrix that is not definite; then all are solved by elimination.
    """
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return _eliminated(matrix, right)
    return np.asarray(np.linalg.solve(matrix, right[..., None])[..., 0]), np.ones(len(right), dtype=bool)


def _eliminated(matrix: Array, right: Array) -> tuple[Array, Mask]:
    p = right.shape[1]
    fine = np.ones(len(right), dtype=bool)
    # The right side is one more column: rows are eliminated below each pivot, which are the squares of Cholesky's.
    rows = np.empty((p, p + 1, len(right)))
    rows[:, :p] = matrix.transpose(1, 2, 0)
    rows[:, p] = right.T
    for j in range(p):
        pivot = rows[j, j]
        definite = pivot > 0.1 * RIDGE
        fine &= definite
        share = rows[j, j + 1 :] / np.where(definite, pivot, 1.0)
        rows[j + 1 :, j + 1 :] -= rows[j, j + 1 : p, None] * share
        rows[j, j + 1 :] = share
    answer = rows[:, p]
    for j in range(p - 1, 0, -1):
        answer[:j] -= rows[:j, j] * answer[j]
    return answer.T, fine
