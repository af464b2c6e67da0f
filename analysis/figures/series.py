"""A series: the trials of one group and, where one was made, the fit through them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.points import average_seeds
from analysis.questions.measures import better_of, on_log_scale
from analysis.style import short
from analysis.table import numeric_points
from tokscale.errors import UsageError
from tokscale.record import COLUMNS

NAMES = {"kl": "KL", "vq": "VQ", "fsq": "FSQ", "lfq": "LFQ"}


class Curve(Protocol):
    """What a line is drawn from: a ``Fit``, a ``Choice``, or anything that predicts with intervals."""

    def predict(self, x: npt.ArrayLike, interval: float | None = None, kind: Any = ...) -> pd.DataFrame:
        """``value``, ``low`` and ``high`` at sizes."""


@dataclass(frozen=True)
class Series:
    """One group of trials (rows of the results table) with its name in words and its fit, if any.

    ``excluded`` holds rows that the fit does not use, by the reason in a few words: they are drawn as hollow crosses.
    ``logarithmic`` says whether the measure's ratios matter, where the fit itself does not tell.
    """

    label: str
    points: pd.DataFrame
    fit: Any = None
    excluded: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    logarithmic: bool | None = None

    def legend(self) -> str:
        """Name, number of points and R² of the fit: what a reader needs to weigh the line."""
        evidence = f"n = {getattr(self.fit, 'n', None) or len(self.points)}"
        if (r2 := getattr(self.fit, "r2", None)) is not None:
            evidence += f", R² {share(r2)}"
        return f"{self.label}: {evidence}" if self.label else evidence


def share(r2: float) -> str:
    """R² with two decimals, and with three where two would say 1.00."""
    return f"{r2:.3f}" if r2 >= 0.995 else f"{r2:.2f}"


_OF_A_SECTION = ("weight", "layer", "kind", "start", "features")
"""settings that many sections have: their names alone tell nothing"""


def split(table: pd.DataFrame, by: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """The groups of a table by these columns, in order, each with its name in words; without columns one, unnamed."""
    if not by:
        return [("", table)]
    groups = [(dict(zip(by, key, strict=True)), rows) for key, rows in table.groupby(list(by), sort=True, dropna=False)]
    # A size's letter sorts badly (B, L, S): groups of one kind stand in the order of their parameters.
    sizes = [c for c in ("encoder", "decoder") if c in by and f"{c}_params" in table]
    others = [c for c in by if c not in sizes]
    places = {c: {value: i for i, value in enumerate(_ordered(table, c))} for c in others}
    groups.sort(
        key=lambda g: (
            [places[c].get(g[0][c], len(places[c])) for c in others],
            [g[1][f"{c}_params"].mean() for c in sizes],
        )
    )
    return [(group_label(values), rows) for values, rows in groups]


def _ordered(table: pd.DataFrame, column: str) -> list[object]:
    values = list(pd.unique(table[column].dropna()))
    values.sort(key=lambda v: (str(type(v)), v) if isinstance(v, (str, bool)) else ("", v))
    if column == "bottleneck":
        values.sort(key=lambda kind: list(NAMES).index(kind) if kind in NAMES else len(NAMES))
    return values


def group_label(values: dict[str, object]) -> str:
    """A group in words: ``decoder S``, ``FSQ, decoder S``, ``lr 0.001``, ``semantic weight 0.5``."""
    return ", ".join(_in_words(column, value) for column, value in values.items())


def _in_words(column: str, value: object) -> str:
    if column in ("bottleneck", "layout"):
        return NAMES.get(str(value), str(value))
    *sections, name = column.split(".")
    if sections and name in _OF_A_SECTION:
        name = f"{sections[-1]} {name}"
    return f"{name.replace('_', ' ')} {value_label(value)}"


def value_label(value: object) -> str:
    """A group's value alone: the text, or the number as a person writes it."""
    return short(float(value)) if isinstance(value, float) else str(value)


