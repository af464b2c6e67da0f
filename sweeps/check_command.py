"""``tokscale cluster check NAME``: does a profile of clusters.yaml work, tried with a job of its own."""

from __future__ import annotations

import contextlib
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.commands import RUNS, Json, Runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from slurm.check import ClusterCheck
    from slurm.findings import Finding

MODULES = ("tokscale", "torch", "lightning", "submitit")
_STYLES = {"works": "green", "does not": "red", "could not be tried": "yellow"}


class Action(str, Enum):
    """What can be done with a cluster."""

    check = "check"


def cluster(
    action: Annotated[Action, typer.Argument(help="What to do: check.", show_default=False)],
    name: Annotated[str, typer.Argument(help="A profile of clusters.yaml.", show_default=False)],
    patience: Annotated[
        float, typer.Option("--patience", min=1, help="Seconds that the job may wait before it starts.")
    ] = 120,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Check a cluster's profile: submit a tiny job, say what works, what does not, and what to do about it."""
    import json
    import uuid
    from dataclasses import asdict

    from slurm.check import ClusterCheck
    from sweeps import tables
    from sweeps.profiles import profile_of
    from sweeps.submission import PACKAGES

    existed = runs.exists()
    folder = runs.absolute() / f"check-{uuid.uuid4().hex[:8]}"
    screen = tables.console()
    check = ClusterCheck(profile_of(name), folder, PACKAGES, MODULES, patience)
    try:
        findings = _watched(check, screen, name)
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                runs.rmdir()
    works = all(finding.state == "works" for finding in findings if finding.matters)
    if as_json:
        content = {"cluster": name, "works": works, "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(content, indent=1))
    else:
        screen.print(_table(findings))
        screen.print(f"{name} works" if works else f"{name} does not work as its profile says")
    if not works:
        raise typer.Exit(1)


def _watched(check: ClusterCheck, screen: Console, name: str) -> list[Finding]:
    """The findings of a check, of which a terminal shows the newest."""
    findings = []
    with contextlib.ExitStack() as stack:
        shown = stack.enter_context(screen.status(f"checking {name}")) if screen.is_terminal else None
        # Closed, so that Ctrl-C cleans up too, wherever it strikes.
        for finding in stack.enter_context(contextlib.closing(check.findings())):
            findings.append(finding)
            if shown is not None:
                shown.update(f"checking {name}: {finding.subject} {finding.state}")
    return findings


def _table(findings: Sequence[Finding]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for name in ("", "", "seen", "remedy"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        remedy = finding.remedy if finding.state != "works" else ""
        table.add_row(
            finding.subject, Text(finding.state, style=_STYLES[finding.state]), Text(finding.seen), Text(remedy)
        )
    return table
