"""Which rows may stand in one fit: different measures are kept apart, seeds of one configuration are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
            warnings += _not_given(table, _FRECHET_APART)
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
    values = list(dict.fromkeys(str(value) for value in table[name].dropna()))
    if len(values) < 2:
        return ""
    return ", ".join(values[:_MAX_NAMED]) + (", ..." if len(values) > _MAX_NAMED else "")


def _not_given(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Warnings about columns that are empty in some rows and named in others, which may then be different measures."""
    found = []
    for name in names:
        missing = int(table[name].isna().sum()) if name in table.columns else 0
        if 0 < missing < len(table):
            found.append(f"{name} is not given for {missing} {'row' if missing == 1 else 'rows'}")
    return found


def without_repeats(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows that do not repeat an earlier one in every column, and a warning about those that do.

    A row copied into a table twice is one measurement; counted as two it makes every interval too narrow.
    """
    repeated = table.astype(str).duplicated().to_numpy()
    if not (count := int(repeated.sum())):
        return table, []
    said = (
        "1 row repeats another row exactly and is" if count == 1 else f"{count} rows repeat another row exactly and are"
    )
    return table[~repeated], [f"{said} left out"]


def average_seeds(table: pd.DataFrame, points: Points, x: Sequence[str], y: str) -> Points:
    """One point per configuration: the mean of x and y over the rows that differ in nothing but their seed.

    Rows of one configuration are repeated measures: they share its distance from the law, which is usually larger than
    the spread of seeds, and counting each of them as a point of its own makes intervals too narrow by up to the square
    root of the number of seeds. With few configurations the means, equally weighted, are safer than cluster-robust
    standard errors. A configuration is told by the x columns and by the columns of ``_configuration``. Without a
    ``seed`` column every row is a configuration, and so is a row whose seed is empty.
    """
    if "seed" not in table.columns or table["seed"].astype("string").nunique() < 2:
        return points
    used = table.loc[points.rows]
    frame = pd.DataFrame({f"x{place}": values for place, values in enumerate(points.x)})
    keys = frame.assign(**{f"c{place}": used[name].astype("string").to_numpy(dtype=object, na_value="")
                           for place, name in enumerate(_configuration(used, (*x, y)))})  # fmt: skip
    keys["alone"] = np.where(used["seed"].isna(), np.arange(len(used)), -1)
    place = keys.groupby(list(keys.columns), sort=False, dropna=False).ngroup().to_numpy()
    count = np.bincount(place)
    if len(count) == len(place):
        return points
    first = np.unique(place, return_index=True)[1]
    means = np.bincount(place, weights=points.y) / count
    note = f"{len(place)} rows averaged over seeds to {len(count)} configurations"
    return Points(points.x[:, first], means, points.rows[first], (*points.warnings, note))


def _configuration(table: pd.DataFrame, taken: Sequence[str]) -> list[str]:
    """The columns that tell one configuration from another.

    In the results table these are its identity and size columns and the dotted config columns. In any other table they
    are all columns but the seed and plain outcomes: measures, budgets, and floats that are not all whole numbers.
    """
    if "trial" not in table.columns:
        return [name for name in table.columns if name not in (*taken, "seed") and not _outcome(name, table[name])]
    known = [name for name, entry in COLUMNS.items() if entry.kind in ("identity", "size") and name not in _PER_RUN]
    dotted = [name for name in map(str, table.columns) if all(part.isidentifier() for part in name.split("."))]
    names = [*known, *(name for name in dotted if "." in name)]
    return [name for name in names if name in table.columns and name not in taken]


def _outcome(name: str, values: pd.Series[Any]) -> bool:
    """Whether a column of a foreign table plainly was measured rather than chosen."""
    if name in COLUMNS and COLUMNS[name].kind in ("measure", "budget"):
        return True
    return pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 != 0).any())
