"""Laws of two sizes at once: a product of powers with levels for strata, and the additive law with a floor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from analysis import intervals
from analysis.laws import law_named
from analysis.profiles import Quantity
from analysis.questions.answers import Better, Estimate
from analysis.questions.configurations import Configurations
from analysis.questions.regression import Line, within
from analysis.questions.settings import SPAN
from analysis.solver import Problem, Rows, Solution, problem, solve
from tokscale.errors import TableError

Array = npt.NDArray[np.float64]


class Surface(Protocol):
    """A fitted law of two sizes; values are ln y where effects on y are told as shares, else y."""

    @property
    def law(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def strata(self) -> int: ...

    def difference(self, before: Array, after: Array, sign: float, level: float) -> Estimate:
        """sign x (value at sizes ``before`` (2,) - value at sizes ``after`` (2,)), with its interval."""
        ...


@dataclass(frozen=True)
class Product:
    """ln y, or y, is straight in the logarithms of both sizes, with a level in every stratum: exact t intervals."""

    law: str
    n: int
    strata: int
    line: Line

    def difference(self, before: Array, after: Array, sign: float, level: float) -> Estimate:
        return self.line.contrast(sign * (np.log(before) - np.log(after)), level)


@dataclass(frozen=True)
class Additive:
    """y = floor + scale_1 x_1^-exponent_1 + scale_2 x_2^-exponent_2 on ln y: profile-likelihood intervals."""

    law: str
    n: int
    strata: int
    task: Problem
    solution: Solution

    def difference(self, before: Array, after: Array, sign: float, level: float) -> Estimate:
        z = (np.log(np.stack([before, after], axis=1)) - self.task.center)[:, None, :]

        def quantity(coordinates: Array, rows: Rows) -> tuple[Array, Array]:
            value, slope = self.task.model(coordinates, z)
            return sign * (value[:, 0] - value[:, 1]), sign * (slope[:, 0] - slope[:, 1])

        return self.estimate(quantity, level)

    def estimate(self, quantity: Quantity, level: float) -> Estimate:
        """A quantity of the law's coordinates with its interval; None for a limit that the points do not set."""
        value = float(quantity(self.solution.coordinates, np.zeros(1, dtype=np.int64))[0][0])
        limits = intervals.profile_limits(self.task, self.solution, np.zeros(1, dtype=np.int64), quantity, level)
        low, high = (float(side[0]) if np.isfinite(side[0]) else None for side in (limits.low, limits.high))
        return Estimate(value, low, high, None, float(self.task.freedom))


def surfaces(
    found: Configurations, columns: Sequence[str], stratum: npt.NDArray[np.int64], better: Better
) -> tuple[list[Surface], dict[str, float]]:
    """The laws that the configurations can carry, best first, and their Akaike weights in that order.

    The additive law needs a relative measure of which less is better, one stratum, and eight configurations.
    """
    sizes, counts = np.log(found.x), np.bincount(stratum)
    used = counts[stratum] > 1
    for column, span in zip(columns, np.ptp(sizes, axis=1), strict=True):
        if span < np.log(SPAN):
            raise TableError("a size hardly varies", given=f"{column}, by {100 * np.expm1(span):.2g} %")
    line = within(sizes[:, used], found.y[used], stratum[used]) if used.any() else None
    if line is None:
        raise TableError(
            "the sizes of the parts cannot be told apart",
            given=f"{', '.join(columns)} in {len(found.y)} configurations of {len(counts)} strata",
            allowed="sizes that vary apart; fewer columns to hold equal with within",
        )  # fmt: skip
    name = "product" if found.relative else "plane"
    fitted: list[Surface] = [Product(name, int(used.sum()), len(np.unique(stratum[used])), line)]
    if not (found.relative and better == "lower" and len(counts) == 1 and len(found.y) >= 8):
        return fitted, {name: 1.0}
    task = problem(law_named("additive", len(columns)), found.x, np.exp(found.y)[None])
    solution = solve(task)
    fitted.append(Additive("additive", len(found.y), 1, task, solution))
    costs = {name: (line.cost, 4), "additive": (float(solution.cost[0]), len(task.law.parameters) + 1)}
    scores = {law: _aicc(cost, len(found.y), k) for law, (cost, k) in costs.items()}
    least = min(scores.values())
    raw = {law: math.exp(-(score - least) / 2) for law, score in sorted(scores.items(), key=lambda item: item[1])}
    fitted.sort(key=lambda one: scores[one.law])
    return fitted, {law: weight / sum(raw.values()) for law, weight in raw.items()}


def _aicc(cost: float, n: int, k: int) -> float:
    """Akaike's corrected criterion, but for what all laws of one scale share."""
    return n * math.log(max(cost, 1e-28) / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
