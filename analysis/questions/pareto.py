"""Which configurations are on the front of two measures, and how certain that is under the noise of runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.questions import wording
from analysis.questions.answers import Answer, Better, check_level
from analysis.questions.configurations import chosen
from analysis.questions.measures import better_of, on_log_scale
from analysis.questions.noise import Measured, measured, noise_about
from analysis.questions.settings import settings
from analysis.table import numeric_points

Array = npt.NDArray[np.float64]
_DRAWS = 4000
_NAMED = 6  # configurations on a front that a sentence names
_CELLS = 4_000_000  # draws x configurations at once


@dataclass(frozen=True)
class Member:
    """A configuration: means of both measures over its seeds, whether these are on the front, and the probability.

    ``row`` is the place of its first row in the table; ``probability`` is None where no noise is known.
    """

    row: Any
    name: str
    x: float
    y: float
    seeds: int
    on_front: bool
    probability: float | None


@dataclass(frozen=True)
class ParetoFront(Answer):
    """All configurations, those on the measured front first and in order along it; and where the noise is known from.

    ``certain`` are on the true front with probability ``level`` or more; ``possible`` are not certain but cannot be
    excluded at that level.
    """

    x: str
    y: str
    members: tuple[Member, ...]
    level: float
    better: tuple[Better, Better]
    noise: str | None
    freedom: int
    warnings: tuple[str, ...]

    @property
    def front(self) -> tuple[Member, ...]:
        """The configurations on the front as measured."""
        return tuple(one for one in self.members if one.on_front)

    @property
    def certain(self) -> tuple[Member, ...]:
        """Those on the front with probability ``level`` or more."""
        return tuple(one for one in self.members if one.probability is not None and one.probability >= self.level)

    @property
    def resolved(self) -> bool:
        """Whether any configuration is on the front for certain."""
        return bool(self.certain)

    @property
    def possible(self) -> tuple[Member, ...]:
        """Those that are not certain, but cannot be excluded."""
        return tuple(one for one in self.members
                     if one.probability is not None and 1 - self.level < one.probability < self.level)  # fmt: skip

    def sentence(self) -> str:
        named = f" ({wording.listed(one.name for one in self.front)})" if len(self.front) <= _NAMED else ""
        be = "is" if len(self.front) == 1 else "are"
        said = (
            f"{len(self.front)} of {wording.plural(len(self.members), 'configuration')} {be} on the front of "
            f"{wording.label(self.x)} and {wording.label(self.y)} as measured{named}"
        )
        if self.noise is None:
            return f"{said}; without repeated seeds how certain that is is unknown."
        share = f"{100 * self.level:g} %"
        known = f"noise of runs from {self.noise}, {self.freedom} degrees of freedom"
        sure = {0: "none is", 1: "one is"}.get(len(self.certain), f"{len(self.certain)} are")
        others = {0: "no other", 1: "one more"}.get(len(self.possible), f"{len(self.possible)} others")
        return f"{said}; {sure} on it with probability {share} or more, and {others} may be ({known})."


def pareto_front(
    table: pd.DataFrame, x: str, y: str, level: float = 0.95, *, size: str | None = "bottleneck_floats",
    where: str | None = None, better: tuple[str | None, str | None] = (None, None), seed: int = 0,
) -> ParetoFront:  # fmt: skip
    """The front of two measures, with the probability of each configuration to be on the front of the true means.

    Seeds of a configuration are averaged, and their pooled covariance is the noise of a run. The probability is the
    share of 4000 draws of all means, given those measured, in which no other configuration is at least as good in both
    and better in one. Without repeated seeds the residuals of parabolas in log ``size`` take their place; without
    those no probability is given. Sizes and budgets may be measures too: less of them is better, and without noise.
    """
    check_level(level)
    ways = (better_of(x, better[0]), better_of(y, better[1]))
    relative = (on_log_scale(x), on_log_scale(y))
    found = measured(chosen(table, where, (x, y)), (x, y), relative)
    found, notes = _with_noise(found, size)
    signs = np.array([1.0 if way == "lower" else -1.0 for way in ways])
    front = non_dominated(found.means * signs)
    probability = None
    if found.noise is not None:
        rng, shares, step = np.random.default_rng(seed), [], max(1, _CELLS // len(found.means))
        for start in range(0, _DRAWS, step):
            number = min(step, _DRAWS - start)
            shares.append(non_dominated(found.noise.draws(found.means, found.seeds, number, rng) * signs).sum(axis=0))
        probability = np.sum(shares, axis=0) / _DRAWS
    shown = np.stack([np.exp(one) if share else one for one, share in
                      zip(found.means.T, relative, strict=True)], axis=1)  # fmt: skip
    order = np.lexsort((found.means[:, 0] * signs[0], ~front))
    names = _names(found)
    members = tuple(
        Member(found.table.index[i], names[i], float(shown[i, 0]), float(shown[i, 1]), int(found.seeds[i]),
               bool(front[i]), None if probability is None else float(probability[i]))
        for i in order
    )  # fmt: skip
    noise = found.noise
    return ParetoFront(x, y, members, level, ways, None if noise is None else noise.source,
                       0 if noise is None else noise.freedom, (*found.warnings, *notes))  # fmt: skip


def non_dominated(points: Array) -> npt.NDArray[np.bool_]:
    """Which of the points (..., n, 2), less being better, no other one dominates: (..., n)."""
    x, y = points[..., 0], points[..., 1]
    order = np.lexsort((y, x), axis=-1)
    x, y = np.take_along_axis(x, order, -1), np.take_along_axis(y, order, -1)
    least = np.minimum.accumulate(y, axis=-1)
    before = np.concatenate([np.full((*y.shape[:-1], 1), np.inf), least[..., :-1]], axis=-1)
    on = y < before
    # Points that are equal in both measures are on the front together: they have the first of them as predecessor.
    equal = (y == before) & (x == np.maximum.accumulate(np.where(on, x, -np.inf), axis=-1))
    result = np.empty_like(on)
    np.put_along_axis(result, order, on | equal, -1)
    return result


def _with_noise(found: Measured, size: str | None) -> tuple[Measured, list[str]]:
    """The configurations with the noise of runs, from a smooth curve where there are no repeated seeds."""
    if found.noise is not None or size is None or size not in found.table:
        return found, [] if found.noise is not None else ["no repeated seeds: the noise of runs is unknown"]
    octaves = np.log2(numeric_points(found.table, (), size, positive=(size,)).y)
    if len(octaves) < len(found.means):
        return found, [f"no repeated seeds, and {size} is not known of every row: the noise of runs is unknown"]
    noise = noise_about(octaves, found.means, size)
    note = "no repeated seeds: " + ("too few sizes for a smooth curve" if noise is None else f"{noise.source} instead")
    return replace(found, noise=noise), [note]


def _names(found: Measured) -> list[str]:
    """What to call the configurations: their label, with a setting where that tells them apart, or their row."""
    for name in ("label", "model", "name"):
        if name not in found.table:
            continue
        labels = [str(cell) for cell in found.table[name]]
        if len(set(labels)) == len(labels):
            return labels
        for setting in settings(found.table, (name,)):
            longer = [f"{label}, {setting} {cell}" for label, cell in zip(labels, found.table[setting], strict=True)]
            if len(set(longer)) == len(longer):
                return longer
    return [f"row {index}" for index in found.table.index]
