"""Profile-likelihood limits: how far a quantity can go among all parameters that the points do not rule out.

The parameters that the points allow are those of cost <= least cost + threshold x residual variance. A limit of the
profile-likelihood interval of a quantity h is the largest (or least) h among them (Bates and Watts 1988, ch. 6; Venzon
and Moolgavkar 1988), so it is found by climbing: each step goes to the highest point of the quadratic (Gauss-Newton)
model of that region, damped until the true cost agrees. Every iterate lies inside the region and higher than the one
before, whatever the law bends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.descent import finite
from analysis.solver import Problem, Rows

Array = npt.NDArray[np.float64]
Quantity = Callable[[Array, Rows], tuple[Array, Array]]
"""Coordinates (m, p) of the quantities ``rows`` (m,) -> a number each (m,) and its derivatives (m, p)."""

_ITERATIONS = 250
_GAIN = 1e-5  # a step that gains less of the way made so far counts as an arrival; two of them end the climb
_BELONGS = 1e-10  # of the limit: rounding errors of a cost
_PARTNERS = 8  # other limits of the same points that are tried as starts
_BETTER = 1e-4  # by how much of the way a partner must be higher
_TRIED = 8  # of the law's own starts
_VISIBLE = 0.3  # residual deviations: the size that a part absent from a start is given


@dataclass(frozen=True)
class Climb:
    """m climbs at once: item i raises ``sign`` x quantity i over data set ``which[i]``, from the optimum.

    ``limit`` (m,) is the largest cost allowed, ``reach`` (m,) the way after which a climb counts as endless. Where
    ``new_point`` (m,) is positive, the quantity is a new measurement of the curve: its error is one more coordinate, in
    units of sqrt(new_point), and adds its square to the cost.
    """

    task: Problem
    which: Rows
    quantity: Quantity
    sign: Array
    limit: Array
    reach: Array
    new_point: Array

    def limits(self, best: Array, others: Array) -> Array:
        """The extreme values (m,), infinite where the points set none.

        A climb begins at the data set's optimum, coordinates ``best`` (b, p), and may end on a lower one of several
        tops. So it is tried again from the most promising of ``others`` (b, s, p); and, as all tops of a data set
        belong to the same region, from those of the other items.
        """
        start, rows = best[self.which], np.arange(len(self.which))
        origin = self._seen(start, rows, np.zeros(len(rows))).height
        at, height = self._climb(start, rows, origin)
        for turn in range(3):
            # Computed when it is their turn: what one search finds, the next may use.
            other, promise = self._best_partner(at, height) if turn else self._most_promising(others, at, height)
            with np.errstate(invalid="ignore"):  # an endless climb has no way of its own
                rows = np.flatnonzero(promise > height + _BETTER * (height - origin))
            if len(rows):
                found, top = self._climb(other[rows], rows, origin[rows])
                higher = top > height[rows]
                at[rows[higher]], height[rows[higher]] = found[higher], top[higher]
        return height * self.sign

    def _most_promising(self, others: Array, at: Array, height: Array) -> tuple[Array, Array]:
        """The start of each item from which the quadratic model promises the greatest height, and that height."""
        rows, nothing = np.arange(len(at)), np.zeros(len(at))
        start, promise = at.copy(), height.copy()
        low, high = self.task.law.limits()
        for place in range(others.shape[1]):
            here = self._seen(others[self.which, place], rows, nothing)
            with np.errstate(all="ignore"):
                move, error = here.step(self.limit, nothing, low, high, self.new_point)
                model = here.height + (here.gradient * move).sum(axis=1) + np.sqrt(self.new_point) * error
            higher = np.isfinite(model) & (model > promise)
            start[higher], promise[higher] = here.at[higher], model[higher]
        return start, promise

    def _best_partner(self, at: Array, height: Array) -> tuple[Array, Array]:
        """Of some tops of the same data set the one that is highest for each item, and the item's height there."""
        order = np.argsort(self.which, kind="stable")
        first = np.searchsorted(self.which[order], self.which[order])
        count = np.searchsorted(self.which[order], self.which[order], side="right") - first
        rank = np.arange(len(order)) - first
        # At its top, what its cost leaves of the limit is the error that a new point may have there.
        left = np.sqrt(self.new_point * np.maximum(self.limit - self.task.cost(at, self.which), 0.0))
        start, promise = at.copy(), height.copy()
        for step in range(1, _PARTNERS):
            partner = order[first + (rank + (step * count) // _PARTNERS) % count]
            other = at[partner]
            with np.errstate(all="ignore"):
                there = self.sign[order] * self.quantity(other, order)[0] + left[partner]
            higher = np.isfinite(there) & (there > promise[order])
            start[order[higher]], promise[order[higher]] = other[higher], there[higher]
        return start, promise

    def _climb(self, start: Array, rows: Rows, origin: Array) -> tuple[Array, Array]:
        """Coordinates and heights of the tops of the items ``rows``."""
        now = self._seen(start, rows, np.zeros(len(rows)))
        damping, arrived = np.full(len(rows), 1e-3), np.zeros(len(rows), dtype=int)
        active = np.arange(len(rows))
        low, high = self.task.law.limits()
        with np.errstate(all="ignore"):
            for _ in range(_ITERATIONS):
                here = now.of(active)
                move, error = here.step(
                    self.limit[rows[active]], damping[active], low, high, self.new_point[rows[active]]
                )
                there = self._seen(np.clip(here.at + move, low, high), rows[active], error)
                inside = there.cost <= self.limit[rows[active]] * (1 + _BELONGS)
                taken = inside & (there.height >= here.height)
                gain = there.height - here.height
                now.put(active[taken], there.of(taken))
                damping[active] = np.clip(damping[active] * np.where(taken, 0.25, 5.0), 1e-10, None)
                way = now.height[active] - origin[active]
                arrived[active] = np.where(
                    taken, np.where(gain <= _GAIN * way, arrived[active] + 1, 0), arrived[active]
                )
                endless = way > self.reach[rows[active]]
                now.height[active[endless]] = np.inf
                active = active[~endless & (arrived[active] < 2) & (damping[active] < 1e12)]
                if not len(active):
                    break
        return now.at, now.height

    def _seen(self, at: Array, rows: Rows, error: Array) -> _Place:
        """The cost, the height and their derivatives at coordinates of the items ``rows``."""
        with np.errstate(all="ignore"):
            values, slopes = self.task.model(at)
            height, gradient = self.quantity(at, rows)
            data, sign = self.which[rows], self.sign[rows]
            residual = (self.task.target[data] - values) * np.sqrt(self.task.weight)
            slopes = slopes * np.sqrt(self.task.weight)[:, None]
            cost = (residual**2).sum(axis=1) + self.task.scatter[data] + error**2
            curvature = np.swapaxes(slopes, 1, 2) @ slopes
            pull = (residual[:, None, :] @ slopes)[:, 0]
            height = sign * height + np.sqrt(self.new_point[rows]) * error
        return _Place(
            at, np.where(np.isnan(cost), np.inf, cost), np.where(np.isnan(height), -np.inf, height),
            finite(curvature), finite(pull), finite(sign[:, None] * gradient), error,
            np.tile(self.task.sizes, (len(at), 1)),
        )  # fmt: skip


def starts_within(task: Problem, best: Array, limit: Array) -> Array:
    """The law's own starts (b, s, p) whose cost is within ``limit`` (b,), the optimum (b, p) in place of the others.

    A part that is absent from a start is made just visible: its exponent moves nothing else, and no climb could grow
    it.
    """
    if task.law.starts is None:
        return best[:, None]
    y = np.exp(task.target) if task.law.log_residuals else task.target
    found = np.clip(task.law.starts(task.z, y)[:, :_TRIED], *task.law.limits())
    scales = [task.law.parameters.index(power.scale) for power in task.law.powers]
    allowed = np.sqrt(limit / task.rows)
    for place in range(found.shape[1]):
        at = found[:, place]
        with np.errstate(all="ignore"):
            size = np.sqrt((task.model(at)[1][:, :, scales] ** 2).mean(axis=1))
            lift = np.log(_VISIBLE * allowed[:, None] / size)
        at[:, scales] += np.where(np.isfinite(lift), np.maximum(lift, 0.0), 0.0)
        inside = task.cost(at) <= limit
        found[:, place] = np.where(inside[:, None], at, best)
    return found


@dataclass
class _Place:
    """Where climbs stand: coordinates, cost, height, and the derivatives of both; ``error`` that of a new point.

    ``sizes`` (m, p) is what is large for each coordinate.
    """

    at: Array
    cost: Array
    height: Array
    curvature: Array
    pull: Array
    gradient: Array
    error: Array
    sizes: Array

    def of(self, rows: Rows | npt.NDArray[np.bool_]) -> _Place:
        return _Place(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def put(self, rows: Rows, other: _Place) -> None:
        for name in self.__dataclass_fields__:
            getattr(self, name)[rows] = getattr(other, name)

    def step(self, limit: Array, damping: Array, low: Array, high: Array, new_point: Array) -> tuple[Array, Array]:
        """The move to the highest point of the damped quadratic model within the limit, and the new point's error."""
        free = np.ones_like(self.at, dtype=bool)
        share = np.where(new_point > 0, 1 / (1 + damping), 0.0)
        slope = np.sqrt(new_point)
        for _ in range(3):
            inward, upward = self._solve(free, damping)
            # The model's least cost lies at ``inward``; from there ``upward`` costs its square. What the limit leaves:
            room = limit - self.cost + (self.pull * inward).sum(axis=1) + self.error**2 * share
            price = (self.gradient * upward).sum(axis=1) + slope**2 * share
            length = np.sqrt(np.maximum(room, 0.0) / np.maximum(price, 1e-300))
            move = inward + length[:, None] * upward
            held = free & (((self.at <= low) & (move < 0)) | ((self.at >= high) & (move > 0)))
            if not held.any():
                break
            free &= ~held
        return np.where(free, move, 0.0), self.error + (length * slope - self.error) * share

    def _solve(self, free: npt.NDArray[np.bool_], damping: Array) -> tuple[Array, Array]:
        """(H + damping diag H)^-1 of pull and gradient, over the coordinates that are free, in their own units."""
        diagonal = np.einsum("mpp->mp", self.curvature)
        # Curvatures compare only in one unit: a level has that of y, exponents and logarithms have none.
        least = 1e-14 * (diagonal * self.sizes**2).max(axis=1, keepdims=True) / self.sizes**2 + 1e-300
        unit = np.where(free, 1 / np.sqrt(np.maximum(diagonal, least)), 0.0)
        matrix = self.curvature * unit[:, :, None] * unit[:, None, :]
        rank = np.arange(self.at.shape[1])
        matrix[:, rank, rank] = 1.0 + damping[:, None] + 1e-13
        sides = np.stack([self.pull * unit, self.gradient * unit], axis=-1)
        solved = np.linalg.solve(matrix, sides) * unit[:, :, None]
        return np.asarray(solved[..., 0], dtype=np.float64), np.asarray(solved[..., 1], dtype=np.float64)
