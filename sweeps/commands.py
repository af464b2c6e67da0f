"""Subcommands of sweeps: functions that Typer turns into ``tokscale run`` and its kin; all else is imported inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sweeps.hints import DEFAULT_RUNS

Runs = Annotated[Path, typer.Option("--runs", envvar="TOKSCALE_RUNS", help="The runs folder.")]
Spec = Annotated[Path, typer.Argument(help="The sweep's YAML file.", show_default=False)]
Sweep = Annotated[str, typer.Argument(help="A sweep's name, or its YAML file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes at work; by default what cores and memory allow."),
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", help="A profile of clusters.yaml, or local; by default the spec's.", show_default=False),
]
Small = Annotated[
    bool, typer.Option("--small", help="The spec's small form, which a laptop finishes in minutes, as NAME-small.")
]
Profile = Annotated[
    bool,
    typer.Option(
        "--profile", help="Record some steps of every stage that runs, and leave a page of where its time goes."
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile transformer blocks that are trained or encode: results are equal up to rounding.",
    ),
]
RUNS = DEFAULT_RUNS
ASKING = "waiting for the cluster to answer, half a minute at most ..."


def tell_stages(*, profile: bool, compiled: bool) -> None:
    """Have the stages that are started from here profile themselves, or compile their blocks: jobs inherit it."""
    from tokscale.stage import COMPILE_VARIABLE, PROFILE_VARIABLE

    for variable, wanted in ((PROFILE_VARIABLE, profile), (COMPILE_VARIABLE, compiled)):
        if wanted:
            os.environ[variable] = "1"


def say(words: str) -> None:
    """Tell the person at the terminal something that is not the command's answer."""
    typer.echo(words, err=True)


def quickstart(runs: Runs = RUNS, workers: Workers = None) -> None:
    """Run a small sweep on procedural images on this machine, to a report; no downloads."""
    _run(Path(__file__).parent / "specs" / "quickstart.yaml", runs, workers, command="tokscale quickstart")


def run(
    spec: Spec, runs: Runs = RUNS, workers: Workers = None, cluster: Cluster = None, small: Small = False,
    profile: Profile = False, compiled: Compile = False,
) -> None:  # fmt: skip
    """Plan a sweep, run what is missing, here or on a cluster, collect the results and write the report."""
    from sweeps.spec import load_spec

    tell_stages(profile=profile, compiled=compiled)
    name = load_spec(spec, small=small)[0].cluster if cluster is None else cluster
    command = f"tokscale run {spec}" + " --small" * small
    if name is None or name == "local":
        _run(spec, runs, workers, command=command, small=small)
        return
    from sweeps.cluster_run import run_on_cluster
    from sweeps.profiles import profile_of

    if not run_on_cluster(spec, runs, profile_of(name), command=f"{command} --cluster {name}", small=small):
        raise typer.Exit(1)


def plan(spec: Spec, cluster: Cluster = None, runs: Runs = RUNS, small: Small = False, as_json: Json = False) -> None:
    """Show a sweep's trials, stages, sizes and cost, and on a cluster its hours and arrays; changes nothing."""
    from sweeps import plan_tables, tables
    from sweeps.needed_weights import words_on_absent_weights
    from sweeps.planning import make_plan
    from sweeps.store import Store

    store = Store(runs)
    made, there = make_plan(spec, store, small=small), None
    name = made.spec.cluster if cluster is None else cluster
    if name is not None and name != "local":
        from sweeps.cluster_plan import plan_on_cluster
        from sweeps.profiles import profile_of

        made, there = plan_on_cluster(made, store, profile_of(name))
    if as_json:
        typer.echo(plan_tables.plan_json(made, there))
    else:
        tables.console().print(plan_tables.plan_table(made, there))
    for words in words_on_absent_weights(made):
        say(words)


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
    from sweeps.inspection import open_sweep
    from sweeps.results import collect, write_table

    made, store = open_sweep(sweep, runs)
    if made.missing():  # what waits or runs on a cluster is known there only
        from sweeps.patience import telling
        from sweeps.watching import FIRST_PATIENCE, observe

        with telling(ASKING, say):
            look = observe(made, store).look(FIRST_PATIENCE)
        made = look.plan
        for words in look.trouble:
            say(words)
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


def _run(spec: Path, runs: Path, workers: int | None, *, command: str, small: bool = False) -> None:
    from sweeps.orchestration import run_here

    if not run_here(spec, runs, workers, command=command, small=small):
        raise typer.Exit(1)
