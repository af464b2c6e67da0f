"""Subcommands that speak to a cluster: ``submit``, ``cancel``, ``retry``; all else is imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.commands import ASKING, RUNS, Cluster, Compile, Json, Profile, Runs, Small, Spec, Sweep, say, tell_stages

if TYPE_CHECKING:
    from slurm.profiles import ClusterProfile
    from sweeps.planning import Plan
    from sweeps.store import Store

Trial = Annotated[
    str | None, typer.Argument(help="A trial's number, id or label, or the beginning of one; by default all.",
                               show_default=False)
]  # fmt: skip


def submit(
    spec: Spec,
    cluster: Cluster = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the sbatch files; change nothing.")] = False,
    runs: Runs = RUNS,
    small: Small = False,
    profile: Profile = False,
    compiled: Compile = False,
    as_json: Json = False,
) -> None:
    """Submit to a cluster what a sweep wants and nobody has done or has in hand; safe to repeat at any time."""
    from sweeps import submission_words
    from sweeps.profiles import profile_of
    from sweeps.rounds import rounds_of
    from sweeps.spec import load_spec
    from sweeps.store import Store
    from sweeps.submission import submit as hand_in

    tell_stages(profile=profile, compiled=compiled)
    store, written = Store(runs), load_spec(spec, small=small)[0]
    there = profile_of(written.cluster if cluster is None else cluster)
    with rounds_of(spec, store, there, small=small) as rounds:
        # Of a search, the points that may be open at a time: `run` asks for more as they come in.
        plan = rounds.plan if dry_run else rounds.advance(rounds.plan.statuses) or rounds.plan
        made = hand_in(plan, store, there, dry_run=dry_run, say=say)
    typer.echo(submission_words.as_json(made) if as_json else submission_words.report(made))
    if made.remaining:
        raise typer.Exit(1)


def cancel(
    sweep: Sweep,
    trial: Trial = None,
    where: Annotated[
        str | None, typer.Option("--where", help="Only trials for which this holds, as in a spec.", show_default=False)
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Cancel a sweep, one of its trials, or those for which a condition holds; they stay so until they are retried."""
    from sweeps import control, submission_words
    from sweeps.cluster import found_on_cluster, submitting_alone
    from sweeps.inspection import open_sweep
    from sweeps.patience import telling

    plan, store = open_sweep(sweep, runs)
    trials = control.select_trials(plan, trial, where)
    with submitting_alone(store, say):
        with telling(ASKING, say):
            executor, plan, jobs = found_on_cluster(plan, store, _last_profile(plan, store))
        made = control.plan_cancellation(plan, store, trials, plan.statuses, jobs)
        control.cancel(made, store, executor)
    typer.echo(submission_words.cancelled(plan.spec.name, len(trials), made, store.root))


def retry(
    sweep: Sweep,
    trial: Trial = None,
    cause: Annotated[
        str | None, typer.Option("--cause", help="Only failures of this cause, or `cancelled`.", show_default=False)
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Give what failed or was cancelled another chance: all of a sweep, one trial, or one cause; then submit it."""
    from sweeps import control, submission_words
    from sweeps.cluster import found_on_cluster, submitting_alone
    from sweeps.hints import typed
    from sweeps.history import read_history
    from sweeps.inspection import open_sweep
    from sweeps.patience import telling
    from sweeps.profiles import profile_of
    from sweeps.store import SPEC_NAME
    from sweeps.submission import submit as hand_in

    plan, store = open_sweep(sweep, runs)
    trials = control.select_trials(plan, trial, None)
    store.check_writable()
    with submitting_alone(store, say):
        with telling(ASKING, say):
            executor, plan, jobs = found_on_cluster(plan, store, _last_profile(plan, store))
        forgiven = control.forgive(plan, store, trials, plan.statuses, cause)
        freed = control.end_hopeless(plan, store, plan.statuses, jobs, executor)
        typer.echo(submission_words.forgiven(plan.spec.name, len(forgiven), freed))
    name = read_history(store.sweep(plan.spec.name)).last("cluster")
    if name is None:
        typer.echo(f"next: {typed(f'tokscale run {store.sweep(plan.spec.name) / SPEC_NAME}', store.root)}")
        return
    made = hand_in(plan, store, profile_of(name), say=say)
    typer.echo(submission_words.report(made))
    if made.remaining:
        raise typer.Exit(1)


def _last_profile(plan: Plan, store: Store) -> ClusterProfile:
    """The profile that a sweep was last submitted with; a bare one where it is gone, which asks and cancels as well."""
    from slurm.profiles import ClusterProfile, load_profiles
    from sweeps.history import read_history

    name = read_history(store.sweep(plan.spec.name)).last("cluster") or plan.spec.cluster or "unknown"
    return load_profiles().get(name, ClusterProfile(name))
