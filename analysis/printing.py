"""Fits and comparisons as tables for people, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.fitted import Fit, shown
from tokscale.record import COLUMNS

_SIDE_BY_SIDE = 5  # groups; more of them do not fit into a line of 80 characters


def print_fits(fits: Sequence[Fit]) -> None:
    """Formula, parameters with intervals, diagnostics and warnings of each fit."""
    console = Console(soft_wrap=True)
    for one in fits:
        _print_fit(console, one)


def _print_fit(console: Console, one: Fit) -> None:
    title = f"{one.law}: {one.form.formula}   ({one.sizes}, y = {one.y})"
    console.print(escape(title if one.group is None else f"{title}   group {one.group}"), style="bold")
    grid = _grid("parameter", "value", f"{one.level:.4g} interval")
    for name, parameter in one.parameters.items():
        grid.add_row(name, f"{parameter.value:.4g}", _limits(parameter.low, parameter.high))
    console.print(grid)
    weight = "" if one.aicc_weight is None else f"   AICc weight {one.aicc_weight:.3f}"
    console.print(f"n {one.n}   R2 {shown(one.r2)}   AICc {shown(one.aicc)}{weight}")
    if one.holdout_rmsle is not None:
        console.print(f"hold-out error {shown(one.holdout_rmsle)} of ln y, {shown(one.null_rmsle)} if the value at the "
                      "next size is repeated")  # fmt: skip
    if one.optimum is not None:
        console.print("{kind} {y:.4g} at x = {x:.4g} ({low:.4g} .. {high:.4g})".format(**one.optimum))
    print_warnings(console, one.warnings)
    console.print()


def print_predictions(fits: Sequence[Mapping[str, Any]], warnings: Sequence[Sequence[str]], level: float) -> None:
    """What one more run is expected to measure at given sizes, of each fit (as JSON says it), and its warnings."""
    console = Console(soft_wrap=True)
    sizes = list(fits[0]["x"])
    groups = any(one["group"] is not None for one in fits)
    grid = _grid("law", *(["group"] if groups else []), *sizes, "prediction", f"{level:.4g} interval of one more run")
    for one in fits:
        for row in one["predictions"]:
            grid.add_row(
                escape(one["law"]), *([escape(str(one["group"]))] if groups else []),
                *(f"{row['x'][name]:.6g}" for name in sizes), shown(row["value"]), _limits(row["low"], row["high"]),
            )  # fmt: skip
    console.print(grid)
    for one, said in zip(fits, warnings, strict=True):
        print_warnings(console, said if one["group"] is None else [f"group {one['group']}: {word}" for word in said])


def print_comparison(result: pd.DataFrame, by: str, interval: float) -> None:
    """Measures downwards, groups side by side, or many groups downwards; the best mean of a measure is bold."""
    console = Console(soft_wrap=True)
    groups = list(dict.fromkeys(sorted(result["group"], key=lambda group: (str(type(group)), group))))
    cells = {}
    labels = []
    for measure, rows in result.groupby("measure", sort=False):
        column = COLUMNS.get(str(measure))
        better = column.better if column is not None else None
        best = None if better is None else rows["mean"].min() if better == "lower" else rows["mean"].max()
        labels.append(column.axis if column is not None else str(measure))
        for row in rows.itertuples():
            half = "" if row.low != row.low else f" ± {(row.high - row.low) / 2:.2g}"
            text = f"{row.mean:.4g}{half} (n {row.n})"
            cells[labels[-1], row.group] = f"[bold]{text}[/bold]" if row.mean == best and len(rows) > 1 else text
    if len(groups) > _SIDE_BY_SIDE and len(labels) < len(groups):
        grid = Table(escape(by), *map(escape, labels))
        for group in groups:
            grid.add_row(_named(group), *(cells.get((label, group), "") for label in labels))
    else:
        grid = Table(escape(by), *(_named(group) for group in groups))
        for label in labels:
            grid.add_row(escape(label), *(cells.get((label, group), "") for group in groups))
    console.print(grid)
    console.print(f"mean ± half of the {interval:.4g} interval of the mean over rows; bold: the best mean")
    print_warnings(console, result.attrs["warnings"])


def print_warnings(console: Console, warnings: Sequence[str]) -> None:
    """Each warning on a line of its own."""
    for warning in warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}")


def _named(group: object) -> str:
    return escape(f"{group:.6g}" if isinstance(group, float) else str(group))


def _grid(first: str, *numbers: str) -> Table:
    grid = Table(first, *(escape(name) for name in numbers))
    for column in grid.columns[1:]:
        column.justify = "right"
    return grid


def _limits(low: float | None, high: float | None) -> str:
    return f"{shown(low)} .. {shown(high)}"
