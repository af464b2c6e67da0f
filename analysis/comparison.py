"""Groups of trials side by side: each measure's mean, with its interval over seeds and rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analysis.fitted import check_level
from analysis.points import check_mixture, without_repeats
from analysis.table import column, column_names, left_out, numeric_points
from tokscale.errors import TableError
from tokscale.record import COLUMNS


def compare(
    table: pd.DataFrame, *, by: str, y: str | Sequence[str] | None = None, interval: float = 0.95
) -> pd.DataFrame:
    """One row per group and measure: ``group``, ``measure``, ``n``, ``mean``, ``low``, ``high``.

    Each row of the table is one independent observation (a seed, or a trial of the group); the limits are Student's t
    interval of their mean, NaN for a single row. Without ``y`` it takes every measure that the table holds numbers of.
    A measure that a group lacks is absent from the result. The result's ``attrs["warnings"]`` says what was left out.
    Raises ``TableError`` for unknown or empty columns, and for Fréchet distances in different features, ``UsageError``
    for an impossible interval.
    """
    check_level(interval)
    groups = column(table, by)
    if groups.isna().all():
        raise TableError("a column to group by has no value", given=by)
    table, repeats = without_repeats(table)
    groups = table[by]
    names = _measures(table) if y is None else column_names(y)
    if not table.index.is_unique:
        table = table.reset_index(drop=True)
    warnings = list(repeats)
    if count := int(groups.isna().sum()):
        warnings.append(left_out(count, f"{by} is missing"))
    rows = [row for name in names for row in _compare_one(table, by, name, y is not None, interval, warnings)]
    if not rows:
        raise TableError(
            "nothing can be compared", given="; ".join(warnings), allowed="measures with numbers in a group"
        )
    result = pd.DataFrame(rows, columns=["group", "measure", "n", "mean", "low", "high"])
    result.attrs["warnings"] = list(dict.fromkeys(warnings))
    return result


def _measures(table: pd.DataFrame) -> tuple[str, ...]:
    present = [name for name in COLUMNS.among(table.columns) if COLUMNS[name].kind == "measure"]
    found = tuple(name for name in present if table[name].notna().any())
    if not found:
        known = [name for name, entry in COLUMNS.items() if entry.kind == "measure"]
        raise TableError("a table holds no measure", allowed=f"columns named with --y, or one of: {', '.join(known)}")
    return found


def _compare_one(
    table: pd.DataFrame, by: str, name: str, asked: bool, interval: float, warnings: list[str]
) -> Iterator[dict[str, Any]]:
    """The rows of one measure. What was asked for must be there and be comparable; what was not is left out."""
    try:
        points = numeric_points(table, (), name)
        used = table.loc[points.rows]
        # What the groups are told apart by may differ between them; everything else must be comparable.
        found = check_mixture(used.drop(columns=by), (name,))
    except TableError as error:
        if asked:
            raise
        warnings.append(f"{name} is left out: {error.what} ({error.given})")
        return
    warnings += [*points.warnings, *found]
    values = pd.Series(points.y, index=used.index)
    for group, members in values.groupby(used[by], sort=True, observed=True):
        low, high = _mean_limits(members.to_numpy(), interval)
        value = getattr(group, "item", lambda group=group: group)()
        yield {"group": value, "measure": name, "n": len(members), "mean": members.mean(), "low": low, "high": high}


def _mean_limits(values: np.ndarray[Any, Any], level: float) -> tuple[float, float]:
    """Student's t interval of the mean; NaN for a single value."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = special.stdtrit(len(values) - 1, 0.5 + level / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
