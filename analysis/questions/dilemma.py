"""Larger tokenizers that reconstruct better and generate worse: is it so, and does a setting mend it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.questions import wording
from analysis.questions.answers import Answer, Better, Estimate, Verdict, check_level, verdict
from analysis.questions.configurations import chosen
from analysis.questions.measures import better_of, on_log_scale
from analysis.questions.pairs import pair_up
from analysis.questions.settings import equal_for, same, strata
from analysis.questions.size import SizeEffect, size_effect, slope_of
from analysis.table import numeric_points

Outcome = Literal["cured", "eased", "aggravated", "unresolved", "no dilemma"]


@dataclass(frozen=True)
class Cure(Answer):
    """The effect of size without a setting (``off``) and with it (``on``), and the difference of the two slopes.

    ``difference`` is on less off per doubling, over ``n`` sizes paired by everything else and by seed; in natural
    logarithms of the measure if ``relative``. ``outcome`` is "cured" if larger is worse without the setting, the
    setting turns the slope for the better, and larger is better with it, each resolved; "eased" if the last is not.
    """

    y: str
    size: str
    setting: str
    off: Any
    on: Any
    n: int
    without: SizeEffect
    with_: SizeEffect
    difference: Estimate
    relative: bool
    better: Better
    level: float
    verdict: Verdict
    outcome: Outcome
    along: tuple[str, ...]
    warnings: tuple[str, ...]

    def sentence(self) -> str:
        slopes = [f"{wording.effect(one.per_doubling, self.relative)} {word} {self.setting} {value}"
                  for one, word, value in ((self.without, "at", self.off), (self.with_, "at", self.on))]  # fmt: skip
        change = wording.effect(self.difference, self.relative)
        pairs = wording.plural(self.n, "paired size")
        said = (
            f"Per doubling of {wording.label(self.size)}, {wording.label(self.y)} changes by {slopes[0]} and by "
            f"{slopes[1]}; the difference is {change} ({pairs}, {wording.chance(self.difference.p)})"
        )
        return f"{said}: {_OUTCOMES[self.outcome]}."


_OUTCOMES = {
    "cured": "larger is worse without the setting and better with it",
    "eased": "larger is worse without the setting, and less so with it; that larger is better with it is not resolved",
    "aggravated": "larger is worse without the setting, and more so with it",
    "unresolved": "whether the setting mends it is not resolved",
    "no dilemma": "that larger is worse without the setting is not resolved, so there is nothing to mend",
}


def cure(
    table: pd.DataFrame, y: str, size: str, setting: str, off: Any, on: Any, *, match: Sequence[str] | None = None,
    where: str | None = None, level: float = 0.95, better: str | None = None, relative: bool | None = None,
) -> Cure:  # fmt: skip
    """Whether larger is worse with ``setting`` at ``off``, and whether ``on`` mends it.

    The differences on - off of rows equal in size, every other setting and seed are averaged over seeds and regressed
    on log2 size: what their noise has in common cancels. Slopes and difference have Student's intervals; each needs
    three sizes, as ``analysis.questions.size_effect`` does. ``match`` names the columns that pairs share instead.
    """
    check_level(level)
    way, relative = better_of(y, better), on_log_scale(y, relative)
    rows = chosen(table, where, (size, setting, y))
    sides = []
    pairs = pair_up(rows, y, setting, off, on, match=match, also=(size,), relative=relative)
    for value in (off, on):
        side = size_effect(
            rows[same(rows[setting], value)], y, size, level=level, better=way, relative=relative,
            within=None if match is None else [name for name in match if name != size],
        )  # fmt: skip
        assert isinstance(side, SizeEffect)
        sides.append(side)
    means, configurations = pairs.means()
    sizes = numeric_points(configurations, (), size, positive=(size,)).y
    held = equal_for(configurations, size, (y, setting))[0] if match is None else [m for m in match if m != size]
    slope = slope_of(sizes, np.asarray(means), strata(configurations, held), size, level)
    turned = verdict(slope.estimate, way, level)
    return Cure(
        y, size, setting, off, on, slope.n, sides[0], sides[1], slope.estimate, relative, way, level, turned,
        _outcome(sides[0].verdict, sides[1].verdict, turned), pairs.along, (*pairs.warnings, *slope.notes),
    )  # fmt: skip


def _outcome(without: Verdict, with_: Verdict, turned: Verdict) -> Outcome:
    if without != "worse":
        return "no dilemma"
    if turned == "unresolved":
        return "unresolved"
    if turned == "worse":
        return "aggravated"
    return "cured" if with_ == "better" else "eased"
