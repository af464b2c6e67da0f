"""How each stage of a sweep stands: what the store says first, then the cluster's queue, then how its job ended.

The store knows what stages wrote themselves. The cluster knows what they could not write: that one waits and why, that
one was killed, that one never started. Where both speak, a record beats everything, a living job beats how an earlier
attempt ended, and a job that ended beats a heartbeat that would only stop in a few minutes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from slurm.aftermath import SETUP_FAILED
from slurm.executor import JobState, JobStatus
from sweeps import marks
from sweeps.history import read_history
from sweeps.planning import Plan
from sweeps.policy import may_go_on
from sweeps.results import tail
from sweeps.store import StageState, StageStatus, Store
from tokscale import claim
from tokscale.stage import Stage, StageFolder

_CLOCK_SKEW = 60.0  # seconds by which the clocks of a node and of the cluster's controller may differ
_NOTHING_WRITTEN = "it ended without a word, as if nothing could be written to the runs folder"
_NO_ROOM = re.compile(r"no space left|quota exceeded|read-only file system", re.IGNORECASE)
_SOME_ERROR = re.compile(r"error|exception|not found|no such|denied|cannot|fail|fatal|invalid|killed", re.IGNORECASE)
_IN_VAIN = (StageState.failed, StageState.cancelled, StageState.blocked)


def standings(plan: Plan, store: Store, jobs: Mapping[str, JobStatus]) -> dict[str, StageStatus]:
    """The status of every stage of a plan by key, from the store and from what the cluster says of its jobs.

    ``failed`` means: not submitted again unless somebody asks for it; what the policy would submit again by itself is
    ``interrupted``, with the cause of its end.
    """
    found = store.statuses(plan.stages.values())
    ends = read_history(store.sweep(plan.spec.name)).ends()
    standing: dict[str, StageStatus] = {}
    for key, stage in plan.stages.items():  # parents come before children
        status, job = found[key], jobs.get(key)
        if status.state is not StageState.done and job is not None:
            status = with_job(status, job, StageFolder(store.stages / key))
        status = _by_tries(status, ends.get(key, Counter()))
        standing[key] = _under_parents(stage, status, standing)
    return standing


def with_job(status: StageStatus, job: JobStatus, folder: StageFolder) -> StageStatus:
    """The status of a stage that is not done, given the newest job that was to run it."""
    if status.state is StageState.running and job.state is not JobState.running and _is_anothers(status, job, folder):
        return status  # a process that is not this job's is alive: it is what counts
    if status.state is StageState.cancelled:
        return replace(status, job=job.worker, node=job.host or status.node)
    if job.state is JobState.running:
        return replace(status, state=StageState.running, job=job.worker, node=job.host, reason=job.reason or None)
    if job.state is JobState.pending:
        return replace(status, state=StageState.queued, job=job.worker, node=None, reason=job.reason or None)
    return _after_job(status, job, folder)


def _after_job(status: StageStatus, job: JobStatus, folder: StageFolder) -> StageStatus:
    """The status of a stage whose newest job has ended."""
    if status.state is StageState.failed:
        return replace(status, job=job.worker, node=job.host or status.node)
    # A job that is no more cannot hold a claim, whatever its lease.
    status = replace(status, state=StageState.interrupted if status.attempts else StageState.new)
    if job.state is JobState.blocked or marks.forgiven(folder, status.attempts).get("job") == job.worker:
        return status
    ended = replace(status, job=job.worker, node=job.host or status.node)
    if job.state is JobState.cancelled or job.cause == "cancelled":
        message = job.reason or "cancelled on the cluster, not by tokscale"
        return replace(ended, state=StageState.cancelled, cause="cancelled", message=message)
    if status.cause is not None:  # the stage's own words
        return replace(ended, state=StageState.interrupted)
    cause = _cause(job, began=status.job is not None)
    words = _NOTHING_WRITTEN if cause == "store" else job.reason
    return replace(ended, state=StageState.interrupted, cause=cause, message=words or None)


def _is_anothers(status: StageStatus, job: JobStatus, folder: StageFolder) -> bool:
    """Whether the living claim on a stage is held by a process that has nothing to do with its newest job."""
    if status.job is None:
        return True  # a process outside the cluster
    if status.job == job.worker or job.ended is None:
        return False
    owner = claim.state(folder.path).owner
    try:
        return owner is not None and datetime.fromisoformat(owner.when).timestamp() > job.ended + _CLOCK_SKEW
    except ValueError:
        return False


def _cause(job: JobStatus, *, began: bool) -> str:
    """Why a job ended, in the policy's words, when the stage did not say; ``began``: it had claimed the stage."""
    if job.state is JobState.done:
        return "lost"  # it ended well by its own account, and yet there is no record
    if job.cause == "out of memory":
        return "host memory"  # the GPU's is noticed by the stage itself
    if job.reason.startswith(SETUP_FAILED):
        return "launch"
    if job.cause == "launch" and (began or (job.log is not None and _could_not_write(job.log))):
        return "store"
    return job.cause or "code"  # an exception that names no cause of its own


def _could_not_write(log: Path) -> bool:
    """Whether a launcher's log names a full disk, or breaks off without an error: then the disk took not even that."""
    try:
        end = tail(log, 20)
    except OSError:
        return False
    return _NO_ROOM.search(end) is not None or _SOME_ERROR.search(end) is None


def _by_tries(status: StageStatus, ends: Counter[str]) -> StageStatus:
    """Failed is what will not be tried again, interrupted what will."""
    if status.state is StageState.interrupted and not may_go_on(status.cause, ends[status.cause or ""]):
        times = ends[status.cause or ""] + 1
        message = f"{status.message or status.cause} (for the {_ordinal(times)} time)" if times > 1 else status.message
        return replace(status, state=StageState.failed, message=message)
    if status.state is StageState.failed and status.cause == "store" and may_go_on("store", ends["store"]):
        return replace(status, state=StageState.interrupted)
    return status


def _under_parents(stage: Stage, status: StageStatus, standing: Mapping[str, StageStatus]) -> StageStatus:
    """Blocked, when the stage stands on one that will not be done, and has not failed itself."""
    if status.state not in (StageState.new, StageState.interrupted, StageState.queued):
        return status
    for key in (f"{kind}/{identity}" for kind, identity in stage.parents.items()):
        parent = standing[key]
        if parent.state is StageState.blocked:
            return replace(status, state=StageState.blocked, cause="blocked", message=None, reason=parent.reason)
        if parent.state in _IN_VAIN:
            why = f": {parent.cause}" if parent.state is StageState.failed and parent.cause else ""
            reason = f"stands on {key}, which {_VERBS[parent.state]}{why}"
            return replace(status, state=StageState.blocked, cause="blocked", message=None, reason=reason)
    return status


_VERBS = {StageState.failed: "failed", StageState.cancelled: "was cancelled"}


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
