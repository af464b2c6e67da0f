"""``tokscale submit``: what is wanted and not done goes to the cluster, once, whoever asks and however often.

Of several submitters of one runs folder one is at work at a time: it asks the cluster what waits and runs, decides by
the policy, and submits the rest. What it could not write down before it died, the next finds by the names of the jobs.
"""

from __future__ import annotations

import math
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slurm.batch import Preview, SlurmExecutor, SubmitLimit
from slurm.executor import Job
from slurm.notes import read_bad_nodes, read_json
from slurm.profiles import ClusterProfile
from slurm.snapshot import take_snapshot
from sweeps.cluster import (
    JOBS_NAME,
    Say,
    await_confirmation,
    cluster_errors_as_ours,
    living,
    open_executor,
    submitting_alone,
)
from sweeps.hints import DEFAULT_RUNS
from sweeps.history import read_history, write_history
from sweeps.marks import who
from sweeps.needed_weights import words_on_absent_weights
from sweeps.patience import telling
from sweeps.planning import Plan
from sweeps.policy import Decision, decide
from sweeps.resources import Allocator, with_memory
from sweeps.standing import standings
from sweeps.store import StageState, Store, trial_rows
from tokscale import claim
from tokscale.errors import UsageError, WorkError
from tokscale.stage import KINDS, attempt_name

TARGET = "tokscale.stages:run"
PACKAGES = ("tokscale", "slurm")  # all that a job imports of ours
_BYTES_PER_STAGE = 16_384  # description, folders, and its share of the launcher's files
_SNAPSHOT_BYTES = 8 << 20

_SLOW = "still speaking to the cluster: one that does not answer is given up after two minutes at most"


@dataclass(frozen=True)
class Submission:
    """What a submission did: stages by kind, arrays, what was left and why, and what to know.

    ``plan`` has the states as they were found; ``left`` counts by state, and under ``held back`` and ``waiting`` (for
    something that is no job of the queue); ``remaining`` stages were wanted when the cluster took no more, in the words
    of ``limit``.
    """

    plan: Plan
    cluster: str
    submitted: Mapping[str, int]
    arrays: int
    left: Mapping[str, int]
    remaining: int = 0
    limit: str = ""
    words: tuple[str, ...] = ()
    runs: Path = DEFAULT_RUNS
    previews: tuple[Preview, ...] = ()  # of a dry run
    keys: frozenset[str] = field(default_factory=frozenset)


def submit(plan: Plan, store: Store, profile: ClusterProfile, *, dry_run: bool = False, say: Say = print) -> Submission:
    """Submit what a plan wants and nobody has done or has in hand; a dry run changes nothing.

    Raises ``StoreError`` before anything is submitted when the runs folder cannot be written or has no room,
    ``UsageError`` when a stage cannot fit the cluster's GPUs, and ``WorkError`` when the cluster does not answer or
    refuses.
    """
    if dry_run:
        return _Submitting(plan, store, profile, say, dry_run=True).preview()
    _check_path(store)
    store.check_writable(_room(plan))
    with submitting_alone(store, say) as held:
        await_confirmation(plan, store, profile, say)
        with telling(_SLOW, say):
            return _Submitting(plan, store, profile, say).submit(held)


