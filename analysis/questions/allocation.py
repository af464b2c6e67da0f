"""The best division of a budget between two sizes by the additive law, with profile-likelihood intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis import intervals
from analysis.laws import law_named
from analysis.profiles import Quantity
from analysis.questions.answers import Estimate
from analysis.questions.budgets import Budget
from analysis.questions.configurations import Configurations
from analysis.solver import Problem, Rows, Solution, problem, solve
from tokscale.errors import TableError

Array = npt.NDArray[np.float64]
_LEVELS = 5
_FLAT = 1e-9  # an exponent of zero gains nothing; its logarithm must stay finite


@dataclass(frozen=True)
class Level:
    """The surface's best at one budget: y (in logarithms) and the first size with intervals, and the second size.

    A limit is None where the points set none. ``resolved`` if the first size's interval is closed and lies among the
    sizes that were measured and that the budget allows.
    """

    budget: float
    y: Estimate
    first: Estimate
    second: float
    resolved: bool


@dataclass(frozen=True)
class Allocation:
    """The additive law of two sizes, and budgets (m,) to divide; ``box`` (2, 2) are the logs of the sizes measured."""

    task: Problem
    solution: Solution
    form: Budget
    budgets: Array
    box: Array

    @classmethod
    def through(cls, found: Configurations, form: Budget, budgets: Sequence[float] | None) -> Allocation:
        """The law fitted to configurations; ``TableError`` where their sizes do not tell its parameters apart."""
        law = law_named("additive", 2)
        sizes = found.x[:2]
        if any(len(np.unique(one)) < 3 for one in sizes):
            raise TableError("three sizes of each part are needed", given=str([len(np.unique(one)) for one in sizes]))
        task = problem(law, sizes, np.exp(found.y)[None])
        ends = np.log([found.x[2].min(), found.x[2].max()])
        levels = np.exp(np.linspace(0.8 * ends[0] + 0.2 * ends[1], 0.2 * ends[0] + 0.8 * ends[1], _LEVELS))
        asked = levels if budgets is None else np.asarray(budgets, dtype=np.float64)
        box = np.log(np.stack([sizes.min(axis=1), sizes.max(axis=1)]))
        return cls(task, solve(task), form, asked, box)

    def levels(self, level: float) -> tuple[Level, ...]:
        """The best at every budget."""
        m = len(self.budgets)
        which = np.zeros(m, dtype=np.int64)
        sizes, values = ([Estimate(*row, None, self.task.freedom) for row in self._limits(quantity, which, level)]
                         for quantity in (self._first, self._least))  # fmt: skip
        low, high = self.form.first_ends(self.box[0], self.box[1], self.budgets)
        second = self.form.second(np.array([one.value for one in sizes]), self.budgets)
        answers = []
        for i, (size, value) in enumerate(zip(sizes, values, strict=True)):
            inside = size.low is not None and size.high is not None and low[i] < size.low and size.high < high[i]
            answers.append(Level(float(self.budgets[i]), value, _exp(size), float(np.exp(second[i])), bool(inside)))
        return tuple(answers)

    def growth(self, level: float) -> Estimate:
        """The exponent with which the first best size grows from the smallest of the budgets to the largest."""
        ends = np.array([self.budgets.argmin(), self.budgets.argmax()])
        span = float(np.log(self.budgets[ends[1]] / self.budgets[ends[0]]))

        def quantity(coordinates: Array, rows: Rows) -> tuple[Array, Array]:
            low, high = (self._first(coordinates, np.full(len(coordinates), end)) for end in ends)
            return (high[0] - low[0]) / span, (high[1] - low[1]) / span

        row = self._limits(quantity, np.zeros(1, dtype=np.int64), level)[0]
        return Estimate(*row, None, self.task.freedom)

    def _limits(self, quantity: Quantity, which: Rows, level: float) -> list[tuple[float, float | None, float | None]]:
        best = np.repeat(self.solution.coordinates, len(which), axis=0)
        values = quantity(best, np.arange(len(which)))[0]
        limits = intervals.profile_limits(self.task, self.solution, which, quantity, level)
        sides = [[float(one) if np.isfinite(one) else None for one in side] for side in (limits.low, limits.high)]
        return [(float(value), low, high) for value, low, high in zip(values, *sides, strict=True)]

    def _first(self, coordinates: Array, rows: Rows) -> tuple[Array, Array]:
        """ln of the best first size (m,) at the budgets ``rows``, with derivatives (m, p) by the implicit function."""
        budget, center = self.budgets[rows], self.task.center[:, 0]
        scale, exponent = coordinates[:, [1, 3]].T, np.maximum(coordinates[:, [2, 4]].T, _FLAT)
        first = self.form.best(scale + np.log(exponent) + exponent * center[:, None], exponent, budget)
        second = self.form.second(first, budget)
        a, b = self.form.weights
        fall = -a / b * (np.exp(first - second) if self.form.form == "sum" else np.ones_like(first))
        bend = -exponent[0] + exponent[1] * fall - ((1 - fall) if self.form.form == "sum" else 0.0)
        parts = [np.zeros_like(first), np.ones_like(first), 1 / exponent[0] + center[0] - first,
                 -np.ones_like(first), -(1 / exponent[1] + center[1] - second)]  # fmt: skip
        return first, np.stack(parts, axis=1) / -bend[:, None]

    def _least(self, coordinates: Array, rows: Rows) -> tuple[Array, Array]:
        """ln y (m,) at the best division; its derivatives are those of the curve there, by the envelope theorem."""
        first = self._first(coordinates, rows)[0]
        z = np.stack([first, self.form.second(first, self.budgets[rows])]) - self.task.center
        value, slope = self.task.model(coordinates, z[:, :, None])
        return value[:, 0], slope[:, 0]


def _exp(one: Estimate) -> Estimate:
    low, high = (None if side is None else float(np.exp(side)) for side in (one.low, one.high))
    return Estimate(float(np.exp(one.value)), low, high, None, one.freedom)
