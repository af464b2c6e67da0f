"""How the jobs of some ledgers are doing: one squeue for all of them, the notes they left, at most one sacct.

Nothing is decided here from silence: a controller that does not answer leaves every job as it was, and says so.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from slurm import cluster
from slurm.cluster import AccountingOffError, AccountRow, ClusterError, QueueRow
from slurm.executor import JobState, JobStatus
from slurm.ledger import Entry, Ledgers, Submission, by_token
from slurm.notes import End, read_end, start_path
from slurm.states import Evidence, is_final, is_held_after_launch, is_unheard_of, judge, needs_account
from slurm.unconfirmed import Unconfirmed

Position = tuple[str, int]  # the token of an array and an index


class Survey:
    """Asks how jobs are, and remembers what has ended and what was known before an answer failed to come."""

    def __init__(self, ledgers: Ledgers) -> None:
        self.ledgers = ledgers
        self.trouble: tuple[str, ...] = ()
        self.reached = False  # slurmctld answered at the last poll
        self.unconfirmed = Unconfirmed(ledgers)
        self._ended: dict[Position, JobStatus] = {}
        self._last: dict[str, JobStatus] = {}
        self._seen: dict[Position, float] = {}
        self._accounting_off = False

    def poll(self) -> dict[str, JobStatus]:
        """The status of the newest submission of every key."""
        self.trouble, self.reached = (), True
        now = time.time()
        try:
            self.confirm()
        except ClusterError as error:
            self._complain("submissions could not be confirmed", error)
            self.reached = False
        entries = self.ledgers.entries()
        open_ = {key: entry for key, entry in entries.items() if _position(entry) not in self._ended}
        rows = self._ask_queue(entry.submission for entry in open_.values())
        evidence = self._evidence(open_, rows)
        self._add_accounts(open_, evidence)
        statuses: dict[str, JobStatus] = {}
        for key, entry in entries.items():
            if key in open_:
                statuses[key] = self._status(key, entry, evidence[key], statuses, now)
            else:
                statuses[key] = self._ended[_position(entry)]
        for key, (when, why) in self.ledgers.blocked().items():
            if key not in entries or entries[key].submission.time < when:
                statuses[key] = JobStatus(key, JobState.blocked, why, cause="blocked")
        self._last = statuses
        if self.reached:
            self._unstick(open_, rows, statuses)
        return dict(statuses)

    def confirm(self) -> None:
        """Look for submissions without a job id by their names; ``ClusterError`` when that cannot be asked."""
        self.ledgers.read()
        self.unconfirmed.look()

    def _ask_queue(self, submissions: Iterable[Submission]) -> dict[Position, QueueRow]:
        jobs = {one.token: one.job for one in submissions if one.job is not None}
        if not jobs:
            return {}
        try:
            answer = cluster.queue(sorted(set(jobs.values())))
        except ClusterError as error:
            self._complain("slurmctld does not answer", error)
            self.reached = False
            return {}
        # Ids begin again some day, or after a crash of slurmctld: a job of another name is another job.
        rows = {(_token(row), row.index): row for row in answer if jobs.get(_token(row)) == row.job}
        now = time.time()
        self._seen.update((position, now) for position, row in rows.items() if not is_final(row.state))
        return rows

    def _evidence(self, entries: Mapping[str, Entry], rows: Mapping[Position, QueueRow]) -> dict[str, Evidence]:
        """What the queue and the array's folder say; each folder is listed once, and only notes that exist are read."""
        in_queue = {token for token, _ in rows}
        arrays: dict[str, list[tuple[str, Entry]]] = defaultdict(list)
        for key, entry in entries.items():
            arrays[entry.submission.token].append((key, entry))
        found = {}
        for token, members in arrays.items():
            submission = members[0][1].submission
            gone = {entry.index for _, entry in members
                    if (token, entry.index) not in rows or is_final(rows[token, entry.index].state)}  # fmt: skip
            (notes, began), logs = (_notes(submission.folder, gone), _logs(submission)) if gone else (({}, set()), {})
            for key, entry in members:
                row, log = rows.get((token, entry.index)), logs.get(entry.index)
                if row is not None and row.nodes:
                    log = entry.log
                heard = max(submission.time, self._seen.get((token, entry.index), 0.0))
                found[key] = Evidence(
                    heard=max(heard, _modified(log)) if row is None and log is not None else heard,
                    asked=self.reached and submission.job is not None,
                    row=row, note=notes.get(entry.index), log=log,
                    siblings=token in in_queue, began=entry.index in began,
                    cancelled=submission.marked("cancelled", entry.index),
                    given_up=submission.marked("given up", entry.index),
                    hopeless=submission.marked("hopeless", entry.index),
                )  # fmt: skip
        return found

    def _add_accounts(self, entries: Mapping[str, Entry], evidence: dict[str, Evidence]) -> None:
        """Ask accounting about the elements of which nothing else tells how they ended."""
        wanted = {key: entries[key] for key, known in evidence.items() if needs_account(known)}
        if not wanted:
            return
        silence = "accounting is off on this cluster"
        rows: list[AccountRow] = []
        if not self._accounting_off:
            jobs = {entry.submission.job for entry in wanted.values() if entry.submission.job is not None}
            try:
                rows = cluster.accounts(sorted(jobs), since=min(entry.submission.time for entry in wanted.values()))
                silence = ""
            except AccountingOffError:
                self._accounting_off = True
            except ClusterError as error:
                silence = "accounting does not answer"
                self._complain(silence, error)
        if self._accounting_off:
            self.trouble += (f"{silence}: how {len(wanted)} jobs ended is told by their folders only",)
        by_position = {(_token(row), row.index): row for row in rows}
        # slurmctld that lost an array leaves rows of it behind in accounting, as if they still waited.
        known = {_token(row) for row in rows if is_final(row.state)}
        for key, entry in wanted.items():
            row = by_position.get(_position(entry))
            siblings = evidence[key].siblings or entry.submission.token in known
            evidence[key] = replace(evidence[key], account=row, silence=silence, siblings=siblings)
        forgotten = [key for key in wanted if is_unheard_of(evidence[key])]
        if forgotten:
            with contextlib.suppress(ClusterError):  # then time tells
                began = cluster.booted()
                evidence |= {key: replace(evidence[key], booted=began) for key in forgotten}

    def _status(
        self, key: str, entry: Entry, known: Evidence, statuses: Mapping[str, JobStatus], now: float
    ) -> JobStatus:
        status = judge(key, known, now)
        if status is None:
            status = self._unasked(key, entry, known)
        if status.worker is None and entry.submission.job is not None:
            status = replace(status, worker=f"{entry.submission.job}_{entry.index}")
        never_began = known.log is None and known.note is None and status.started is None
        if status.state in (JobState.blocked, JobState.pending) or (status.cause == "lost" and never_began):
            why = _why_blocked(entry, statuses)
            if why or status.state is JobState.blocked:
                status = replace(status, state=JobState.blocked, cause="blocked", reason=why or status.reason)
        if status.state.final and not (known.row is not None and not is_final(known.row.state)):
            self._ended[_position(entry)] = status
        return status

    def _unasked(self, key: str, entry: Entry, known: Evidence) -> JobStatus:
        """A job of which the queue said nothing: as it was, or as its folder looks."""
        if entry.submission.job is None:
            return JobStatus(key, JobState.pending, "submitted, but not yet confirmed by the cluster")
        last = self._last.get(key)
        if last is not None and not last.state.final:
            return last
        state = JobState.pending if known.log is None else JobState.running
        return JobStatus(key, state, "as it was last known: slurmctld does not answer", log=known.log)

    def _unstick(
        self, entries: Mapping[str, Entry], rows: Mapping[Position, QueueRow], statuses: Mapping[str, JobStatus]
    ) -> None:
        """Do for our own jobs what nobody else will: some would wait for ever.

        A job whose launch failed is held by SLURM: it is released once, and cancelled when that does not help. A job
        that is blocked is cancelled: SLURM does so only for children of elements that ran, and not at once.
        """
        own = self.ledgers.own.submissions
        hopeless: list[Entry] = []
        for key, entry in entries.items():
            row = rows.get(_position(entry))
            if row is None or is_final(row.state) or entry.submission.token not in own:
                continue
            if is_held_after_launch(row.reason):
                again = entry.submission.marked("released", entry.index)
                self._act("given up" if again else "released", [entry])
            elif statuses[key].state is JobState.blocked:
                hopeless.append(entry)
        if hopeless:
            self._act("hopeless", hopeless)

    def _act(self, event: str, entries: Sequence[Entry]) -> None:
        """Release or cancel elements, and write down that it was done."""
        places = [f"{entry.submission.job}_{entry.index}" for entry in entries]
        try:
            for token, indices in by_token(entries).items():
                self.ledgers.own.mark(event, token, indices)
            if event == "released":
                cluster.release(places)
                self.trouble += (f"{', '.join(places)}: the launch failed and SLURM held it; released once",)
            else:
                cluster.scancel(places)
        except ClusterError as error:
            self._complain(f"{', '.join(places)} could not be {event}", error)

    def _complain(self, what: str, error: ClusterError) -> None:
        detail = error.given if isinstance(error.given, str) else error.what
        self.trouble += (f"{what}: {' '.join(detail.split())}",)


