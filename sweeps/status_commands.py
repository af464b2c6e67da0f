"""``tokscale status`` and ``tokscale logs``: what a person sees of a sweep; all else is imported inside."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.commands import ASKING, RUNS, Json, Runs, Sweep, say
from tokscale.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.inspection import Look
    from sweeps.watching import Observer


def status(
    sweep: Sweep,
    runs: Runs = RUNS,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay until nothing is queued or running; 0: all trials are done.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how far a sweep is: its trials by stage, and its failures by cause with remedy and log."""
    from sweeps import tables
    from sweeps.inspection import open_sweep
    from sweeps.patience import telling
    from sweeps.status_page import picture, status_json
    from sweeps.watching import FIRST_PATIENCE, observe

    if watch and as_json:
        raise UsageError("--watch shows a picture", given="--watch --json", allowed="one of the two")
    plan, store = open_sweep(sweep, runs)
    observer, console = observe(plan, store), tables.console()
    if watch:
        look = _watched(observer, console)
    else:
        with telling(ASKING, say):
            look = observer.look(FIRST_PATIENCE)
    if as_json:
        typer.echo(status_json(look, store))
    else:
        console.print(picture(look, console, store))
    if watch and not look.complete:
        raise typer.Exit(1)


def logs(
    sweep: Sweep,
    trial: Annotated[
        str,
        typer.Argument(help="A trial's number in the status table, its id or label, or the beginning of one.",
                       show_default=False),
    ],
    kind: Annotated[
        str | None, typer.Option("--kind", help="The kind of stage; by default the failed or running one.")
    ] = None,
    rank: Annotated[int, typer.Option("--rank", min=0, help="Which process of a job of several.")] = 0,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines to show.")] = 40,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the stage has ended.")] = False,
    runs: Runs = RUNS,
) -> None:  # fmt: skip
    """Show the end of the log of one trial's stage: of its newest attempt, or of the launcher if it never began."""
    from sweeps.inspection import find_log, open_sweep
    from sweeps.patience import telling
    from sweeps.results import tail
    from sweeps.watching import FIRST_PATIENCE, observe
    from sweeps.watching import follow as follow_log

    plan, store = open_sweep(sweep, runs)
    observer = observe(plan, store)
    with telling(ASKING, say):
        look = observer.look(FIRST_PATIENCE)
    key, path = find_log(look, store, trial, kind, rank)
    typer.echo(f"{path}\n{tail(path, lines)}")
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            follow_log(observer, key, path, lambda text: typer.echo(text, nl=False), rank)


def _watched(observer: Observer, console: Console) -> Look:
    """Watch to the end; the person may leave before, by Ctrl-C."""
    from sweeps.progress import Watch
    from sweeps.watching import watch

    try:
        with Watch(observer.plan, observer.store, 1, console) as display:
            return watch(observer, display)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
