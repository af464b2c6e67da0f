"""The commands ``tokscale fit`` and ``tokscale compare``.

Only typer is imported at the top: the front door reads this module for ``--help``, which must stay quick.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analysis.fitting import Fit

Table = Annotated[str, typer.Argument(metavar="TABLE", help="A csv, parquet or json file, or published:NAME.")]
Where = Annotated[
    str | None, typer.Option(metavar="EXPR", help="Rows to use, as \"dataset == 'coco' and patch >= 16\".")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Level = Annotated[float, typer.Option(metavar="SHARE", help="Level of the intervals.")]


def fit_command(
    table: Table,
    x: Annotated[list[str], typer.Option(metavar="COL", help="A column of sizes.")],
    y: Annotated[str, typer.Option(metavar="COL", help="The column of a measure.")],
    law: Annotated[
        str | None, typer.Option(metavar="NAME", help="A law; all that apply, best first, if left out.")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="COL", help="Fit each value of this column apart.")] = None,
    where: Where = None,
    interval: Level = 0.95,
    as_json: Json = False,
) -> None:
    """Fit a law to columns of a table, or choose among all laws.

    Repeated seeds of one configuration are averaged before the fit. Rows that cannot be used are counted in the
    warnings.
    """
    from analysis.fitting import Fit, fit
    from analysis.table import load_table

    found = fit(load_table(table), law=law, x=x, y=y, by=by, where=where, interval=interval)
    if as_json:
        content = found.to_json() if isinstance(found, Fit) else [one.to_json() for one in found]
        typer.echo(json.dumps(_plain(content), indent=2, allow_nan=False, default=str))
        return
    from rich.console import Console

    console = Console(soft_wrap=True)
    for one in [found] if isinstance(found, Fit) else found:
        _print_fit(console, one)


def compare_command(
    table: Table,
    by: Annotated[str, typer.Option(metavar="COL", help="The column whose values stand side by side.")],
    y: Annotated[list[str] | None, typer.Option(metavar="COL", help="A measure; all of the table if left out.")] = None,
    where: Where = None,
    interval: Level = 0.95,
    as_json: Json = False,
) -> None:
    """Put groups of trials side by side, with intervals over their seeds and rows."""
    from analysis.comparison import compare
    from analysis.table import load_table, select

    result = compare(select(load_table(table), where), by=by, y=y, interval=interval)
    if as_json:
        typer.echo(json.dumps(_plain(result.to_dict("records")), indent=2, allow_nan=False, default=str))
        return
    _print_comparison(result, by, interval)


def _plain(value: Any) -> Any:
    """Numbers that JSON does not know: NaN as None, infinities as text."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _print_fit(console: Console, one: Fit) -> None:
    from rich.markup import escape
    from rich.table import Table as RichTable

    from analysis.fitting import shown
    from analysis.laws import LAWS

    title = f"{one.law}: {LAWS[one.law].formula}   (x = {', '.join(one.x)}, y = {one.y})"
    console.print(escape(title if one.group is None else f"{title}   group {one.group}"), style="bold")
    grid = RichTable("parameter", "value", f"{one.interval:.4g} interval")
    for column in grid.columns[1:]:
        column.justify = "right"
    for name, parameter in one.parameters.items():
        grid.add_row(name, f"{parameter.value:.4g}", f"{shown(parameter.low)} .. {shown(parameter.high)}")
    console.print(grid)
    console.print(
        f"n {one.n}   R2 {shown(one.r2)}   AICc {shown(one.aicc)}   hold-out error {shown(one.holdout_rmsle)} (of ln y)"
    )
    if one.optimum is not None:
        console.print("{kind} {y:.4g} at x = {x:.4g} ({low:.4g} .. {high:.4g})".format(**one.optimum))
    for warning in one.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    console.print()


def _print_comparison(result: pd.DataFrame, by: str, interval: float) -> None:
    """Measures downwards, groups side by side; the best mean of a measure is bold."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    from tokscale.record import COLUMNS

    console = Console(soft_wrap=True)
    groups = list(dict.fromkeys(sorted(result["group"], key=lambda group: (str(type(group)), group))))
    grid = RichTable(escape(by), *(escape(str(group)) for group in groups))
    for measure, rows in result.groupby("measure", sort=False):
        column = COLUMNS.get(str(measure))
        better = column.better if column is not None else None
        best = None if better is None else rows["mean"].min() if better == "lower" else rows["mean"].max()
        cells = {}
        for row in rows.itertuples():
            half = "" if row.low != row.low else f" ± {(row.high - row.low) / 2:.2g}"
            text = f"{row.mean:.4g}{half} (n {row.n})"
            cells[row.group] = f"[bold]{text}[/bold]" if row.mean == best and len(rows) > 1 else text
        label = column.axis if column is not None else str(measure)
        grid.add_row(escape(label), *(cells.get(group, "") for group in groups))
    console.print(grid)
    console.print(f"mean ± half of the {interval:.4g} interval of the mean over rows; bold: the best mean")
    for warning in result.attrs["warnings"]:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}")
