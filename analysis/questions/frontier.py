"""The best measure at each budget, by trials and by a fitted surface, and how the budget is best divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.questions import wording
from analysis.questions.allocation import Allocation, Level
from analysis.questions.answers import Answer, Estimate, check_level, plain
from analysis.questions.budgets import budget_of
from analysis.questions.configurations import Configurations, chosen, configurations
from analysis.questions.measures import better_of
from analysis.questions.settings import equal_for
from tokscale.errors import TableError, UsageError

_SIZES = {
    "tokenizer_params": ("encoder_params", "decoder_params"),
    "train_flops": ("tokenizer_params", "train_images"),
}
_LEAST = 7  # configurations: five parameters of the surface, and two degrees of freedom


@dataclass(frozen=True)
class Step:
    """A configuration that is better than every cheaper one, as measured."""

    row: Any
    budget: float
    y: float
    sizes: tuple[float, float]


@dataclass(frozen=True)
class IsoFrontier(Answer):
    """Steps of the trials, levels of the surface, and the exponent with which the first best size grows with budget.

    ``resolved`` if the best division is so at the middle budget.
    """

    y: str
    budget: str
    sizes: tuple[str, str]
    form: str
    n: int
    trials: tuple[Step, ...]
    surface: tuple[Level, ...]
    growth: Estimate | None
    resolved: bool
    reason: str | None
    level: float
    warnings: tuple[str, ...]

    def sentence(self) -> str:
        first, second = (wording.label(size) for size in self.sizes)
        best = self.trials[-1]
        said = (
            f"Of n = {self.n} configurations, {len(self.trials)} are better in {wording.label(self.y)} than all of "
            f"less {wording.label(self.budget)}, the best with {wording.count(best.sizes[0])} {first} and "
            f"{wording.count(best.sizes[1])} {second}"
        )
        if not self.resolved or self.growth is None:
            return f"{said}; how a budget is best divided is not resolved ({self.reason})."
        middle = self.surface[len(self.surface) // 2]
        ends = [wording.count(side) if side is not None else "-" for side in (middle.first.low, middle.first.high)]
        growth = wording.bracket(self.growth.value, self.growth.low, self.growth.high)
        return (
            f"{said}; by the additive law a budget of {wording.count(middle.budget)} is best spent on "
            f"{wording.count(middle.first.value)} [{ends[0]}, {ends[1]}] {first} and {wording.count(middle.second)} "
            f"{second}, and the best {first} grows with exponent {growth} of the budget."
        )


def iso_frontier(
    table: pd.DataFrame, y: str, budget: str = "tokenizer_params", sizes: tuple[str, str] | None = None, *,
    budgets: Sequence[float] | None = None, where: str | None = None, level: float = 0.95, better: str | None = None,
) -> IsoFrontier:  # fmt: skip
    """The frontier of y over a budget (parameters, FLOPs), and the best division of it between two sizes.

    The surface is the additive law y = floor + scale_1 x_1^-exponent_1 + scale_2 x_2^-exponent_2 of errors (Hoffmann
    et al. 2022, approach 3), minimised along each budget; intervals are profile-likelihood ones of the minimum itself.
    The budget must follow from the sizes, as a weighted sum or a product of powers. ``budgets`` are the levels to ask
    at, if not given five within the measured ones. Measures that are better higher have steps only. Raises
    ``TableError`` for a budget that is no function of the sizes.
    """
    check_level(level)
    sizes = sizes or _SIZES.get(budget)
    if sizes is None:
        raise UsageError("which two sizes is this budget spent on?", given=budget, allowed="sizes=(first, second)")
    way = better_of(y, better)
    found = configurations(chosen(table, where, (y, budget, *sizes)), (*sizes, budget), y, relative=way == "lower")
    form = budget_of(found.x[:2], found.x[2], sizes, budget)
    held = [name for name in equal_for(found.table, budget, (y, *sizes))[0]
            if name in equal_for(found.table, sizes[0], (y, budget))[0]]  # fmt: skip
    notes = [f"pooled over {wording.listed(held)}: each should be asked apart"] if held else []
    steps = _steps(found, 1.0 if way == "lower" else -1.0)
    answer = IsoFrontier(y, budget, sizes, form.form, len(found.y), steps, (), None, False, None, level,
                         (*found.warnings, *notes))  # fmt: skip
    if way == "higher" or len(found.y) < _LEAST:
        reason = "the additive law is one of errors" if way == "higher" else f"n = {len(found.y)}, {_LEAST} are needed"
        return replace(answer, reason=reason)
    try:
        division = Allocation.through(found, form, budgets)
    except TableError as error:
        return replace(answer, reason=error.what)
    levels = division.levels(level)
    middle = levels[len(levels) // 2]
    answer = replace(answer, surface=levels, growth=division.growth(level), resolved=middle.resolved)
    return (
        answer if middle.resolved else replace(answer, reason=f"{sizes[0]} has no interval within the sizes measured")
    )


def _steps(found: Configurations, sign: float) -> tuple[Step, ...]:
    """The configurations, by budget, that are better than every one of the same budget or less."""
    order = np.lexsort((found.y * sign, found.x[2]))
    best, steps = np.inf, []
    for place in order:
        if sign * found.y[place] < best:
            best = sign * found.y[place]
            value = np.exp(found.y[place]) if found.relative else found.y[place]
            steps.append(Step(plain(found.table.index[place]), float(found.x[2, place]), float(value),
                              (float(found.x[0, place]), float(found.x[1, place]))))  # fmt: skip
    return tuple(steps)
