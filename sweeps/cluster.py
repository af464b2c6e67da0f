"""What every command that speaks to a cluster does: open its executor, be alone, wait for what is not known yet.

Of several submitters of one runs folder one is at work at a time, and an error of the cluster is one message.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from slurm.batch import SHORTEST_PAUSE, ClusterError, SlurmExecutor
from slurm.executor import JobStatus
from slurm.profiles import ClusterProfile
from slurm.states import LEFT
from slurm.unconfirmed import GRACE_SECONDS
from sweeps.planning import Plan
from sweeps.standing import standings
from sweeps.store import Store
from tokscale import claim
from tokscale.errors import WorkError

LEDGER_NAME = "submissions.jsonl"
JOBS_NAME = "jobs"
_LEASE = 60.0  # seconds; a submitter on another machine that died is taken over after this
_MOST_WAITING = 60.0  # seconds for what will soon be known; an sbatch may be alive for longer

Say = Callable[[str], None]


def open_executor(
    store: Store,
    profile: ClusterProfile,
    sweep: str,
    exclude: Sequence[str] = (),
    python_path: Sequence[Path] = (),
) -> SlurmExecutor:
    """The executor of a sweep's jobs; it knows those of the store's other sweeps too."""
    root = Store(store.root.absolute())
    folder = root.sweep(sweep)
    others = [root.sweep(name) / LEDGER_NAME for name in root.sweep_names() if name != sweep]
    return SlurmExecutor(
        profile, folder / JOBS_NAME, ledger=folder / LEDGER_NAME,
        other_ledgers=[path for path in others if path.exists()],
        name=sweep, python_path=python_path, exclude=exclude,
    )  # fmt: skip


def found_on_cluster(
    plan: Plan, store: Store, profile: ClusterProfile
) -> tuple[SlurmExecutor, Plan, Mapping[str, JobStatus]]:
    """An executor, the plan with the states as they are now, and what the cluster says of all jobs."""
    executor = open_executor(store, profile, plan.spec.name)
    jobs = executor.poll()
    return executor, replace(plan, statuses=standings(plan, store, jobs)), jobs


def living(jobs: Mapping[str, JobStatus]) -> set[str]:
    """The keys of the jobs that wait or run, on which others can be made to wait.

    A job that left the queue and of which nothing more is known yet is none of them: SLURM takes a dependency on such a
    one for fulfilled, or for impossible. Nor is one without an id, which the cluster may not have at all.
    """
    return {
        key for key, job in jobs.items()
        if not job.state.final and job.worker is not None and not job.reason.startswith(LEFT)
    }  # fmt: skip


def await_confirmation(plan: Plan, store: Store, profile: ClusterProfile, say: Say) -> None:
    """Wait for what will soon be known of a submission that was cut short: whether the cluster has its jobs.

    Soon is so where its submitter ran on this machine; says for what it waits, and asks the cluster of nothing else.
    """
    executor = open_executor(store, profile, plan.spec.name)
    end, pause = time.monotonic() + _MOST_WAITING, SHORTEST_PAUSE
    said = False
    while soon := [left for key, left in executor.confirm().items() if key in plan.stages and left <= GRACE_SECONDS]:
        left = min(max(soon), end - time.monotonic())
        if left <= 0:
            return
        if not said:
            say(f"a submission of {plan.spec.name} was cut short: whether the cluster has its jobs is known in "
                f"{math.ceil(max(soon))} seconds, waiting for that")  # fmt: skip
            said = True
        time.sleep(min(left, pause))
        pause *= 1.5


@contextmanager
def submitting_alone(store: Store, say: Say) -> Iterator[claim.Claim]:
    """Be the one who submits to this runs folder; waits for another, says for whom, and takes over from a dead one."""
    folder, said = store.root / "submitting", ""
    while (held := claim.claim(folder, lease=_LEASE, interval=_LEASE / 12)) is None:
        owner = str(claim.holder(folder) or "")
        if owner and owner != said:
            say(f"waiting for {owner}, who submits to this runs folder at the moment")
            said = owner
        time.sleep(0.2)
    with held:
        yield held


@contextmanager
def cluster_errors_as_ours(remark: str = "") -> Iterator[None]:
    """Turn what the cluster refused into an error of ours: one message, exit status 1; ``remark`` is added to it."""
    try:
        yield
    except ClusterError as error:
        what = f"{error.what}; {remark}" if remark else error.what
        raise WorkError(what, where=error.where, given=error.given, allowed=error.allowed) from error