class _Submitting:
    """One submission: what was found, what was decided, and the jobs that follow from it."""

    def __init__(self, plan: Plan, store: Store, profile: ClusterProfile, say: Say, *, dry_run: bool = False) -> None:
        self.store, self.profile = store, profile
        done = [stage for key, stage in plan.stages.items() if plan.statuses[key].state is StageState.done]
        # Done means validly done.
        faults = store.faults(done) if dry_run else store.set_aside_invalid(done)
        for key, fault in faults.items():
            say(f"{key} runs again: {fault}")
        self.folder = store.sweep(plan.spec.name)
        self.history = read_history(self.folder)
        executor = open_executor(store, profile, plan.spec.name)
        self.jobs = executor.poll()
        self.trouble, self.unconfirmed = executor.trouble, executor.unconfirmed
        if self.trouble and not dry_run and not executor.reached:
            raise WorkError("nothing is submitted: the cluster does not answer", where=profile.name,
                            given="; ".join(self.trouble), allowed="the same command again, when it does")  # fmt: skip
        found = standings(plan, store, self.jobs)
        for key in faults.keys() & found.keys() if dry_run else ():
            found[key] = replace(found[key], state=StageState.interrupted)
        self.plan = replace(plan, statuses=found)
        self.decision: Decision = decide(plan.stages, found, self.history.ends(), living(self.jobs))

    def preview(self) -> Submission:
        """What ``submit`` would do."""
        jobs = self._jobs()
        previews = self._executor(()).preview(jobs) if jobs else []
        return self._outcome(self.decision.submit, len(previews), previews=tuple(previews))

    def submit(self, held: claim.Claim) -> Submission:
        """Describe the stages, keep the code as it is, and hand the jobs to the cluster."""
        if not self.decision.submit:
            return self._outcome((), 0)
        jobs = self._jobs()
        plan, store = self.plan, self.store
        store.prepare_all([plan.stages[key] for key in self.decision.submit])
        store.write_sweep(plan.spec.name, plan.file.text, trial_rows(plan.trials))
        snapshot = take_snapshot(PACKAGES, store.root.absolute() / "snapshots")
        executor = self._executor((snapshot,))
        held.check()  # a submitter that slept for longer than its lease has been taken over
        taken: Sequence[str] = self.decision.submit
        limit = ""
        with cluster_errors_as_ours():
            arrays = len(executor.preview(jobs))
            try:
                executor.submit(jobs)
            except SubmitLimit as error:
                taken, limit = error.taken, error.what
        self._write_down(taken, arrays, snapshot)
        return self._outcome(taken, arrays, limit=limit)

    def _executor(self, python_path: Sequence[Path]) -> SlurmExecutor:
        marked = read_bad_nodes(self.folder / JOBS_NAME)
        exclude = dict.fromkeys([*self.history.excluded(time.time()), *self.decision.exclude, *marked])
        return open_executor(self.store, self.profile, self.plan.spec.name, tuple(exclude), python_path)

    def _jobs(self) -> list[Job]:
        plan, stages = self.plan, Store(self.store.root.absolute()).stages
        allocator = Allocator(self.profile, plan, self.store)
        most_gb = _node_memory(self.profile)
        wanted = set(self.decision.submit)
        jobs = []
        for number, key in enumerate(self.decision.submit):
            # Path objects of all steps on the way would be most of the time that this takes.
            stage, path = plan.stages[key], f"{stages}/{key}"
            allocation = with_memory(allocator.of(key), self.decision.memory.get(key, 1.0), most_gb)
            parents = [f"{kind}/{identity}" for kind, identity in stage.parents.items()]
            jobs.append(Job(
                key=key, name=key, target=TARGET, arguments={"path": path, **allocation.arguments},
                log=Path(f"{path}/{attempt_name(plan.statuses[key].attempts + 1)}/log.txt"),
                resources=allocation.resources,
                after=tuple(parent for parent in parents if parent in wanted or plan.statuses[parent].state.alive),
                # later stages first: a trial is finished before the next is begun
                priority=KINDS.index(stage.kind) * len(plan.stages) - number,
            ))  # fmt: skip
        return jobs

    def _write_down(self, taken: Sequence[str], arrays: int, snapshot: Path) -> None:
        again = {
            key: status.cause or "interrupted" for key in taken
            if (status := self.plan.statuses[key]).state is StageState.interrupted
        }  # fmt: skip
        event: dict[str, Any] = {
            "user": who(), "host": socket.gethostname(), "cluster": self.profile.name, "stages": len(taken),
            "arrays": arrays, "snapshot": snapshot.name, "code": _code(snapshot), "again": again,
            "excluded": self.decision.exclude,
        }  # fmt: skip
        if self.plan.file.text != self.history.last("spec"):
            event["spec"] = self.plan.file.text
        write_history(self.folder, event)

    def _outcome(
        self, taken: Sequence[str], arrays: int, *, limit: str = "", previews: tuple[Preview, ...] = ()
    ) -> Submission:
        counts = Counter(self.plan.stages[key].kind for key in taken)
        words = (*self.decision.words, *self._unknown(), *words_on_absent_weights(self.plan), *self.trouble)
        return Submission(
            self.plan, self.profile.name, {kind: counts[kind] for kind in KINDS if counts[kind]}, arrays,
            Counter(self.decision.left.values()), len(self.decision.submit) - len(taken), limit,
            words, self.store.root, previews, frozenset(taken),
        )  # fmt: skip

    def _unknown(self) -> Iterator[str]:
        """What is not known yet, and when it will be."""
        if unknown := {key: left for key, left in self.unconfirmed.items() if key in self.plan.stages}:
            yield (f"{len(unknown)} stages were handed in by a submission that was cut short, and whether the cluster "
                   "has them is not known yet; what stands on them waits: the same command tells in "
                   f"{math.ceil(max(unknown.values()) / 60) or 1} min")  # fmt: skip


def _check_path(store: Store) -> None:
    """Raise ``UsageError`` for a runs folder whose name SLURM would read as something else."""
    path = str(store.root.absolute())
    if odd := [letter for letter in "%\\\n" if letter in path]:
        raise UsageError("SLURM cannot write its logs below this runs folder", where=path, given=repr("".join(odd)),
                         allowed="a path without percent signs, backslashes and line breaks")  # fmt: skip


def _room(plan: Plan) -> int:
    """Bytes that must be free: for the files of the submission, and for the largest stage to be kept."""
    missing = plan.missing()
    largest = max((plan.costs[stage.key].disk_bytes for stage in missing), default=0)
    return _SNAPSHOT_BYTES + _BYTES_PER_STAGE * len(missing) + int(largest)


def _node_memory(profile: ClusterProfile) -> float | None:
    if profile.memory_per_gpu_gb is None:
        return None
    return profile.memory_per_gpu_gb * max(1, profile.gpus_per_node or 1)


def _code(snapshot: Path) -> Mapping[str, Any]:
    """What a snapshot says of the code that it holds: the git commit, and whether it was changed since."""
    content = read_json(snapshot / "snapshot.json") or {}
    return dict(content.get("git") or {})
