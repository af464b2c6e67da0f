"""The noise of runs: how far two measures of one configuration lie from their means, by seeds or by a smooth curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.points import without_repeats
from analysis.questions.measures import comparable
from analysis.questions.settings import settings, strata
from analysis.table import numeric_points

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Covariance (2, 2) of one run about its configuration, its degrees of freedom, and where it is known from."""

    covariance: Array
    freedom: int
    source: str

    def draws(
        self, means: Array, seeds: npt.NDArray[np.int64], number: int, rng: np.random.Generator, wide: bool = True
    ) -> Array:
        """Means (number, n, 2) as they might as well be, given those measured (n, 2) over so many seeds (n,).

        With ``wide`` tails they are Student's: the covariance is itself known to so many degrees of freedom only.
        """
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        normal = rng.standard_normal((number, *means.shape)) @ root.T
        tails = np.sqrt(self.freedom / rng.chisquare(self.freedom, (number, 1, 1))) if wide else 1.0
        return np.asarray(means + normal * tails / np.sqrt(seeds)[:, None])


@dataclass(frozen=True)
class Measured:
    """Two measures of n configurations: means (n, 2) over seeds (n,), on their scales; the first row of each.

    ``noise`` is None without repeated seeds.
    """

    means: Array
    seeds: npt.NDArray[np.int64]
    table: pd.DataFrame
    noise: Noise | None
    warnings: tuple[str, ...]


def measured(
    table: pd.DataFrame, columns: tuple[str, str], relative: Sequence[bool], by: Sequence[str] = ()
) -> Measured:
    """The configurations of a table that have both measures, in logarithms where ``relative``.

    Rows that are equal in every setting but the seed, and in the columns ``by``, are one configuration. Raises
    ``TableError`` where no row can be used, or for Fréchet distances of different kinds.
    """
    rows, repeats = without_repeats(table)
    positive = [name for name, share in zip(columns, relative, strict=True) if share]
    points = numeric_points(rows, columns[:1], columns[1], positive=positive)
    used = rows.loc[points.rows]
    mixed = comparable(used, columns)
    values = np.stack([np.log(one) if share else one for one, share in
                       zip((points.x[0], points.y), relative, strict=True)], axis=1)  # fmt: skip
    place = np.arange(len(used))
    if "seed" in used and used["seed"].nunique() > 1:
        known = used["seed"].notna().to_numpy()
        names = [*settings(used, (*columns, *by)), *by, "_alone"]
        place = strata(used.assign(_alone=np.where(known, -1, place)), names)
    seeds = np.bincount(place)
    means = np.stack([np.bincount(place, weights=one) for one in values.T], axis=1) / seeds[:, None]
    apart = values - means[place]
    freedom = len(values) - len(means)
    noise = Noise(apart.T @ apart / freedom, freedom, "seeds") if freedom > 0 else None
    first = np.unique(place, return_index=True)[1]
    said = (*points.warnings, *repeats, *mixed)
    return Measured(means, seeds.astype(np.int64), used.iloc[first], noise, tuple(dict.fromkeys(said)))


def noise_about(curve: Array, values: Array, name: str) -> Noise | None:
    """The residual noise of values (n, 2) about parabolas in a size ``curve`` (n,); None without degrees of freedom.

    It holds the parabolas' own misfit too, and so is rather too large.
    """
    freedom = len(curve) - 3
    if freedom < 1 or len(np.unique(curve)) < 3:
        return None
    centred = curve - curve.mean()
    design = np.stack([np.ones_like(curve), centred, centred**2], axis=1)
    residual = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return Noise(residual.T @ residual / freedom, freedom, f"residuals of a parabola in log {name}")
