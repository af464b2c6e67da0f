"""Configurations in the plane of rate and distortion, kind by kind and at equal other settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.questions.bjontegaard import mean_rate_difference
from analysis.questions.measures import better_of, on_log_scale
from analysis.questions.noise import Noise, measured
from analysis.questions.settings import strata, varies
from tokscale.errors import TableError

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
_WITHIN = ("dataset", "data.resolution", "data.frames", "encoder", "decoder", "training.images", "probe.size.width",
           "probe.size.depth")  # fmt: skip


@dataclass(frozen=True)
class Plane:
    """Means (n, 2) of ln rate and distortion over seeds (n,); ``members`` are the rows of each kind in each stratum.

    Distortion is ln of the measure if ``relative``, and the measure times ``sign`` (-1 where higher is better) if not.
    """

    means: Array
    seeds: Rows
    table: pd.DataFrame
    members: Mapping[tuple[str, int], Rows]
    noise: Noise | None
    relative: bool
    sign: float
    within: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def kinds(self) -> list[str]:
        """The kinds that have a curve, in the order of the table."""
        return list(dict.fromkeys(kind for kind, _ in self.members))

    def pairs(self, first: str, second: str) -> list[tuple[Rows, Rows]]:
        """The curves of two kinds at equal other settings."""
        places = [place for kind, place in self.members if kind == first and (second, place) in self.members]
        return [(self.members[first, place], self.members[second, place]) for place in places]

    def difference(self, first: Rows, second: Rows, means: Array) -> tuple[float, float, float] | None:
        """Mean ln rate of the second curve less the first at equal distortion, and the distortions it is over."""
        return mean_rate_difference((means[first, 0], means[first, 1]), (means[second, 0], means[second, 1]))

    def shared(self, first: Rows, second: Rows) -> float:
        """The distortions that both curves reach, as a share of the shorter curve."""
        found = self.difference(first, second, self.means)
        return 0.0 if found is None else (found[2] - found[1]) / float(
            min(np.ptp(self.means[first, 1]), np.ptp(self.means[second, 1]))
        )  # fmt: skip

    def distortion(self, value: float) -> float:
        """A distortion of the plane as the measure that it is of."""
        return float(np.exp(value)) if self.relative else self.sign * float(value)


def plane_of(
    table: pd.DataFrame, distortion: str, rate: str, by: str, within: Sequence[str] | None, better: str | None
) -> Plane:
    """The configurations of a table, in curves of two points or more; ``TableError`` where there is no curve."""
    relative = on_log_scale(distortion)
    sign = 1.0 if better_of(distortion, better) == "lower" else -1.0
    if table[by].isna().all():
        raise TableError("a column to group by has no value", given=by)
    found = measured(table[table[by].notna()], (rate, distortion), (True, relative), (by,))
    means = found.means * np.array([1.0, 1.0 if relative else sign])
    if within is None:
        within = [name for name in _WITHIN if name in found.table and name != by and varies(found.table[name])]
    stratum = strata(found.table, within)
    kinds = found.table[by].astype(str).to_numpy()
    members = {}
    for kind, place in dict.fromkeys(zip(kinds.tolist(), stratum.tolist(), strict=True)):
        rows = np.flatnonzero((kinds == kind) & (stratum == place))
        if len(rows) > 1:
            members[kind, place] = rows
    if not members:
        raise TableError("no kind has two configurations that are equal otherwise",
                         given=f"{by}: {', '.join(dict.fromkeys(kinds))}; equal in {', '.join(within) or 'nothing'}",
                         allowed="two rates or more of a kind; name the columns to hold equal with within")  # fmt: skip
    noise = found.noise or _about_curves(means, list(members.values()))
    notes = [] if found.noise is not None else ["no repeated seeds: the noise of runs is that about smooth curves"]
    notes += ["and there are too few points for it"] if noise is None else []
    return Plane(means, found.seeds, found.table, members, noise, relative, sign, tuple(within),
                 (*found.warnings, *notes))  # fmt: skip


def _about_curves(means: Array, curves: Sequence[Rows]) -> Noise | None:
    """The noise in distortion about a parabola in ln rate for each curve, pooled; None without degrees of freedom."""
    cost, freedom = 0.0, 0
    for rows in curves:
        spare = len(rows) - 3
        if spare < 1:
            continue
        rate = means[rows, 0] - means[rows, 0].mean()
        design = np.stack([np.ones_like(rate), rate, rate**2], axis=1)
        residual = means[rows, 1] - design @ np.linalg.lstsq(design, means[rows, 1], rcond=None)[0]
        cost, freedom = cost + float(residual @ residual), freedom + spare
    if not freedom:
        return None
    return Noise(np.diag([0.0, cost / freedom]), freedom, "residuals of parabolas through the curves")
