"""A series: the trials of one group and, where one was made, the fit through them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.fitting import Fit
from analysis.style import plain

NAMES = {"kl": "KL", "vq": "VQ", "fsq": "FSQ", "lfq": "LFQ"}


@dataclass(frozen=True)
class Series:
    """One group of trials (rows of the results table) with its name in words and its fit, if any."""

    label: str
    points: pd.DataFrame
    fit: Fit | None = None

    def legend(self) -> str:
        """Name, number of points and R² of the fit: what a reader needs to weigh the line."""
        evidence = f"n = {len(self.points) if self.fit is None else self.fit.n}"
        if self.fit is not None and self.fit.r2 is not None:
            evidence += f", R² {share(self.fit.r2)}"
        return f"{self.label}: {evidence}" if self.label else evidence


def share(r2: float) -> str:
    """R² with two decimals, and with three where two would say 1.00."""
    return f"{r2:.3f}" if r2 >= 0.995 else f"{r2:.2f}"


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
    values = sorted(table[column].dropna().unique())
    if column == "bottleneck":
        values.sort(key=lambda kind: list(NAMES).index(kind) if kind in NAMES else len(NAMES))
    return values


def group_label(values: dict[str, object]) -> str:
    """A group in words: ``decoder S``, ``FSQ, decoder S``, ``lr 0.001``."""
    return ", ".join(_in_words(column, value) for column, value in values.items())


def _in_words(column: str, value: object) -> str:
    if column == "bottleneck":
        return NAMES.get(str(value), str(value))
    leaf = column.rsplit(".", 1)[-1].replace("_", " ")
    return f"{leaf} {plain(value) if isinstance(value, float) else value}"


def finite(table: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The rows in which both columns hold a finite number; no row, but both columns, where one is missing."""
    if x not in table or y not in table:
        return table.iloc[:0].reindex(columns=list(dict.fromkeys([*table.columns, x, y])))
    pairs = table[[x, y]].apply(pd.to_numeric, errors="coerce").replace([math.inf, -math.inf], math.nan)
    rows = table[pairs.notna().all(axis=1)].copy()
    rows[[x, y]] = pairs.loc[rows.index].astype(float)
    return rows
