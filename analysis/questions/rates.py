"""Kinds of bottleneck in one plane of rate and distortion: their curves, the lower hull, and who needs fewer bits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.questions import wording
from analysis.questions.answers import Answer, Estimate, check_level
from analysis.questions.bjontegaard import lower_hull
from analysis.questions.configurations import chosen
from analysis.questions.plane import Plane, plane_of
from analysis.questions.regression import student

_DRAWS = 200
_UNITS = {"E": "floats", "bottleneck_floats": "floats", "floats_per_pixel": "floats per pixel"}
_LEAST_DRAWN = 0.95  # of the draws must let all curves overlap
_OVERLAP = 0.1  # of the shorter curve: below that a comparison is one of ends


@dataclass(frozen=True)
class RateCurve:
    """The points of one kind at equal other settings, in the order of their rate, and which are on the lower hull."""

    kind: str
    group: Mapping[str, Any]
    rate: tuple[float, ...]
    distortion: tuple[float, ...]
    seeds: tuple[int, ...]
    on_hull: tuple[bool, ...]


@dataclass(frozen=True)
class RateDifference:
    """ln of the rate that ``second`` needs against ``first`` at equal distortion, averaged over ``curves`` pairs.

    ``difference`` is None where curves do not overlap, and has no interval where no noise is known; the mean is over
    the distortions from ``low`` to ``high``.
    """

    first: str
    second: str
    difference: Estimate | None
    curves: int
    low: float | None
    high: float | None

    @property
    def resolved(self) -> bool:
        """Whether one of the two needs fewer bits for certain."""
        return self.difference is not None and self.difference.resolved


@dataclass(frozen=True)
class RateDistortion(Answer):
    """The curves of every kind, the differences of every two kinds, and where the noise of runs is known from."""

    rate: str
    distortion: str
    by: str
    n: int
    curves: tuple[RateCurve, ...]
    differences: tuple[RateDifference, ...]
    noise: str | None
    freedom: int
    level: float
    within: tuple[str, ...]
    warnings: tuple[str, ...]

    def sentence(self) -> str:
        hull = {curve.kind for curve in self.curves if any(curve.on_hull)}
        said = [self._compared(one) for one in self.differences]
        noise = "no repeated runs" if self.noise is None else f"noise from {self.noise}"
        start = f"Of {wording.plural(self.n, 'configuration')}, those on the lower hull of rate and "
        start += f"{wording.label(self.distortion)} are {wording.listed(sorted(hull))}"
        return f"{'; '.join([start, *said])} ({noise})."

    def _compared(self, one: RateDifference) -> str:
        if one.difference is None:
            return f"{one.first} and {one.second} reach no {wording.label(self.distortion)} in common"
        change = wording.effect(one.difference, relative=True)
        equal = f"at equal {wording.label(self.distortion)}"
        if not one.resolved:
            return f"{equal}, {one.first} and {one.second} cannot be told apart by rate ({change} for {one.second})"
        many = f"{'fewer' if one.difference.value < 0 else 'more'} {_UNITS.get(self.rate, 'bits')}"
        return f"{equal}, {many} for {one.second} than for {one.first}: {change}"


def rate_distortion(
    table: pd.DataFrame, distortion: str = "mse", rate: str = "ar_bits_per_image", by: str = "bottleneck", *,
    within: Sequence[str] | None = None, where: str | None = None, level: float = 0.95, better: str | None = None,
    seed: int = 0,
) -> RateDistortion:  # fmt: skip
    """Curves of rate and distortion, one a kind, and the mean difference in rate at equal distortion of every two.

    A rate is what a bottleneck takes: bits under a probe, or floats (``bottleneck_floats``, ``floats_per_pixel``).
    Seeds are averaged. Curves of two kinds are compared at equal other settings (``within``: data, encoder, decoder,
    budget and probe where they vary), only over the distortions that both reach, and the differences are averaged. The
    interval is Student's with the standard error of a parametric bootstrap: all means drawn anew with the noise of
    runs, pooled over seeds, or, without repeated seeds, that of the residuals about a parabola of each curve. The hull
    is that of rate and distortion as they are. Raises ``TableError`` where no kind has two configurations.
    """
    check_level(level)
    plane = plane_of(chosen(table, where, (distortion, rate, by)), distortion, rate, by, within, better)
    noise = plane.noise
    differences = tuple(_difference(plane, pair, level, np.random.default_rng(seed))
                        for pair in itertools.combinations(plane.kinds, 2))  # fmt: skip
    return RateDistortion(
        rate, distortion, by, len(plane.means), _curves(plane), differences, None if noise is None else noise.source,
        0 if noise is None else noise.freedom, level, plane.within, plane.warnings,
    )  # fmt: skip


def _difference(plane: Plane, kinds: tuple[str, str], level: float, rng: np.random.Generator) -> RateDifference:
    """The mean difference of two kinds, and its limits among curves as they might as well have been measured."""
    pairs = [pair for pair in plane.pairs(*kinds) if plane.shared(*pair) >= _OVERLAP]
    if not pairs:
        return RateDifference(*kinds, None, 0, None, None)
    found = [plane.difference(*pair, plane.means) for pair in pairs]
    value = float(np.mean([one[0] for one in found if one is not None]))
    ends = [plane.distortion(side) for one in found if one is not None for side in one[1:]]
    estimate = Estimate(value, None, None, None, 0)
    if plane.noise is not None:
        drawn = [[plane.difference(*pair, means) for pair in pairs]
                 for means in plane.noise.draws(plane.means, plane.seeds, _DRAWS, rng, wide=False)]  # fmt: skip
        means = [float(np.mean([one[0] for one in row if one is not None])) for row in drawn if all(row)]
        if len(means) >= _LEAST_DRAWN * _DRAWS:
            estimate = student(value, float(np.std(means, ddof=1)), plane.noise.freedom, level)
    return RateDifference(*kinds, estimate, len(pairs), min(ends), max(ends))


def _curves(plane: Plane) -> tuple[RateCurve, ...]:
    rates = np.exp(plane.means[:, 0])
    distortions = np.array([plane.distortion(one) for one in plane.means[:, 1]])
    hull = lower_hull(rates, distortions * plane.sign)
    curves = []
    for (kind, _), rows in plane.members.items():
        rows = rows[np.argsort(rates[rows])]
        group = {name: plane.table[name].iloc[rows[0]] for name in plane.within}
        columns = (rates[rows], distortions[rows], plane.seeds[rows], np.isin(rows, hull))
        curves.append(RateCurve(kind, group, *(tuple(column.tolist()) for column in columns)))
    return tuple(curves)
