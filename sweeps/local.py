"""Running a sweep on this machine: missing stages go to warm workers, the store says what became of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from slurm.executor import Executor, Job, JobState, JobStatus
from sweeps.planning import Plan
from sweeps.store import StageState, StageStatus, Store
from tokscale.errors import HeldError, StoreError
from tokscale.stage import KINDS, Stage

TARGET = "tokscale.stages:run"
PRELOAD = ("tokscale.stages",)
_POLL_SECONDS = 0.5


class Display(Protocol):
    """Whoever watches: told about every change, and a few times a second."""

    def update(self, statuses: Mapping[str, StageStatus]) -> None: ...

    def wait_for(self, owners: Sequence[str]) -> None: ...


def run_missing(plan: Plan, store: Store, executor: Executor, display: Display) -> Plan:
    """Run every stage that is not done, children after parents; returns the plan with the states as they are then.

    A failed stage fails itself and what stands on it, never the others; stages that failed in an earlier run are tried
    once more. A stage that a living process elsewhere works on is waited for, and taken over when that process dies.
    """
    statuses = dict(plan.statuses)
    todo = {stage.key: stage for stage in plan.missing()}
    while todo:
        ready = _without(todo, {key for key in todo if statuses[key].state is StageState.running})
        if ready:
            executor.submit(_jobs(ready, statuses, store, plan))
            _wait(executor, ready, store, statuses, display)
            jobs = executor.poll()
            _keep_failures(jobs, ready, store, statuses)
            # a process elsewhere was faster: these go round again, with what stands on them
            ready = _without(ready, {key for key in ready if _was_held(jobs[key])})
        else:
            owners = {status.owner for key, status in statuses.items() if key in todo and status.owner}
            display.wait_for(sorted(owners))
            time.sleep(_POLL_SECONDS)
        statuses |= store.statuses([stage for key, stage in todo.items() if key not in ready])
        todo = _still_open(todo, ready, statuses)
        display.update(statuses)
    return replace(plan, statuses=statuses)


def _without(stages: Mapping[str, Stage], left_out: set[str]) -> dict[str, Stage]:
    """Stages that neither are left out nor stand on one that is; parents come before children in a plan."""
    gone = set(left_out)
    for key, stage in stages.items():
        if any(f"{kind}/{identity}" in gone for kind, identity in stage.parents.items()):
            gone.add(key)
    return {key: stage for key, stage in stages.items() if key not in gone}


def _still_open(
    todo: Mapping[str, Stage], tried: Mapping[str, Stage], statuses: Mapping[str, StageStatus]
) -> dict[str, Stage]:
    """What goes round again: stages that a process elsewhere holds, and stages that wait for one."""
    held = {key for key in todo if statuses[key].state is StageState.running}
    waiting = set(todo) - set(_without(todo, held))
    untried = set(todo) - set(tried)
    return {
        key: stage for key, stage in todo.items()
        if statuses[key].state is not StageState.done and (key in held or key in waiting or key in untried)
    }  # fmt: skip


def _jobs(todo: Mapping[str, Stage], statuses: Mapping[str, StageStatus], store: Store, plan: Plan) -> list[Job]:
    first_trial: dict[str, int] = {}
    for number, trial in enumerate(plan.trials):
        for stage in trial.stages:
            first_trial.setdefault(stage.key, number)
    jobs = []
    for key, stage in todo.items():
        folder = store.prepare(stage)
        attempt = statuses[key].attempts + 1
        parents = (f"{kind}/{identity}" for kind, identity in stage.parents.items())
        jobs.append(Job(
            key=key, name=key, target=TARGET, arguments={"path": str(folder.path.absolute())},
            log=folder.attempt(attempt) / "log.txt", after=tuple(parent for parent in parents if parent in todo),
            # later stages first: a trial is finished before the next is begun
            priority=KINDS.index(stage.kind) * len(plan.trials) - first_trial[key],
        ))  # fmt: skip
    return jobs


def _wait(
    executor: Executor, stages: Mapping[str, Stage], store: Store, statuses: dict[str, StageStatus], display: Display
) -> None:
    still = set(stages)
    while still:
        for key, job in executor.wait(_POLL_SECONDS).items():
            if key not in still:
                continue
            if job.state.final:
                still.discard(key)
                statuses[key] = store.status(stages[key])
            elif job.state is JobState.running:
                statuses[key] = StageStatus(StageState.running, statuses[key].attempts + 1)
        display.update(statuses)


def _keep_failures(
    jobs: Mapping[str, JobStatus], stages: Mapping[str, Stage], store: Store, statuses: dict[str, StageStatus]
) -> None:
    """Take failures that the store does not know: a stage that was killed, or whose disk was full, could not say so."""
    for key, stage in stages.items():
        job, status = jobs[key], statuses[key]
        if job.state is not JobState.failed or _was_held(job) or status.state in (StageState.failed, StageState.done):
            continue
        if status.attempts and status.state is StageState.interrupted:
            with contextlib.suppress(StoreError):  # the disk may be what failed
                store.keep_crash(stage, status.attempts, job.reason)
        cause = "store" if job.reason.startswith(StoreError.__name__) else "crash"
        statuses[key] = StageStatus(StageState.failed, status.attempts, cause, job.reason, status.owner)


def _was_held(job: JobStatus) -> bool:
    return job.state is JobState.failed and job.reason.startswith(HeldError.__name__)
