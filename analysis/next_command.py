"""The command ``tokscale next``: which trials of a spec to run next for a prediction, within a budget.

Only typer is imported at the top: the front door reads this module for ``--help``, which must stay quick.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from analysis.next_trials.answer import Next

Spec = Annotated[Path, typer.Argument(help="The sweep's YAML file, with a grid.", show_default=False)]
Words = Annotated[
    str,
    typer.Option(metavar="WORDS", help='"gfd at bottleneck_floats=8192", "optimum of gfd over bottleneck_floats", '
                                       'or "exponent of rfd over tokenizer_params".'),
]  # fmt: skip
Budget = Annotated[float, typer.Option(metavar="HOURS", help="GPU hours that may be spent.")]
LawName = Annotated[str | None, typer.Option(metavar="NAME", help="A law; the best by AICc if left out.")]
Columns = Annotated[list[str] | None, typer.Option(metavar="COL", help="Columns of the law, if not the target's.")]
Where = Annotated[str | None, typer.Option(metavar="EXPR", help='Trials that count, as "seed == 0 and patch >= 16".')]
Level = Annotated[float, typer.Option(metavar="SHARE", help="Level of the intervals.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write a spec of exactly these trials, to submit.")]
Runs = Annotated[Path, typer.Option("--runs", envvar="TOKSCALE_RUNS", help="The runs folder.")]
Cluster = Annotated[
    str | None, typer.Option("--cluster", help="A profile of clusters.yaml, whose hours count.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def next_command(
    spec: Spec, target: Words, budget: Budget, law: LawName = None, x: Columns = None, where: Where = None,
    interval: Level = 0.95, output: Output = None, runs: Runs = Path("runs"), cluster: Cluster = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Choose the trials that narrow a prediction the most within a budget of GPU hours.

    Trials of the grid that are not done are the candidates. The table has the interval as it is expected to be after
    each trial; nothing is submitted.
    """
    import pandas as pd

    from analysis.next_trials.answer import next_trials
    from tokscale import front

    offered = front.service("candidates")(spec, runs, cluster)
    found = next_trials(
        pd.DataFrame(offered["results"]), pd.DataFrame(offered["candidates"]), target, budget=budget, law=law,
        x=x or (), where=where, interval=interval,
    )  # fmt: skip
    text = front.service("spec_of_trials")(spec, [step.trial for step in found.steps]) if found.steps else ""
    if output is not None and text:
        output.write_text(text, encoding="utf-8")
    if as_json:
        answer = {"sweep": offered["sweep"], **found.to_json(), "hours": offered["words"], "spec": text}
        typer.echo(json.dumps(answer, indent=2, allow_nan=False))
        return
    _print(found, str(offered["words"]))
    if found.steps:
        typer.echo(f"written: {output}" if output is not None else "-o next.yaml writes a spec of these trials")


def _print(found: Next, hours: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from analysis.fitted import shown
    from analysis.next_trials.answer import hours_shown

    console = Console(soft_wrap=True, highlight=False)
    title = f"{found.target}" if found.law is None else f"{found.target}   ({found.law}, {found.n} configurations)"
    console.print(escape(title), style="bold")
    now = f"now {shown(found.value)} ({shown(found.low)} .. {shown(found.high)})"
    console.print(now if found.value is not None else "now not known")
    grid = Table("trial", "tokenizer", *found.target.x, "hours", "all hours", f"{found.level:.4g} interval", "width")
    for column in grid.columns[2:]:
        column.justify = "right"
    spent = 0.0
    for step in found.steps:
        spent += step.hours
        ends = "-" if step.low is None else f"{shown(step.low)} .. {shown(step.high)}"
        share = "-" if step.share is None else f"{step.share:.0%}"
        sizes = (f"{step.sizes[name]:g}" for name in found.target.x)
        grid.add_row(
            step.trial[:12], escape(step.label), *sizes, hours_shown(step.hours), hours_shown(spent), ends, share
        )
    if found.steps:
        console.print(grid)
    console.print(escape(found.sentence()))
    console.print(f"hours: {escape(hours)}; intervals: as expected if the law is true, in linear approximation")
    for warning in found.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}")
