"""Which job may start next, and what becomes of those that never can: bookkeeping only, no process and no clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from slurm.executor import Job, JobState, JobStatus


class JobQueue:
    """Jobs, their statuses and their order. A job whose parent is not going to be done becomes blocked at once."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.statuses: dict[str, JobStatus] = {}
        self.changed: dict[str, JobStatus] = {}
        self.unfinished = 0
        self._children: dict[str, list[str]] = {}
        self._missing: dict[str, set[str]] = {}  # parents that are not done yet, of jobs that wait
        self._ready: list[tuple[int, int, str]] = []
        self._order: dict[str, int] = {}
        self._submissions = 0

    def add(self, jobs: Sequence[Job]) -> None:
        """Take jobs as ``Executor.submit`` promises: all of them, or none and a ``ValueError``."""
        self._check(jobs)
        for job in jobs:
            self.jobs[job.key] = job
            self._submissions += 1
            self._order[job.key] = self._submissions
            self.unfinished += 1
            self._set(JobStatus(job.key, JobState.pending))
        for job in jobs:
            self._missing[job.key] = {key for key in job.after if self.statuses[key].state is not JobState.done}
            for parent in job.after:
                self._children.setdefault(parent, []).append(job.key)
        for job in jobs:
            lost = [key for key in job.after if self.statuses[key].state.final and key in self._missing[job.key]]
            if lost and self.statuses[job.key].state is JobState.pending:
                self.settle(JobStatus(job.key, JobState.blocked, self._why_blocked(lost[0])))
            self._push_if_ready(job.key)

    def first(self) -> Job | None:
        """The job that may start next, or None; it stays the first until ``start`` or ``settle`` moves it on."""
        while self._ready:
            _, order, key = self._ready[0]
            if self._order[key] == order and self.statuses[key].state is JobState.pending:
                return self.jobs[key]
            heapq.heappop(self._ready)  # it has moved on, or was submitted again
        return None

    def start(self, status: JobStatus) -> None:
        """Note that a pending job runs."""
        assert self.statuses[status.key].state is JobState.pending
        self._set(status)

    def settle(self, status: JobStatus) -> None:
        """Note how a job ended; frees its children when it is done, blocks them and theirs when it is not."""
        waiting = [status]
        while waiting:
            ended = waiting.pop()
            assert ended.state.final
            assert not self.statuses[ended.key].state.final
            self._set(ended)
            self.unfinished -= 1
            self._missing.pop(ended.key, None)
            for child in self._children.pop(ended.key, []):
                # An entry may be out of date: the child was blocked by another parent, perhaps submitted again since.
                if ended.key not in self._missing.get(child, ()):
                    continue
                if ended.state is JobState.done:
                    self._missing[child].discard(ended.key)
                    self._push_if_ready(child)
                else:
                    del self._missing[child]
                    waiting.append(JobStatus(child, JobState.blocked, self._why_blocked(ended.key)))

    def cancel(self, keys: Iterable[str]) -> None:
        """Settle those of the jobs that wait as cancelled."""
        waiting = [key for key in dict.fromkeys(keys) if self.statuses[key].state is JobState.pending]
        for key in waiting:
            del self._missing[key]  # so that one of them does not become blocked by another
        for key in waiting:
            self.settle(JobStatus(key, JobState.cancelled, "cancelled before it started"))

    def take_changed(self) -> dict[str, JobStatus]:
        """The statuses that changed since the last call."""
        changed, self.changed = self.changed, {}
        return changed

    def _push_if_ready(self, key: str) -> None:
        if self.statuses[key].state is JobState.pending and not self._missing[key]:
            heapq.heappush(self._ready, (-self.jobs[key].priority, self._order[key], key))

    def _set(self, status: JobStatus) -> None:
        self.statuses[status.key] = self.changed[status.key] = status

    def _why_blocked(self, parent: str) -> str:
        """The root cause in words: a blocked parent hands on the reason of the one before it."""
        status = self.statuses[parent]
        if status.state is JobState.blocked:
            return status.reason
        return f"{self.jobs[parent].name} {'was cancelled' if status.state is JobState.cancelled else 'failed'}"

    def _check(self, jobs: Sequence[Job]) -> None:
        batch: dict[str, Job] = {}
        for job in jobs:
            active = job.key in self.statuses and not self.statuses[job.key].state.final
            if active or job.key in batch:
                raise ValueError(f"job {job.name} ({job.key}) was submitted twice")
            batch[job.key] = job
        for job in jobs:
            for parent in job.after:
                if parent not in batch and parent not in self.jobs:
                    raise ValueError(f"job {job.name} ({job.key}) waits for {parent!r}, which was never submitted")
        try:
            TopologicalSorter({job.key: job.after for job in jobs}).prepare()
        except CycleError as error:
            names = " -> ".join(batch[key].name if key in batch else self.jobs[key].name for key in error.args[1])
            raise ValueError(f"jobs wait for each other: {names}") from error
