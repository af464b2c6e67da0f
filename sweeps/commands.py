"""Subcommands of sweeps: functions that Typer turns into ``tokscale run`` and its kin; all else is imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sweeps.planning import Plan
    from sweeps.store import Store

Runs = Annotated[Path, typer.Option("--runs", envvar="TOKSCALE_RUNS", help="The runs folder.")]
Spec = Annotated[Path, typer.Argument(help="The sweep's YAML file.", show_default=False)]
Sweep = Annotated[str, typer.Argument(help="A sweep's name, or its YAML file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes at work; by default what cores and memory allow."),
]
RUNS = Path("runs")


def quickstart(runs: Runs = RUNS, workers: Workers = None) -> None:
    """Run a small sweep on procedural images on this machine, to a report; no downloads."""
    _run(Path(__file__).parent / "specs" / "quickstart.yaml", runs, workers, command="tokscale quickstart")


def run(spec: Spec, runs: Runs = RUNS, workers: Workers = None) -> None:
    """Plan a sweep, run what is missing on this machine, collect the results and write the report."""
    _run(spec, runs, workers, command=f"tokscale run {spec}")


def plan(spec: Spec, runs: Runs = RUNS, as_json: Json = False) -> None:
    """Show a sweep's trials, stages, sizes and cost; changes nothing."""
    from sweeps import tables
    from sweeps.planning import make_plan
    from sweeps.store import Store

    made = make_plan(spec, Store(runs))
    if as_json:
        typer.echo(tables.plan_json(made))
    else:
        tables.console().print(tables.plan_table(made))


def status(sweep: Sweep, runs: Runs = RUNS, as_json: Json = False) -> None:
    """Show how far a sweep is: its stages by state, and its failures grouped by cause."""
    from sweeps import tables

    made, _ = _of_sweep(sweep, runs)
    if as_json:
        typer.echo(tables.status_json(made))
    else:
        tables.console().print(tables.status_table(made))


def logs(
    sweep: Sweep,
    trial: Annotated[str, typer.Argument(help="A trial's id or label, or the beginning of one.", show_default=False)],
    kind: Annotated[
        str | None, typer.Option("--kind", help="The kind of stage; by default the failed or running one.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines to show.")] = 40,
    runs: Runs = RUNS,
) -> None:  # fmt: skip
    """Show the end of the log of one trial's stage."""
    from sweeps import inspection
    from sweeps.results import tail

    made, store = _of_sweep(sweep, runs)
    path = inspection.log_path(made, store, trial, kind)
    typer.echo(f"{path}\n{tail(path, lines)}")


def results(
    sweep: Sweep,
    runs: Runs = RUNS,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write a .csv, .parquet or .json file instead of printing."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print or write the results table: one row per trial."""
    from sweeps import tables
    from sweeps.results import collect, write_table

    made, store = _of_sweep(sweep, runs)
    table = collect(made, store)
    if output is not None:
        write_table(table, output)
        typer.echo(f"{len(table)} trials, {len(table.columns)} columns: {output}")
    elif as_json:
        typer.echo(table.to_json(orient="records", indent=1))
    else:
        tables.console().print(tables.results_table(table))


def schema() -> None:
    """Print the JSON Schema of a sweep spec, for editors."""
    import json

    from sweeps.schema import spec_schema

    typer.echo(json.dumps(spec_schema(), indent=1))


def presets(as_json: Json = False) -> None:
    """List the sizes that have names, with their parameters."""
    from sweeps import tables

    if as_json:
        typer.echo(tables.presets_json())
    else:
        for table in tables.preset_tables():
            tables.console().print(table)


def _run(spec: Path, runs: Path, workers: int | None, *, command: str) -> None:
    from sweeps.orchestration import run_here

    if not run_here(spec, runs, workers, command=command):
        raise typer.Exit(1)


def _of_sweep(sweep: str, runs: Path) -> tuple[Plan, Store]:
    """The plan of a sweep that was started in this runs folder, or of a spec file."""
    from sweeps.planning import make_plan
    from sweeps.store import Store
    from tokscale.errors import UsageError, one_of

    store = Store(runs)
    names = store.sweep_names()
    if sweep in names:
        return make_plan(store.sweep(sweep) / "spec.yaml", store), store
    if sweep.endswith((".yaml", ".yml")):
        return make_plan(Path(sweep), store), store
    raise UsageError("no such sweep in this runs folder", where=str(runs), given=sweep,
                     allowed=one_of(names, sweep) if names else "none was started here yet")  # fmt: skip