def _token(row: QueueRow | AccountRow) -> str:
    return row.name.rpartition(".")[2]


def _position(entry: Entry) -> Position:
    return entry.submission.token, entry.index


def _why_blocked(entry: Entry, statuses: Mapping[str, JobStatus]) -> str:
    """The root cause in words: a blocked parent hands on the reason of the one before it."""
    for key in entry.element.after:
        parent = statuses.get(key)
        if parent is None or not parent.state.final or parent.state is JobState.done:
            continue
        if parent.state is JobState.blocked:
            return parent.reason
        return f"{key} {'was cancelled' if parent.state is JobState.cancelled else 'failed'}"
    return ""


def _notes(folder: Path, indices: Iterable[int]) -> tuple[dict[int, End], set[int]]:
    """The ends that elements of an array noted, by index, and the indices of those whose Python began."""
    with contextlib.suppress(OSError):
        names = {path.name for path in (folder / "ends").iterdir()}
        notes = {index: read_end(folder, index) for index in indices if f"{index}.json" in names}
        began = {index for index in indices if start_path(folder, index).name in names}
        return {index: note for index, note in notes.items() if note is not None}, began
    return {}, set()


def _logs(submission: Submission) -> dict[int, Path]:
    """The launchers' logs of an array's elements, by index."""
    found = {}
    with contextlib.suppress(OSError):
        for path in submission.folder.iterdir():
            job, _, rest = path.name.partition("_")
            index, _, end = rest.partition("_")
            if job == submission.job and end == "0_log.out" and index.isdigit():
                found[int(index)] = path
    return found


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