def finite(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The rows in which all these columns hold a finite number; no row, but the columns, where one is missing."""
    names = list(dict.fromkeys(columns))
    if not set(names) <= set(table.columns):
        return table.iloc[:0].reindex(columns=list(dict.fromkeys([*table.columns, *names])))
    numbers = table[names].apply(pd.to_numeric, errors="coerce").astype(float).replace([math.inf, -math.inf], math.nan)
    usable = numbers.notna().all(axis=1).to_numpy(dtype=bool)  # by place: indices may repeat
    return table[usable].assign(**{name: numbers[name].to_numpy()[usable] for name in names})


def averaged(
    table: pd.DataFrame, measures: Sequence[str], keys: Sequence[str] = (), level: float | None = None
) -> pd.DataFrame:
    """One row a configuration: these measures averaged over seeds, ``seeds`` how many, all else of its first row.

    ``keys`` are columns of numbers in which configurations differ, beside those that name their settings. With a
    ``level``, ``low of <measure>`` and ``high of <measure>`` are Student's interval of each mean by the variance of
    seeds, pooled over configurations (of logarithms where ratios matter); NaN without repeated seeds.
    """
    rows = finite(table, *measures, *keys).reset_index(drop=True)
    found = rows.assign(seeds=1)
    for name in measures if len(rows) else ():
        in_logs = ratios_matter(name) and bool((rows[name] > 0).all())
        means = average_seeds(rows, numeric_points(rows, tuple(keys), name), tuple(keys), name, log_residuals=in_logs)
        found = found.loc[means.rows].assign(**{name: means.y, "seeds": means.seeds})
        if level is not None:
            found[f"low of {name}"], found[f"high of {name}"] = _limits(means, in_logs, level)
    if level is not None and rows.empty:
        found = found.assign(**{f"{side} of {name}": math.nan for name in measures for side in ("low", "high")})
    return found


def _limits(means: Any, in_logs: bool, level: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if means.seed_variance is None or not means.seed_freedom:
        nothing = np.full(len(means.y), np.nan)
        return nothing, nothing
    half = special.stdtrit(means.seed_freedom, 0.5 + level / 2) * np.sqrt(means.seed_variance / means.seeds)
    if in_logs:
        return means.y * np.exp(-half), means.y * np.exp(half)
    return means.y - half, means.y + half


def missing(table: pd.DataFrame, *columns: str) -> str:
    """Why nothing can be drawn from these columns, in one line."""
    absent = [name for name in columns if name not in table]
    if absent:
        return f"no column {', '.join(absent)}"
    empty = [name for name in columns if finite(table, name).empty]
    return f"{', '.join(empty)}: no number in any row" if empty else f"no row has both {' and '.join(columns)}"


def levels(values: pd.Series[Any], apart: float = 1.05) -> npt.NDArray[np.int64]:
    """Which level each number belongs to, from 0 upwards: numbers within 5 % of the next smaller are of one level.

    Sizes called the same differ a little, an encoder by the width of its bottleneck for example.
    """
    numbers = values.to_numpy(dtype=float)
    order = np.argsort(numbers, kind="stable")
    steps = np.zeros(len(numbers), dtype=np.int64)
    if len(numbers) > 1:
        ahead, behind = numbers[order][1:], numbers[order][:-1]
        steps[1:] = np.abs(ahead - behind) > (apart - 1) * np.abs(behind)
    found = np.empty(len(numbers), dtype=np.int64)
    found[order] = np.cumsum(steps)
    return found


def ratios_matter(column: str) -> bool:
    """Whether ratios of a measure matter rather than differences: errors, distances and rates."""
    return (column in COLUMNS and COLUMNS[column].unit == "bits/image") or on_log_scale(column)


def better(column: str) -> Literal["lower", "higher"] | None:
    """Which way a measure is better, by its name; None where that does not tell."""
    try:
        return better_of(column)
    except UsageError:
        return None
