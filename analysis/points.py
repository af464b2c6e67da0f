"""Which rows may stand in one fit: different measures are kept apart, seeds of one configuration are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.table import Points
from tokscale.errors import TableError
from tokscale.record import COLUMNS

# Fréchet distances in different features, or to different reference sets, are different quantities.
_FRECHET = ("rfid", "rfd", "gfid", "gfd")
_FRECHET_APART = ("features", "reference")
# Other measures stay comparable in kind, but one curve through such a mixture may describe none of its parts.
_DOUBTFUL = {
    "ris": ("features",),
    "gis": ("features",),
    "rfvd": _FRECHET_APART,
    "gfvd": _FRECHET_APART,
    "ar_loss": ("codebook_size", "bottleneck_tokens"),
}
_PER_RUN = ("sweep", "trial", "status", "seed", "pictures", "originals", "samples")
_MAX_NAMED = 5


def check_mixture(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Warnings about the mixture of rows behind some columns.

    Raises ``TableError`` for Fréchet distances that were measured with different features or reference sets.
    """
    warnings = []
    for name in columns:
        if name.lower() in _FRECHET:
            for apart in _FRECHET_APART:
                if values := _mixed(table, apart):
                    raise TableError(
                        f"{name} was measured with different {apart}, which one fit may not mix",
                        given=values,
                        allowed=f"--by {apart}, or --where \"{apart} == '...'\"",
                    )
        for doubtful in _DOUBTFUL.get(name.lower(), ()):
            if doubtful not in columns and (values := _mixed(table, doubtful)):
                warnings.append(f"{name} is compared across different {doubtful}: {values}")
    if values := _mixed(table, "dataset"):
        warnings.append(f"rows of different data sets together: {values}")
    return warnings


def _mixed(table: pd.DataFrame, name: str) -> str:
    """The values of a column in one line if there is more than one, else an empty text."""
    if name not in table.columns:
        return ""
    values = [str(value) for value in pd.unique(table[name].dropna())]
    if len(values) < 2:
        return ""
    return ", ".join(values[:_MAX_NAMED]) + (", ..." if len(values) > _MAX_NAMED else "")


def average_seeds(table: pd.DataFrame, points: Points, x: Sequence[str], y: str) -> Points:
    """One point per configuration: the mean of x and y over the rows that differ in nothing but their seed.

    Rows of one configuration are repeated measures: they share its distance from the law, which is usually larger than
    the spread of seeds, and counting each of them as a point of its own makes intervals too narrow by up to the square
    root of the number of seeds. With few configurations the means, equally weighted, are safer than cluster-robust
    standard errors. A configuration is told by the x columns, by the identity and size columns of the results table
    and by dotted config columns. Without a ``seed`` column every row is a configuration.
    """
    if "seed" not in table.columns or table["seed"].nunique() < 2:
        return points
    used = table.loc[points.rows]
    frame = pd.DataFrame({f"x{place}": values for place, values in enumerate(points.x)})
    keys = frame.assign(**{f"c{place}": used[name].astype("string").to_numpy(dtype=object, na_value="")
                           for place, name in enumerate(_configuration(used, (*x, y)))})  # fmt: skip
    place = keys.groupby(list(keys.columns), sort=False, dropna=False).ngroup().to_numpy()
    count = np.bincount(place)
    if len(count) == len(place):
        return points
    first = np.unique(place, return_index=True)[1]
    means = np.bincount(place, weights=points.y) / count
    note = f"{len(place)} rows averaged over seeds to {len(count)} configurations"
    return Points(points.x[:, first], means, points.rows[first], (*points.warnings, note))


def _configuration(table: pd.DataFrame, taken: Sequence[str]) -> list[str]:
    """The columns that tell one configuration from another."""
    known = [name for name, entry in COLUMNS.items() if entry.kind in ("identity", "size") and name not in _PER_RUN]
    dotted = [name for name in map(str, table.columns) if all(part.isidentifier() for part in name.split("."))]
    names = [*known, *(name for name in dotted if "." in name)]
    return [name for name in names if name in table.columns and name not in taken]
