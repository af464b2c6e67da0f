"""How many jobs of each array may run at a time, so that those of all arrays together are at most ``max_running``.

SLURM limits the elements of one array, not of a sweep. The parts are given anew when arrays come or end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from slurm import cluster
from slurm.arrays import DEFAULT_MINUTES, JobArray, shares
from slurm.executor import JobStatus
from slurm.ledger import Ledgers, Submission


def share_out(
    arrays: Sequence[JobArray], ledgers: Ledgers, statuses: Mapping[str, JobStatus], max_running: int | None
) -> list[JobArray]:
    """Give the arrays that are about to be submitted their part, and those of our ledger that still run a new one.

    ``ClusterError`` when the cluster does not take a new part.
    """
    if max_running is None:
        return list(arrays)
    open_ = _open_arrays(ledgers, statuses)
    sizes = [len(array.elements) for array in arrays] + list(open_.values())
    minutes = [array.resources.minutes for array in arrays] + [
        ledgers.own.submissions[token].minutes for token in open_
    ]
    work = [size * (each or DEFAULT_MINUTES) for size, each in zip(sizes, minutes, strict=True)]
    parts = shares(max_running, work, sizes)
    for token, part in zip(open_, parts[len(arrays) :], strict=True):
        _set(ledgers, ledgers.own.submissions[token], part)
    return [replace(array, throttle=part) for array, part in zip(arrays, parts, strict=False)]


def _open_arrays(ledgers: Ledgers, statuses: Mapping[str, JobStatus]) -> dict[str, int]:
    """Our arrays on the cluster by token, with how many of their elements have not ended."""
    own = ledgers.own.submissions
    alive = {key for key, status in statuses.items() if not status.state.final}
    return Counter(
        entry.submission.token for key, entry in ledgers.entries().items()
        if key in alive and entry.submission.token in own and entry.submission.job is not None
    )  # fmt: skip


def _set(ledgers: Ledgers, submission: Submission, part: int) -> None:
    if part == submission.throttle or submission.job is None:
        return
    cluster.set_throttle(submission.job, part)
    ledgers.own.append({"event": "throttled", "token": submission.token, "throttle": part})
