"""The command ``tokscale plot``.

Only typer is imported at the top: the front door reads this module for ``--help``, which must stay quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_TABLE = typer.Argument(
    metavar="TABLE|SWEEP", help="A csv, parquet or json file, published:NAME, or a sweep's name or folder."
)
_KIND = typer.Option(
    metavar="KIND",
    help="curve, heatmap, plane, frontier, optimum, rate-distortion, residuals, losses or pictures.",
)
_Z = typer.Option(
    metavar="COL",
    help="heatmap: the measure. plane: sizes that arrows follow. frontier: the two sizes, as FIRST,SECOND. "
    "losses: sizes to colour by. pictures: pictures, originals or samples.",
)
_OUTPUT = typer.Option("--output", "-o", help="Figure to write: .png, .svg or .pdf.")
_LAW = typer.Option(metavar="NAME", help="Law to fit and draw; best takes the best by AICc; points alone without one.")
_EXCLUDE = typer.Option(metavar="EXPR", help="Rows to mark as crosses and leave out of the fit.")
_PUBLISHED = typer.Option(
    "--published", help="Published points to lay under your own; may be repeated (vitok, vitok-latent, gigatok)."
)
_RUNS = typer.Option("--runs", envvar="TOKSCALE_RUNS", help="The folder with stages and sweeps.")


def plot_command(
    table: Annotated[str, _TABLE],
    x: Annotated[str | None, typer.Option("--x", metavar="COL", help="Column of sizes, or the first measure.")] = None,
    y: Annotated[str | None, typer.Option("--y", metavar="COL", help="Column of the measure.")] = None,
    z: Annotated[str | None, _Z] = None,
    output: Annotated[Path, _OUTPUT] = Path("plot.png"),
    kind: Annotated[str, _KIND] = "curve",
    law: Annotated[str | None, _LAW] = None,
    by: Annotated[str | None, typer.Option(metavar="COL", help="Column whose values are drawn apart.")] = None,
    where: Annotated[str | None, typer.Option(metavar="EXPR", help='Rows to draw, such as "seed == 0".')] = None,
    exclude: Annotated[str | None, _EXCLUDE] = None,
    style: Annotated[str, typer.Option(help="paper or slides.")] = "paper",
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Inches, as 3.35x2.5.")] = None,
    published: Annotated[list[str] | None, _PUBLISHED] = None,
    runs: Annotated[Path, _RUNS] = Path("runs"),
) -> None:
    """Draw a table or a sweep: scaling curves with fitted laws, heat maps, planes, frontiers, training curves.

    The file's ending says the format. What the figure leaves out, and why, is printed to standard error.
    """
    from analysis.figures.plot import plot

    drawn = plot(
        table, output, kind=kind, x=x, y=y, z=z, law=law, by=by, where=where, exclude=exclude, look=style, size=size,
        overlays=published or (), runs=runs,
    )  # fmt: skip
    for note in drawn.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(drawn.path)
