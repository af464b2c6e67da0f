"""Akaike's criterion of laws that turn and of one that only flattens, on the same points and the same scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


def asked(laws: Sequence[str], n: int, relative: bool) -> list[str]:
    """Those of ``laws`` that n points can tell; a valley is one of a measure whose ratios matter."""
    return [name for name in laws if name != "valley" or (relative and n >= LEAST["valley"])] or ["quadratic"]


def scores(
    x: Array, y: Array, relative: bool, better: Better, costs: Mapping[str, float]
) -> tuple[dict[str, Score], Score]:
    """Those of laws that turn, fitted with these costs, and that of the law that flattens and does not turn.

    x (1, n); y (n,) is ln of the measure if ``relative``. Residuals are all on the scale of y, so the criteria compare.
    With five points or less AICc does not exist for a parabola, and AIC is taken: a parabola and a power law with a
    floor (or ceiling) have as many parameters. Straight lines are no rivals here: a parabola's interval of its turning
    point is closed only where its curvature is beyond doubt.
    """
    n = len(y)
    corrected = n >= LEAST["quadratic"]
    turning = {name: _score(name, y, cost, corrected) for name, cost in costs.items()}
    flat = "power_floor" if relative else "saturating"
    values = np.exp(y) if relative else -y if better == "lower" else y
    cost = float(solve(problem(law_named(flat), x, values[None])).cost[0])
    return turning, _score(flat, y, cost, corrected)


def _score(law: str, y: Array, cost: float, corrected: bool) -> Score:
    cost = max(cost, 1e-28 * len(y) * (1 + float((y**2).mean())))
    n, k = len(y), len(law_named(law).parameters) + 1
    score = n * math.log(cost / n) + 2 * k
    return Score(law, score + 2 * k * (k + 1) / (n - k - 1) if corrected else score)
