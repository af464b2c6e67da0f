"""The command ``tokscale report``.

Only typer is imported at the top: the front door reads this module for ``--help``, which must stay quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report_command(
    sweep: Annotated[
        str | None,
        typer.Argument(help="Name of a sweep, or its folder; none for a report of published points.",
                       show_default=False),
    ] = None,
    runs: Annotated[
        Path, typer.Option("--runs", envvar="TOKSCALE_RUNS", help="The folder with stages and sweeps.")
    ] = Path("runs"),
    published: Annotated[
        list[str] | None,
        typer.Option("--published", help="Published points to lay under a sweep's own, or, without a sweep, to report "
                     "on (vitok, gigatok); may be repeated."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="html, md or pdf.")] = "html",
    style: Annotated[str, typer.Option("--style", help="Of the figures: paper or slides.")] = "paper",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where a report of published points goes.")
    ] = Path("."),
) -> None:  # fmt: skip
    """Write one self-contained page about a sweep, its figures beside it, or about the points of published studies."""
    from analysis.report import write_report
    from analysis.report.load import find_sweep
    from tokscale.errors import UsageError

    if sweep is not None:
        typer.echo(write_report(find_sweep(sweep, runs), published=published or (), form=form, look=style))
        return
    from analysis.report.published import STUDIES, write_published
    from tokscale.errors import one_of

    if not published:
        raise UsageError("a report is of a sweep or of published points",
                         allowed=f"the name of a sweep, or --published with {one_of(STUDIES)}")  # fmt: skip
    for name in published:
        typer.echo(write_published(name, output, form=form, look=style))
