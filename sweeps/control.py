"""``tokscale cancel`` and ``tokscale retry``: what a person takes back, and what they give another chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slurm.batch import SlurmExecutor
from slurm.executor import JobStatus
from slurm.lines import read_lines
from sweeps import marks
from sweeps.cluster import cluster_errors_as_ours
from sweeps.grid import Trial, flatten
from sweeps.history import write_history
from sweeps.inspection import find_trial
from sweeps.planning import Plan
from sweeps.standing import standings
from sweeps.store import TRIALS_NAME, StageState, StageStatus, Store
from tokscale import cost
from tokscale.errors import ConfigError, UsageError, one_of
from tokscale.expressions import compile_expression
from tokscale.stage import StageFolder

_OVER = (StageState.done, StageState.failed, StageState.cancelled)


@dataclass(frozen=True)
class Cancellation:
    """What is to be cancelled: stages to mark, jobs to end, stages that stay because another trial wants them (by who
    wants them), and stages that processes outside the cluster work on (by their owner)."""

    mark: tuple[str, ...]
    jobs: tuple[str, ...]
    shared: Mapping[str, int]
    elsewhere: Mapping[str, int]


def select_trials(plan: Plan, words: str | None, where: str | None) -> list[Trial]:
    """The trial that a person names, or those for which a condition holds, or all; raises ``UsageError`` for none."""
    trials = [find_trial(plan, words)] if words is not None else list(plan.trials)
    if where is None:
        return trials
    condition = compile_expression(where)
    chosen = []
    for trial in trials:
        values = {**flatten(trial.config), **trial.sizes, "trial": trial.id, "label": cost.label(trial.config)}
        truth = condition.evaluate(partial(_value, values, where))
        if not isinstance(truth, bool):
            raise ConfigError("a condition is neither true nor false", where="--where", given=f"{where} is {truth!r}",
                              allowed="for example seed == 1")  # fmt: skip
        if truth:
            chosen.append(trial)
    if not chosen:
        raise UsageError("the condition holds for no trial", where="--where", given=where,
                         allowed=f"a condition on the {len(trials)} trials of {plan.spec.name}")  # fmt: skip
    return chosen


def plan_cancellation(
    plan: Plan,
    store: Store,
    trials: Iterable[Trial],
    statuses: Mapping[str, StageStatus],
    jobs: Mapping[str, JobStatus],
) -> Cancellation:
    """What cancelling these trials means, given how their stages stand; changes nothing."""
    chosen = {trial.id: trial for trial in trials}
    keys = dict.fromkeys(stage.key for trial in chosen.values() for stage in trial.stages)
    open_keys = [key for key in keys if statuses[key].state not in _OVER]
    wanted = _wanted_here(plan, chosen, statuses) | _wanted_elsewhere(plan.spec.name, store, open_keys)
    shared = Counter(wanted[key] for key in open_keys if key in wanted)
    mark = tuple(key for key in open_keys if key not in wanted)
    living = [key for key in keys if key not in wanted and key in jobs and not jobs[key].state.final]
    elsewhere = Counter(
        statuses[key].owner or "somebody" for key in mark
        if statuses[key].state is StageState.running and key not in living
    )  # fmt: skip
    return Cancellation(mark, tuple(living), shared, elsewhere)


def cancel(cancellation: Cancellation, store: Store, executor: SlurmExecutor) -> None:
    """Mark the stages, then end the jobs: one that starts in between finds the mark and ends by itself."""
    marks.cancel([StageFolder(store.stages / key) for key in cancellation.mark], "tokscale cancel")
    if cancellation.jobs:
        with cluster_errors_as_ours("the stages are marked all the same: their jobs end when they start"):
            executor.cancel(cancellation.jobs)


def forgive(
    plan: Plan, store: Store, trials: Iterable[Trial], statuses: Mapping[str, StageStatus], cause: str | None
) -> list[str]:
    """Forgive the failures of these trials, of one cause or of all, and take back their cancellation; the stages' keys.

    Raises ``UsageError`` when a cause is named that none of them has.
    """
    keys = dict.fromkeys(stage.key for trial in trials for stage in trial.stages)
    over = [key for key in keys if statuses[key].state in (StageState.failed, StageState.cancelled)]
    if cause is not None:
        causes = {key: statuses[key].cause or "unknown" for key in over}
        if cause not in causes.values():
            raise UsageError(
                "no stage failed for this cause", where=plan.spec.name, given=cause,
                allowed=one_of(sorted(set(causes.values())), cause) if causes else "nothing failed or was cancelled",
            )  # fmt: skip
        over = [key for key in over if causes[key] == cause]

    def forgive_one(key: str) -> None:
        marks.forgive(StageFolder(store.stages / key), statuses[key].attempts, statuses[key].job)

    marks.in_parallel(forgive_one, over)
    if over:
        write_history(store.sweep(plan.spec.name), {"user": marks.who(), "retried": over})
    return over


def end_hopeless(
    plan: Plan, store: Store, before: Mapping[str, StageStatus], jobs: Mapping[str, JobStatus], executor: SlurmExecutor
) -> int:
    """End jobs that wait for one that is no more, of stages that are blocked no longer: SLURM would end them some day.

    ``before`` are the states before the failures were forgiven. The stages are then submitted again with their parents.
    Returns how many stages are blocked no longer.
    """
    after = standings(plan, store, jobs)
    freed = [
        key for key, status in after.items()
        if before[key].state is StageState.blocked and status.state is not StageState.blocked
    ]  # fmt: skip
    hopeless = [key for key in freed if key in jobs and not jobs[key].state.final]
    if hopeless:
        for key in hopeless:
            # or its end would be taken for a person's wish
            marks.forgive(StageFolder(store.stages / key), after[key].attempts, jobs[key].worker)
        with cluster_errors_as_ours("what failed is forgiven all the same: submit the sweep again later"):
            executor.cancel(hopeless)
    return len(freed)


def _value(values: Mapping[str, Any], where: str, name: str) -> Any:
    if name in ("bottleneck_bits", "codebook_size", "probe_params"):
        return values.get(name)  # a trial without one has none
    if name not in values:
        raise ConfigError(f"a condition names {name!r}, which a trial does not have", where="--where", given=where,
                          allowed=one_of(values, name))  # fmt: skip
    return values[name]


def _wanted_here(plan: Plan, chosen: Collection[str], statuses: Mapping[str, StageStatus]) -> dict[str, str]:
    """Stages that trials of this sweep which are not cancelled want, with the label of one of them."""
    return {
        stage.key: cost.label(trial.config)
        for trial in plan.trials
        if trial.id not in chosen
        and all(statuses[stage.key].state is not StageState.cancelled for stage in trial.stages)
        for stage in trial.stages
    }


def _wanted_elsewhere(sweep: str, store: Store, keys: Sequence[str]) -> dict[str, str]:
    """Those of these stages that a trial of another sweep wants which is not cancelled, with the sweep's name."""
    asked, wanted = set(keys), {}
    for name in store.sweep_names():
        if name == sweep:
            continue
        for stages in _trials(store.sweep(name) / TRIALS_NAME):
            common = asked.intersection(stages)
            if common and not any((store.stages / key / marks.CANCELLED_NAME).exists() for key in stages):
                wanted.update(dict.fromkeys(common, f"sweep {name}"))
    return wanted


def _trials(path: Path) -> Iterable[list[str]]:
    """The stages of each trial of a sweep, as it was written down when it was last submitted."""
    try:
        return [line["stages"] for line in read_lines(path)]
    except (OSError, KeyError):
        return []
