"""Running a sweep on this machine: missing stages go to warm workers, the store says what became of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from slurm.executor import Executor, Job, JobState, JobStatus
from sweeps.grid import MOST_POINTS
from sweeps.planning import Plan
from sweeps.rounds import Rounds
from sweeps.store import StageState, StageStatus, Store, trial_rows
from tokscale.errors import HeldError, StoreError
from tokscale.stage import KINDS, Stage

TARGET = "tokscale.stages:run"
PRELOAD = ("tokscale.stages",)
_POLL_SECONDS = 0.5
_NOT_TO_RUN = (StageState.done, StageState.cancelled)


class Display(Protocol):
    """Whoever watches: told about every change, and a few times a second."""

    def update(self, statuses: Mapping[str, StageStatus]) -> None: ...

    def wait_for(self, owners: Sequence[str]) -> None: ...

    def adopt(self, plan: Plan) -> None:
        """The sweep has grown."""


def run_missing(plan: Plan, store: Store, executor: Executor, display: Display, rounds: Rounds | None = None) -> Plan:
    """Run every stage that is not done, children after parents; returns the plan with the states as they are then.

    A failed stage fails itself and what stands on it, never the others; stages that failed in an earlier run are tried
    once more, cancelled ones are not. A stage that a living process elsewhere works on is waited for, and taken over
    when that process dies. What ``rounds`` ask for meanwhile is run too, and what they want pruned is ended.
    """
    run = _Run(plan, store, executor, display)
    while True:
        more = rounds.advance(run.statuses) if rounds is not None else None
        if more is not None:
            run.adopt(more)
        if rounds is not None and (losers := rounds.to_prune(run.statuses)):
            run.end(rounds.mark_pruned(losers))
        run.submit()
        if more is None and not run.todo and not run.flying:
            return replace(run.plan, statuses=run.statuses)
        if rounds is not None and not run.todo and not run.flying and (asker := rounds.asker()):
            display.wait_for([asker])
        run.listen()


class _Run:
    """Stages at work. ``todo`` were not given to a worker yet, ``flying`` were and have not come back."""

    def __init__(self, plan: Plan, store: Store, executor: Executor, display: Display) -> None:
        self.plan, self.store, self.executor, self.display = plan, store, executor, display
        self.statuses = dict(plan.statuses)
        self.todo = {stage.key: stage for stage in plan.missing() if self.statuses[stage.key].state not in _NOT_TO_RUN}
        self.flying: dict[str, Stage] = {}

    def adopt(self, plan: Plan) -> None:
        """Take on what a larger plan wants beside what is known."""
        new = [key for key in plan.stages if key not in self.statuses]
        if not new and len(plan.trials) == len(self.plan.trials):
            return
        self.store.write_sweep(plan.spec.name, plan.file.text, trial_rows(plan.trials))
        self.plan = plan
        for key in new:
            self.statuses[key] = plan.statuses[key]
            if plan.statuses[key].state not in _NOT_TO_RUN:
                self.todo[key] = plan.stages[key]
        self.display.adopt(plan)

    def end(self, stages: Sequence[Stage]) -> None:
        """End the work on stages that were marked as cancelled."""
        for stage in stages:
            self.todo.pop(stage.key, None)
            if stage.key not in self.flying:
                self.statuses[stage.key] = self.store.status(stage)
        self.executor.cancel([stage.key for stage in stages if stage.key in self.flying])

    def submit(self) -> None:
        """Give workers what can start, or will when its parents are done."""
        ready: dict[str, Stage] = {}
        for key, stage in list(self.todo.items()):  # parents come before children
            if self.statuses[key].state in _NOT_TO_RUN:
                del self.todo[key]
            elif self.statuses[key].state is not StageState.running:
                self._consider(stage, ready)
        if ready:
            self.executor.submit(self._jobs(ready))
            self.flying |= ready
            self.todo = {key: stage for key, stage in self.todo.items() if key not in ready}

    def _consider(self, stage: Stage, ready: dict[str, Stage]) -> None:
        """Take a stage among those that are ready, leave it to wait, or give it up when a parent will not be done."""
        parents = [f"{kind}/{identity}" for kind, identity in stage.parents.items()]
        missing = [key for key in parents if self.statuses[key].state is not StageState.done]
        if all(key in self.flying or key in ready for key in missing):
            ready[stage.key] = stage
        elif any(key not in self.flying and key not in ready and key not in self.todo for key in missing):
            del self.todo[stage.key]

    def listen(self) -> None:
        """Wait a moment for what happens, here and in the hands of others, and show it."""
        if self.flying:
            for key, job in self.executor.wait(_POLL_SECONDS).items():
                if key not in self.flying:
                    continue
                if job.state.final:
                    self._landed(self.flying.pop(key), job)
                elif job.state is JobState.running:
                    self.statuses[key] = StageStatus(StageState.running, self.statuses[key].attempts + 1)
        held = [stage for key, stage in self.todo.items() if self.statuses[key].state is StageState.running]
        if not self.flying:
            owners = {owner for stage in held if (owner := self.statuses[stage.key].owner)}
            if owners:
                self.display.wait_for(sorted(owners))
            if held or not self.todo:  # nothing of ours can go on
                time.sleep(_POLL_SECONDS)
        self.statuses |= self.store.statuses(held)
        self.display.update(self.statuses)

    def _landed(self, stage: Stage, job: JobStatus) -> None:
        """Take note of how a stage's job ended; what a process elsewhere was faster with goes round again."""
        self.statuses[stage.key] = self.store.status(stage)
        # A blocked one too: whoever held its parent may be done with it by now, and a parent that failed is seen when
        # the stage is considered again.
        again = job.state is JobState.blocked or _was_held(job)
        if self.statuses[stage.key].state not in _NOT_TO_RUN and again:
            self.todo[stage.key] = stage
        elif job.state is JobState.failed:
            self._keep_failure(stage, job)

    def _keep_failure(self, stage: Stage, job: JobStatus) -> None:
        """Take a failure that the store does not know: a stage that was killed, or had no room, could not say so."""
        status = self.statuses[stage.key]
        if status.state in (StageState.failed, StageState.done, StageState.cancelled):
            return
        if status.attempts and status.state is StageState.interrupted:
            with contextlib.suppress(StoreError):  # the disk may be what failed
                self.store.keep_crash(stage, status.attempts, job.reason)
        cause = "store" if job.reason.startswith(StoreError.__name__) else "crash"
        self.statuses[stage.key] = StageStatus(StageState.failed, status.attempts, cause, job.reason, status.owner)

    def _jobs(self, ready: Mapping[str, Stage]) -> list[Job]:
        first_trial: dict[str, int] = {}
        for number, trial in enumerate(self.plan.trials):
            for stage in trial.stages:
                first_trial.setdefault(stage.key, number)
        jobs = []
        for key, stage in ready.items():
            folder = self.store.prepare(stage)
            attempt = self.statuses[key].attempts + 1
            parents = (f"{kind}/{identity}" for kind, identity in stage.parents.items())
            jobs.append(Job(
                key=key, name=key, target=TARGET, arguments={"path": str(folder.path.absolute())},
                log=folder.attempt(attempt) / "log.txt",
                after=tuple(parent for parent in parents if parent in ready or parent in self.flying),
                # later stages first: a trial is finished before the next is begun
                priority=KINDS.index(stage.kind) * MOST_POINTS - first_trial[key],
            ))  # fmt: skip
        return jobs


def _was_held(job: JobStatus) -> bool:
    return job.state is JobState.failed and job.reason.startswith(HeldError.__name__)
