"""Whether two measures move together: a correlation with its interval, within groups if there are any."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.questions import wording
from analysis.questions.answers import Answer
from analysis.questions.measures import on_log_scale
from analysis.questions.settings import strata

_LEVEL = 0.95


@dataclass(frozen=True)
class Correlation(Answer):
    """Pearson's r of two measures over ``n`` tokenizers with Fisher's interval, None with one degree of freedom.

    Errors and Fréchet distances enter by their logarithm. ``within`` names what was held equal: each of its values has
    a mean of its own, which costs a degree of freedom. ``note`` says more on what the points are.
    """

    x: str
    y: str
    n: int
    r: float
    low: float | None
    high: float | None
    p: float
    within: tuple[str, ...] = ()
    note: str = ""

    @property
    def resolved(self) -> bool:
        """Whether the test of r = 0 rejects at the level of the interval."""
        return self.p < 1 - _LEVEL

    def sentence(self) -> str:
        interval = "" if self.low is None else f" [{self.low:.2f}, {self.high:.2f}]"
        held = f", at equal {wording.listed(self.within)}" if self.within else ""
        chance = wording.chance(self.p)
        verb = "move together" if self.r > 0 else "move against each other"
        evidence = f"r = {self.r:.2f}{interval} (n = {self.n}{held}, {chance}{self.note and ', ' + self.note})"
        names = f"{wording.label(self.x)} and {wording.label(self.y)}"
        if not self.resolved:
            return f"that {names} {verb} is not resolved: {evidence}."
        return f"{names} {verb}: {evidence}."


def correlation(table: pd.DataFrame, x: str, y: str, within: tuple[str, ...] = (), note: str = "") -> Correlation:
    """The correlation of two columns, rows with both; with ``within``, of their differences from each group's mean."""
    rows = table.dropna(subset=[x, y])
    group = strata(rows, within)
    sides = [_centred(rows[name].to_numpy(dtype=np.float64), name, group) for name in (x, y)]
    r = float(sides[0] @ sides[1] / math.sqrt((sides[0] @ sides[0]) * (sides[1] @ sides[1])))
    return of_r(r, len(rows), x, y, int(group.max()), within, note)


def of_r(
    r: float, n: int, x: str, y: str, groups: int = 0, within: tuple[str, ...] = (), note: str = ""
) -> Correlation:  # fmt: skip
    """What a correlation of n points is worth: Student's p value, and Fisher's interval (1921) where it exists.

    ``groups`` is the number of group means taken out beyond the first.
    """
    freedom = n - 2 - groups
    t = r * math.sqrt(freedom / (1 - r * r))
    low = high = None
    if freedom > 1:
        half = float(special.ndtri(0.5 + _LEVEL / 2)) / math.sqrt(freedom - 1)
        low, high = math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
    return Correlation(x, y, n, r, low, high, 2 * float(special.stdtr(freedom, -abs(t))), within, note)


def _centred(values: npt.NDArray[np.float64], name: str, group: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    scaled = np.log(values) if on_log_scale(name) else values
    means = np.bincount(group, weights=scaled) / np.bincount(group)
    return np.asarray(scaled - means[group], dtype=np.float64)
