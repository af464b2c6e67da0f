"""Akaike's criterion of laws that turn and of one that only flattens, on the same points and the same scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.laws import law_named
from analysis.questions.answers import Better
from analysis.solver import problem, solve

Array = npt.NDArray[np.float64]
LEAST = {"quadratic": 6, "valley": 8}  # the least n at which AICc exists


@dataclass(frozen=True)
class Score:
    """A law and its criterion, less is better, without the constants that all laws of one scale share."""

    law: str
    score: float


def scores(x: Array, y: Array, relative: bool, better: Better, laws: Sequence[str]) -> tuple[dict[str, Score], Score]:
    """Those of ``laws`` that these points can tell, and that of the law that flattens and does not turn.

    x (1, n); y (n,) is ln of the measure if ``relative``. Residuals are all on the scale of y, so the criteria compare.
    With five points or less AICc does not exist for a parabola, and AIC is taken: a parabola and a power law with a
    floor (or ceiling) have as many parameters. Straight lines are no rivals here: a parabola's interval of its turning
    point is closed only where its curvature is beyond doubt.
    """
    n = len(y)
    corrected = n >= LEAST["quadratic"]
    names = [name for name in laws if name != "valley" or (relative and n >= LEAST["valley"])] or ["quadratic"]
    turning = {name: _score(name, x, y, relative, corrected) for name in names}
    if relative:
        return turning, _score("power_floor", x, y, True, corrected)
    return turning, _score("saturating", x, -y if better == "lower" else y, False, corrected)


def _score(law: str, x: Array, y: Array, relative: bool, corrected: bool) -> Score:
    form = law_named(law)
    values = np.exp(y) if form.log_residuals else y
    task = problem(form, x, values[None])
    least = 1e-28 * len(y) * (1 + float((y**2).mean()))
    cost = max(float(solve(task).cost[0]), least)
    n, k = len(y), len(form.parameters) + 1
    score = n * math.log(cost / n) + 2 * k
    return Score(law, score + 2 * k * (k + 1) / (n - k - 1) if corrected else score)
