"""Fitting a law to columns of a table: ``fit`` gives a ``Fit``, with intervals and an account of its weaknesses."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.estimation import Request, estimate, points_for
from analysis.fitted import Fit as Fit
from analysis.fitted import Optimum as Optimum
from analysis.fitted import Parameter as Parameter
from analysis.fitted import check_level
from analysis.fitted import shown as shown
from analysis.groups import estimate_together, groups_of
from analysis.laws import LAWS, Law, law_named
from analysis.table import Points, column, column_names, left_out, select
from tokscale.errors import TableError, UsageError, one_of

Groups = dict[Any, list[tuple[Law, Points]]]


def fit(
    table: pd.DataFrame, *, law: str | None = None, x: str | Sequence[str], y: str, by: str | None = None,
    shared: str | Sequence[str] = (), where: str | None = None, weights: str | None = None,
    huber: float | None = None, interval: float = 0.95, intervals: Literal["profile", "bootstrap"] = "profile",
) -> Fit | list[Fit]:  # fmt: skip
    """Fit a law to columns of a table, or all laws that apply, best first (by AICc), when none is named.

    Several ``x`` columns are fitted by the ``additive`` law. ``by`` fits each value of a column apart; the parameters
    named ``shared`` are then the same in all groups, which are fitted together. ``where`` chooses rows by a condition.
    ``weights`` is a column of inverse variances of y (of ln y for a law of log residuals), up to a common factor.
    ``huber`` is the threshold, on the law's residuals, beyond which an error counts by its size instead of its square
    (Huber 1964); without it squares are summed.

    Gives one ``Fit``, or a list with ``by`` or without ``law``. Rows that cannot be used, and everything else that
    makes the fit doubtful, stand in the fit's ``warnings``; repeated seeds are averaged
    (``analysis.points.average_seeds``). Raises ``TableError`` for columns that are absent or cannot carry the law,
    ``UsageError`` for an unknown law, an impossible interval, and words that do not go together.
    """
    asked = Request(column_names(x), y, weights, huber, interval, intervals)
    shared = column_names(shared)
    _check(table, asked, law, by, shared)
    laws = [law_named(law, len(asked.x))] if law is not None else _all_laws(len(asked.x))
    chosen = select(table, where)
    if not chosen.index.is_unique:
        chosen = chosen.reset_index(drop=True)
    groups, refused = _grouped(chosen, laws, asked, by)
    if shared and len(groups) > 1:
        assert by is not None
        fits = estimate_together({group: found[0][1] for group, found in groups.items()}, laws[0], shared, asked, by)
    else:
        fits = _apart(groups, asked, refused)
    if not fits:
        raise next(iter(refused.values()))
    notes = _notes(chosen, by, shared, groups, refused)
    fits = [replace(one, warnings=(*one.warnings, *notes)) for one in fits]
    return fits[0] if law is not None and by is None else fits


def _check(table: pd.DataFrame, asked: Request, law: str | None, by: str | None, shared: tuple[str, ...]) -> None:
    """Raise for words that are wrong in themselves, or columns that are not there."""
    if not isinstance(table, pd.DataFrame):
        raise TableError("what is to be fitted is no table", given=type(table).__name__, allowed="a pandas.DataFrame")
    check_level(asked.level)
    columns = [*asked.names, *(name for name in (by, asked.weights) if name is not None)]
    if not asked.x:
        raise UsageError("a fit needs a column of sizes", given="no x column")
    for name in columns:
        column(table, name)
    if len(set(columns)) < len(columns):
        raise TableError("a column is named twice in one fit", given=", ".join(map(str, columns)))
    if asked.huber is not None and not (isinstance(asked.huber, numbers.Real) and 0 < asked.huber < math.inf):
        raise UsageError("Huber's threshold is a size of residuals", given=asked.huber, allowed="a number above 0")
    if asked.intervals not in ("profile", "bootstrap"):
        allowed = one_of(["profile", "bootstrap"], str(asked.intervals))
        raise UsageError("no such kind of intervals", given=asked.intervals, allowed=allowed)
    if shared and (by is None or law is None):
        raise UsageError("parameters are shared between groups, by one law", given=f"shared {', '.join(shared)}",
                         allowed="together with `by`, a column, and `law`, a name")  # fmt: skip
    if law is not None:
        known = law_named(law, len(asked.x)).parameters
        if wrong := [name for name in shared if name not in known]:
            raise UsageError(f"{law} has no such parameter to share", given=wrong[0], allowed=one_of(known, wrong[0]))


def _all_laws(columns: int) -> list[Law]:
    return list(LAWS.values()) if columns == 1 else [law_named("additive", columns)]


def _grouped(
    table: pd.DataFrame, laws: list[Law], asked: Request, by: str | None
) -> tuple[Groups, dict[Any, TableError]]:
    """The laws and points of every group that has some, and why the others have none."""
    groups: Groups = {}
    refused: dict[Any, TableError] = {}
    least = min(len(law.parameters) for law in laws)
    if by is not None and table.groupby(by, observed=True).size().max() < min(least, 2):
        raise TableError("no group has more than one row", given=f"{by} has {table[by].nunique()} values")
    for group, rows in groups_of(table, by):
        try:
            groups[group] = points_for(rows, laws, asked, group)
        except TableError as error:
            refused[group] = error
    return groups, refused


def _apart(groups: Groups, asked: Request, refused: dict[Any, TableError]) -> list[Fit]:
    """The fits of each group, its best first; ``refused`` takes in the groups that cannot carry a law."""
    fits: list[Fit] = []
    for group, found in groups.items():
        try:
            several = [estimate(law, points, asked, group) for law, points in found]
        except TableError as error:
            refused[group] = error
            continue
        fits += sorted(_weighed(several), key=lambda one: math.inf if one.aicc is None else one.aicc)
    return fits


def _weighed(fits: list[Fit]) -> list[Fit]:
    """The fits of several laws to the same points with their AICc weights (Burnham and Anderson 2002)."""
    known = np.array([one.aicc for one in fits if one.aicc is not None])
    if len(fits) < 2 or not len(known):
        return fits
    total = np.exp((known.min() - known) / 2).sum()
    return [one if one.aicc is None else replace(one, aicc_weight=float(np.exp((known.min() - one.aicc) / 2) / total))
            for one in fits]  # fmt: skip


def _notes(
    table: pd.DataFrame, by: str | None, shared: tuple[str, ...], groups: Groups, refused: dict[Any, TableError]
) -> tuple[str, ...]:
    """What every fit of a grouped table should say of the others."""
    notes = [f"group {group} is not fitted: {error.what}" for group, error in refused.items()]
    if by is not None and (count := int(table[by].isna().sum())):
        notes.append(left_out(count, f"{by} is missing"))
    if shared and len(groups) == 1:
        notes.append(f"{by} has one group that can be fitted: nothing is shared")
    return tuple(notes)
