"""The commands ``tokscale plot`` and ``tokscale report``.

Only typer is imported at the top: the front door reads this module for ``--help``, which must stay quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_TABLE = typer.Argument(help="A csv, parquet or json file with one row a trial, or published:NAME.")
_PUBLISHED = typer.Option("--published", help="Published points to lay under your own; may be repeated (vitok).")
_RUNS = typer.Option("--runs", envvar="TOKSCALE_RUNS", help="The folder with stages and sweeps.")


def plot_command(
    table: Annotated[str, _TABLE],
    x: Annotated[str, typer.Option("--x", help="Column of sizes.")],
    y: Annotated[str, typer.Option("--y", help="Column of the measure.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Figure to write: .png, .svg or .pdf.")] = Path(
        "plot.png"
    ),
    law: Annotated[str | None, typer.Option(help="Law to fit and draw; points alone without one.")] = None,
    by: Annotated[str | None, typer.Option(help="Column whose values are drawn apart.")] = None,
    where: Annotated[str | None, typer.Option(help='Rows to draw, such as "seed == 0".')] = None,
    style: Annotated[str, typer.Option(help="paper or slides.")] = "paper",
    published: Annotated[list[str] | None, _PUBLISHED] = None,
) -> None:
    """Draw a measure against a size, with a fitted law and its bands; the file's ending says the format."""
    from analysis.figures.plot import plot

    written = plot(table, x, y, output, law=law, by=by, where=where, look=style, overlays=published or ())
    typer.echo(written)


def report_command(
    sweep: Annotated[str, typer.Argument(help="Name of a sweep, or its folder.")],
    runs: Annotated[Path, _RUNS] = Path("runs"),
    published: Annotated[list[str] | None, _PUBLISHED] = None,
) -> None:
    """Write one self-contained HTML page about a sweep, and its figures beside it."""
    from analysis.report import write_report
    from analysis.report.load import find_sweep

    typer.echo(write_report(find_sweep(sweep, runs), published=published or ()))
