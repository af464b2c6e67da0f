"""The configurations behind a question: rows that can be used, seeds averaged, and on which scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.points import average_seeds, without_repeats
from analysis.questions.measures import comparable
from analysis.shared import counted_once
from analysis.table import column, numeric_points, select
from tokscale.errors import TableError

Array = npt.NDArray[np.float64]
Group = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Configurations:
    """Sizes x (k, n) and the measure y (n,), natural logarithms of it if ``relative``, of n configurations.

    ``table`` holds the first row of each (its settings), ``rows`` how many rows there were before seeds were averaged.
    """

    x: Array
    y: Array
    relative: bool
    table: pd.DataFrame
    rows: int
    warnings: tuple[str, ...]


def configurations(
    table: pd.DataFrame, x: Sequence[str], y: str, *, relative: bool, where: str | None = None, compare: bool = True
) -> Configurations:
    """The usable rows of a question, one a configuration. Measures told as shares are averaged as logarithms.

    Raises ``TableError`` for columns that are absent or hold no number, and for Fréchet distances of different kinds.
    """
    if len({*x, y}) <= len(x):
        raise TableError("a column is named twice in one question", given=", ".join((*x, y)))
    rows, repeats = without_repeats(chosen(table, where, (*x, y)))
    rows, shared = counted_once(rows, (*x, y))
    repeats += shared
    points = numeric_points(rows, x, y, positive=(*x, y) if relative else x)
    mixed = comparable(rows.loc[points.rows], (*x, y)) if compare else []
    if relative:
        points = replace(points, y=np.log(points.y))
    means = average_seeds(rows, points, x, y)
    said = tuple(dict.fromkeys((*means.warnings, *repeats, *mixed)))
    return Configurations(means.x, means.y, relative, rows.loc[means.rows], len(points.y), said)


def chosen(table: pd.DataFrame, where: str | None, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of a condition, with an index of their own; ``TableError`` for a column that is not there."""
    for name in columns:
        column(table, name)
    rows = select(table, where)
    if rows.empty:
        raise TableError("a table has no rows", where=table.attrs.get("source"))
    return rows if rows.index.is_unique else rows.reset_index(drop=True)


def groups_of(table: pd.DataFrame, by: Sequence[str]) -> list[tuple[Group, pd.DataFrame]]:
    """The groups of a table by these columns, in order, absence being a value; without columns one."""
    for name in by:
        column(table, name)
    if not by:
        return [({}, table)]
    found: list[tuple[Group, pd.DataFrame]] = []
    for values, rows in table.groupby(list(by), sort=True, dropna=False, observed=True):
        cells = [None if pd.isna(cell) else getattr(cell, "item", lambda cell=cell: cell)() for cell in values]
        found.append((dict(zip(by, cells, strict=True)), rows))
    return found


def each_group(
    table: pd.DataFrame, by: Sequence[str], ask: Callable[[pd.DataFrame, Group], T]
) -> tuple[list[T], tuple[str, ...]]:
    """One answer per group, and a warning for each group that cannot be asked; raises the first if none can."""
    answers, refused = [], []
    for group, rows in groups_of(table, by):
        try:
            answers.append(ask(rows, group))
        except TableError as error:
            refused.append((group, error))
    if not answers:
        raise refused[0][1]
    named = ((", ".join(f"{name} {value}" for name, value in group.items()), error) for group, error in refused)
    return answers, tuple(f"group {name} is left out: {error.what}" for name, error in named)
