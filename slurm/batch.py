"""The executor of a SLURM cluster: job arrays that outlive whoever submitted them."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slurm import cluster
from slurm.arrays import needed_parents, plan_arrays
from slurm.cluster import ClusterError, NoAnswerError, SubmitLimit
from slurm.executor import Executor, Job, JobState, JobStatus, Resources
from slurm.ledger import Entry, Ledgers, by_token
from slurm.profiles import ClusterProfile
from slurm.survey import Survey
from slurm.throttles import share_out

if TYPE_CHECKING:
    from slurm.sbatch import Surroundings

__all__ = ["AlreadySubmittedError", "ClusterError", "Preview", "SlurmExecutor", "SubmitLimit"]

SHORTEST_PAUSE = 2.0  # seconds between two questions to slurmctld while something changes
LONGEST_PAUSE = 15.0


class AlreadySubmittedError(ValueError):
    """Jobs that wait or run were to be submitted again; ``keys`` names them."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        super().__init__(f"submitted twice: {', '.join(self.keys[:5])}" + (" ..." if len(self.keys) > 5 else ""))


@dataclass(frozen=True)
class Preview:
    """One sbatch file as it would be submitted."""

    name: str
    elements: int
    resources: Resources
    text: str


class SlurmExecutor(Executor):
    """Runs jobs as arrays of one cluster, and knows the jobs of earlier submissions from their ledgers.

    Each array has a folder of its own in ``folder``. ``ledger`` is where the submissions of this sweep are written
    down, ``other_ledgers`` are only read: their jobs are not submitted again, and may be waited for. Jobs are called
    ``name``.kind.token, import from ``python_path`` first, and do not run on the nodes of ``exclude``.

    Closing it lets go of the jobs; they run on, and another executor with the same ledger finds them.
    """

    def __init__(
        self,
        profile: ClusterProfile,
        folder: Path,
        *,
        ledger: Path,
        other_ledgers: Sequence[Path] = (),
        name: str,
        python_path: Sequence[Path] = (),
        exclude: Sequence[str] = (),
    ):
        self.profile, self.folder, self.name = profile, folder.absolute(), name
        self.python_path, self.exclude = tuple(python_path), tuple(exclude)
        self.ledgers = Ledgers(ledger, other_ledgers)
        self._survey = Survey(self.ledgers)
        self._known: dict[str, JobStatus] = {}  # as of the last wait
        self._asked = -LONGEST_PAUSE  # when the cluster was, by the monotonic clock
        self._pause = SHORTEST_PAUSE
        self._alone = False

    @property
    def trouble(self) -> tuple[str, ...]:
        """What could not be asked at the last poll, in words."""
        return self._survey.trouble

    @property
    def unconfirmed(self) -> Mapping[str, float]:
        """Jobs of which it is not known whether the cluster has them, and the seconds after which a poll tells."""
        return self._survey.unconfirmed.seconds

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other submitter of the same ledgers waiting, from looking to submitting."""
        if self._alone:
            yield
            return
        with self.ledgers.alone():
            self._alone = True
            try:
                yield
            finally:
                self._alone = False

    def submit(self, jobs: Sequence[Job]) -> None:
        """Submit jobs as arrays, parents first.

        ``AlreadySubmittedError`` for a key that waits or runs, ``ValueError`` when ``after`` names a key that nobody
        submitted. ``SubmitLimit`` when the cluster took some of the jobs (``taken``) but no more for now. Other
        ``ClusterError``s: the arrays before the one that it names were submitted and stay so.

        Jobs that come after one that has failed are not submitted: they become blocked. A job of which the ledger says
        that it is done is not waited for; jobs look at their inputs again when they start.
        """
        if not jobs:
            return
        # Imported here and in preview: submitit takes a tenth of a second, and a look at the status needs none.
        from slurm import submitting

        with self.alone():
            statuses = self._poll_patiently(submitting.PATIENCE_SECONDS)
            live = _live_parents(jobs, statuses, self.ledgers.entries())
            jobs = self._without_blocked(jobs, statuses)
            arrays = plan_arrays(jobs, {key: entry.place for key, entry in live.items()}, limit=self._array_limit())
            arrays = share_out(arrays, self.ledgers, statuses, self.profile.max_running)
            submitting.Submitter(self.ledgers.own, self.folder, self.name, self._surroundings(), arrays,
                                 needed_parents(jobs, live)).submit()  # fmt: skip
            self._asked = -LONGEST_PAUSE

    def preview(self, jobs: Sequence[Job]) -> list[Preview]:
        """The sbatch files that ``submit`` would make; nothing is written, and no SLURM need be there.

        Job ids that are not known yet are given as the names of their arrays in brackets.
        """
        from slurm.sbatch import dependency_text, script
        from slurm.submitting import array_name

        statuses = self.poll()
        live = _live_parents(jobs, statuses, self.ledgers.entries())
        arrays = plan_arrays(
            jobs, {key: entry.place for key, entry in live.items()}, limit=self._array_limit(),
            max_running=self.profile.max_running,
        )  # fmt: skip
        names = [array_name(self.name, array, f"{number:08}") for number, array in enumerate(arrays, start=1)]
        ids, around = [f"<{name}>" for name in names], self._surroundings()
        return [
            Preview(name, len(array.elements), array.resources,
                    script(array, name, self.folder / name[-8:], dependency_text(array, ids, arrays), around))
            for name, array in zip(names, arrays, strict=True)
        ]  # fmt: skip

    @property
    def reached(self) -> bool:
        """Whether slurmctld answered at the last poll."""
        return self._survey.reached

    def poll(self) -> dict[str, JobStatus]:
        """The newest submission of every key in all ledgers; asks the cluster at every call."""
        self._asked = time.monotonic()
        return self._survey.poll()

    def confirm(self) -> Mapping[str, float]:
        """``unconfirmed``, as far as asking for nothing else tells; as it was when the cluster does not answer."""
        with suppress(ClusterError):
            self._survey.confirm()
        return self.unconfirmed

    def wait(self, timeout: float | None = None) -> dict[str, JobStatus]:
        """The statuses that changed since the last call; asks the cluster less often the less changes."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            due = self._asked + self._pause
            if deadline is not None and due > deadline:
                time.sleep(max(0.0, deadline - time.monotonic()))
                return {}
            time.sleep(max(0.0, due - time.monotonic()))
            statuses = self.poll()
            changed = {key: status for key, status in statuses.items() if self._known.get(key) != status}
            self._known = statuses
            longer = SHORTEST_PAUSE if changed else min(LONGEST_PAUSE, 1.5 * self._pause)
            self._pause = longer * random.uniform(0.9, 1.1)  # many watchers must not ask at one moment
            if changed or all(status.state.final for status in statuses.values()):
                return changed

    def cancel(self, keys: Iterable[str]) -> None:
        """Cancel jobs; those that have ended are left as they are.

        ``ClusterError`` when the cluster does not answer; then they go on.
        """
        wanted = set(keys)
        statuses = self.poll()
        entries = self.ledgers.entries()
        if unknown := wanted - statuses.keys():
            raise ValueError(f"no such jobs: {', '.join(sorted(unknown))}")
        chosen, open_ = [], Counter[str]()
        for key, entry in entries.items():
            if not statuses[key].state.final:
                open_[entry.submission.token] += 1
                chosen += [entry] if key in wanted else []
        ids: list[str] = []
        jobs = {entry.submission.token: entry.submission.job for entry in chosen}
        for token, indices in by_token(chosen).items():
            # First, so that it is known later why the job is gone.
            self.ledgers.own.mark("cancelled", token, indices)
            if job := jobs[token]:
                ids += [job] if len(indices) == open_[token] else [f"{job}_{index}" for index in indices]
        cluster.scancel(ids)

    def close(self) -> None:
        """Let go of the jobs: they go on."""

    def _array_limit(self) -> int:
        try:
            size = cluster.max_array_size()
        except ClusterError:
            size = cluster.DEFAULT_ARRAY_SIZE
        return min(size, self.profile.max_array or size)

    def _poll_patiently(self, seconds: float) -> dict[str, JobStatus]:
        """As ``poll``, again and again while slurmctld does not answer; ``NoAnswerError`` when it does not in time."""
        deadline = time.monotonic() + seconds
        while True:
            statuses = self.poll()
            if self._survey.reached:
                return statuses
            if time.monotonic() + SHORTEST_PAUSE > deadline:
                raise NoAnswerError(
                    "nothing was submitted, for what waits or runs is not known", where="squeue",
                    given="; ".join(self.trouble), allowed="a slurmctld that answers",
                )  # fmt: skip
            time.sleep(SHORTEST_PAUSE)

    def _surroundings(self) -> Surroundings:
        from slurm.sbatch import Surroundings

        return Surroundings(self.profile, self.python_path, self.exclude)

    def _without_blocked(self, jobs: Sequence[Job], statuses: Mapping[str, JobStatus]) -> list[Job]:
        """Jobs whose parents may yet be done; the others are written down as blocked."""
        by_key = {job.key: job for job in jobs}
        why: dict[str, str] = {}
        for key in needed_parents(jobs):
            for parent in by_key[key].after:
                if parent in why:
                    why[key] = why[parent]
                elif parent not in by_key and statuses[parent].state.final:
                    state = statuses[parent].state
                    if state is not JobState.done:
                        blocked = state is JobState.blocked
                        why[key] = statuses[parent].reason if blocked else f"{parent} {state}"
        if why:
            self.ledgers.own.append({"event": "blocked", "time": time.time(), "keys": why})
        return [job for job in jobs if job.key not in why]


def _live_parents(
    jobs: Sequence[Job], statuses: Mapping[str, JobStatus], entries: Mapping[str, Entry]
) -> dict[str, Entry]:
    """Jobs on the cluster that these jobs come after; refuses jobs that cannot be submitted."""
    inside = {job.key for job in jobs}
    if len(inside) < len(jobs):
        raise AlreadySubmittedError(sorted(key for key, count in Counter(job.key for job in jobs).items() if count > 1))
    if twice := [job.key for job in jobs if job.key in statuses and not statuses[job.key].state.final]:
        raise AlreadySubmittedError(twice)
    live = {}
    for job in jobs:
        for parent in job.after:
            if parent in inside or parent in live:
                continue
            if parent not in statuses:
                raise ValueError(f"job {job.name} ({job.key}) waits for {parent!r}, which was never submitted")
            if not statuses[parent].state.final:
                if entries[parent].submission.job is None:
                    raise NoAnswerError(
                        f"whether the cluster has {parent} is not known yet", where=job.name, given=parent,
                        allowed="a job that the cluster has confirmed: try again in a few minutes",
                    )  # fmt: skip
                live[parent] = entries[parent]
    return live
