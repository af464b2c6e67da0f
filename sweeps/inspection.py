"""What one look at a sweep finds, and finding in it what a person remembers: a sweep, a trial, a log."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slurm.executor import JobStatus
from sweeps.grid import Trial
from sweeps.planning import Plan, make_plan
from sweeps.policy import remedy, signature
from sweeps.results import log_of, trial_state
from sweeps.store import StageState, StageStatus, Store
from tokscale import cost
from tokscale.errors import UsageError, one_of
from tokscale.stage import KINDS

_LOGGED = (StageState.failed, StageState.running, StageState.queued, StageState.interrupted, StageState.done)
_MOST_NAMED = 8  # of trials, in a message
_GROUPED = (StageState.failed, StageState.interrupted, StageState.cancelled)
_NO_FAULT = (None, "", "interrupted", "preempted", "time limit")  # interruptions that are in the nature of a cluster
_BEFORE_THE_STAGE = ("launch",)  # causes for which the stage cannot have said anything: the launcher's log has it


@dataclass(frozen=True)
class Reading:
    """How far a running stage is, by the newest line of its progress file: images, their rate, the loss, and when.

    ``warning`` is what that line warns of, such as a codebook that collapses.
    """

    done: float
    total: float
    per_second: float | None
    loss: float | None
    time: float
    warning: str | None = None

    @property
    def share(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True)
class Effort:
    """What a sweep took and will take; None where too little is known.

    ``spent`` and ``left`` are device hours: of GPUs, or of processes where there are none (``on_gpus`` says which).
    ``seconds`` is the time until all is done at the present pace, ``at_once`` the stages that run at it.
    """

    spent: float | None = None
    left: float | None = None
    seconds: float | None = None
    at_once: int = 0
    on_gpus: bool = True


@dataclass(frozen=True)
class Look:
    """What one look at a sweep found: its plan with the states as they were then, and what is known beyond them.

    ``seconds_left`` is by key of running stages. ``when`` is the time of the look and ``queue_when`` that of the last
    answer of the cluster (None: there is no cluster to ask), in seconds since the epoch; ``trouble`` has a line for
    each thing that could not be asked.
    """

    plan: Plan
    when: float
    readings: Mapping[str, Reading] = field(default_factory=dict)
    seconds_left: Mapping[str, float] = field(default_factory=dict)
    jobs: Mapping[str, JobStatus] = field(default_factory=dict)
    effort: Effort = Effort()
    queue_when: float | None = None
    trouble: tuple[str, ...] = ()

    @property
    def statuses(self) -> Mapping[str, StageStatus]:
        return self.plan.statuses

    def trial_states(self) -> list[StageState]:
        """The state of each trial, in the order of the plan."""
        return [trial_state(trial, self.statuses) for trial in self.plan.trials]

    @property
    def complete(self) -> bool:
        """Whether every trial is done."""
        return all(status.state is StageState.done for status in self.statuses.values())

    @property
    def alive(self) -> bool:
        """Whether a process or a queue has any stage in hand."""
        return any(status.state.alive for status in self.statuses.values())


@dataclass(frozen=True)
class FailureGroup:
    """Stages that failed in the same way: their state, cause and message, their trials by number, and the log of one.

    Those that are ``interrupted`` are tried again by themselves; those that are ``cancelled`` have no log to look at.
    """

    state: StageState
    cause: str
    message: str
    remedy: str
    stages: tuple[str, ...]
    trials: tuple[int, ...]
    log: Path | None


def open_sweep(sweep: str, runs: Path) -> tuple[Plan, Store]:
    """The plan of a sweep that was started in this runs folder, or of a spec file; raises ``UsageError`` for others."""
    store = Store(runs)
    names = store.sweep_names()
    if sweep in names:
        return make_plan(store.sweep(sweep) / "spec.yaml", store), store
    if sweep.endswith((".yaml", ".yml")):
        return make_plan(Path(sweep), store), store
    raise UsageError("no such sweep in this runs folder", where=str(runs), given=sweep,
                     allowed=one_of(names, sweep) if names else "none was started here yet")  # fmt: skip


def find_trial(plan: Plan, words: str) -> Trial:
    """The one trial of this number, id or label, or whose id or label begins so; raises ``UsageError`` for others.

    Numbers are those of the status table: the order of the plan, from 1.
    """
    labels = {trial.id: cost.label(trial.config) for trial in plan.trials}
    found = [trial for trial in plan.trials if words in (trial.id, labels[trial.id])]
    if not found and words.isdecimal() and 1 <= int(words) <= len(plan.trials):
        return plan.trials[int(words) - 1]
    found = found or [
        trial for trial in plan.trials if trial.id.startswith(words) or labels[trial.id].startswith(words)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        names = list(dict.fromkeys(labels.values()))
        near = difflib.get_close_matches(words, names, n=_MOST_NAMED)
        listed = names if len(names) <= _MOST_NAMED else near
        raise UsageError("no trial of this name", where=plan.spec.name, given=words,
                         allowed=f"a number from 1 to {len(plan.trials)}, an id, or a label"
                                 + (f": {one_of(listed, words)}" if listed else ""))  # fmt: skip
    numbers = {trial.id: number for number, trial in enumerate(plan.trials, 1)}
    shown = [f"{numbers[trial.id]} ({labels[trial.id]}, seed {trial.config.seed})" for trial in found[:_MOST_NAMED]]
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    raise UsageError("several trials begin like this", where=plan.spec.name, given=words,
                     allowed=f"a number of the status table or an id: {', '.join(shown)}{more}")  # fmt: skip


def find_log(look: Look, store: Store, words: str, kind: str | None, rank: int = 0) -> tuple[str, Path]:
    """The stage whose log a person wants, and the log: of the kind asked for, else of what failed, runs, or ran.

    Raises ``UsageError`` when there is none.
    """
    trial = find_trial(look.plan, words)
    if kind is not None and kind not in KINDS:
        raise UsageError("no such kind of stage", given=kind, allowed=one_of(KINDS, kind))
    stages = [stage for stage in trial.stages if kind in (None, stage.kind)]
    for state in _LOGGED:
        for stage in reversed(stages):
            path = stage_log(store, stage.key, look.jobs.get(stage.key), rank)
            if look.statuses[stage.key].state is state and path is not None:
                return stage.key, path
    given = [f"{stage.kind} is {_state_in_words(look.statuses[stage.key])}" for stage in stages]
    asked = f"rank {rank} of " if rank else ""
    raise UsageError("nothing was logged yet", where=f"{look.plan.spec.name}, {cost.label(trial.config)}",
                     given=asked + ", ".join(given), allowed="a stage that was started")  # fmt: skip


def _state_in_words(status: StageStatus) -> str:
    return f"{status.state.value} ({status.reason})" if status.reason else status.state.value


def stage_log(store: Store, key: str, job: JobStatus | None, rank: int = 0) -> Path | None:
    """The log of a stage's newest attempt; the launcher's where its job never got as far as the stage."""
    log = log_of(store, key)
    if rank:
        # where the processes of a job beside its first write to
        other = None if log is None else log.with_name(f"{log.stem}-rank{rank}{log.suffix}")
        return other if other is not None and other.is_file() else None
    launcher = job.log if job is not None and job.log is not None and job.log.is_file() else None
    if launcher is not None and (log is None or (job is not None and job.cause in _BEFORE_THE_STAGE)):
        return launcher
    return log


def failure_groups(look: Look, store: Store) -> list[FailureGroup]:
    """What failed or was cancelled, by cause and message, failures first and the most frequent before others.

    The same error of many trials stands here once. What was interrupted belongs here when that was a fault.
    """
    stages: dict[tuple[StageState, str, str], list[str]] = {}
    for key, status in look.statuses.items():
        if status.state in _GROUPED and (status.state is not StageState.interrupted or status.cause not in _NO_FAULT):
            stages.setdefault((status.state, *_alike(status)), []).append(key)
    if not stages:
        return []
    trials: dict[str, list[int]] = {}
    for number, trial in enumerate(look.plan.trials, 1):
        for stage in trial.stages:
            trials.setdefault(stage.key, []).append(number)
    groups = [_group(look, store, keys, trials) for keys in stages.values()]
    return sorted(groups, key=lambda group: (_GROUPED.index(group.state), -len(group.stages)))


def _alike(status: StageStatus) -> tuple[str, str]:
    """Cause and first line of a message, without what differs between trials: ids, numbers, and the names of files."""
    cause, message = signature(status)
    return cause, re.sub(r"\S*/\S+|\d[\d.e+-]*", "…", message.partition("\n")[0])


def _group(look: Look, store: Store, keys: Sequence[str], trials: Mapping[str, Sequence[int]]) -> FailureGroup:
    first = look.statuses[keys[0]]
    logged = () if first.state is StageState.cancelled else keys[:4]
    logs = (stage_log(store, key, look.jobs.get(key)) for key in logged)
    return FailureGroup(
        first.state, first.cause or "unknown", first.message or "", remedy(first.cause, first.state), tuple(keys),
        tuple(sorted({number for key in keys for number in trials[key]})),
        next((log for log in logs if log is not None), None),
    )  # fmt: skip
