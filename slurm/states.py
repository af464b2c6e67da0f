"""What is known of one job on a cluster, put into one status. Pure: a table of SLURM's states and a few rules.

What speaks for an element, the first that does decides: squeue, while it waits or runs; the note that it left of its
own end; squeue again, which knows the state of an element for some minutes after its end; accounting; and absence,
which after a while means that it is lost. A state that is not in the table is taken for alive.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

from slurm.cluster import AccountRow, QueueRow
from slurm.executor import JobState, JobStatus
from slurm.notes import End

LEFT = "it left the queue"  # how the reason of a job begins of which nobody knows what comes
TAKEN_SECONDS = 60.0  # in which the launcher's log of an element that began and ended at once must show up
LOST_SECONDS = 300.0  # longer than a network file system hides a file that another machine wrote
_NEVER_SATISFIED = "DependencyNeverSatisfied"
_BEFORE = "a job before it did not get done"

# SLURM's final states (the first word), with the cause that goes with each.
_FINAL = {
    "COMPLETED": (JobState.done, ""),
    "FAILED": (JobState.failed, ""),
    "CANCELLED": (JobState.cancelled, "cancelled"),
    "TIMEOUT": (JobState.failed, "time limit"),
    "DEADLINE": (JobState.failed, "time limit"),
    "NODE_FAIL": (JobState.failed, "node"),
    "BOOT_FAIL": (JobState.failed, "node"),
    "PREEMPTED": (JobState.failed, "preempted"),
    "OUT_OF_MEMORY": (JobState.failed, "out of memory"),
}
# A job that SLURM is about to requeue passes through these; accounting may go on to show them afterwards.
_PASSING = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL")
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")

_WORDS = {
    "time limit": "its time was up", "node": "its node failed", "preempted": "a job of higher priority took its place",
    "out of memory": "it used more memory than it asked for", "cancelled": "cancelled",
}  # fmt: skip
_WHY_IT_WAITS = {
    "None": "", "Resources": "waits for free resources", "Priority": "waits behind jobs of higher priority",
    "Dependency": "waits for a job before it", "JobArrayTaskLimit": "as many of its array run as may at a time",
    "JobHeldUser": "held by its user", "JobHeldAdmin": "held by an administrator",
    "Cleaning": "its last start is being cleaned up", "BeginTime": "requeued",
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """All that is known of an element. ``heard`` is when something last was: its submission, its log, the queue."""

    heard: float
    asked: bool = True  # squeue answered, so that a missing row means something
    row: QueueRow | None = None
    note: End | None = None
    account: AccountRow | None = None
    siblings: bool = False  # of its array, others are known to the queue or to accounting
    began: bool = False  # its Python said that it started
    log: Path | None = None  # the launcher's, if it has one: the job started at least once
    cancelled: bool = False  # we asked for it
    given_up: bool = False  # it could not be launched, twice
    hopeless: bool = False  # cancelled by us, since a job before it did not get done
    silence: str = ""  # why accounting said nothing
    booted: float | None = None  # when slurmctld began, if that was asked


def is_final(state: str) -> bool:
    """Whether a state of SLURM, as squeue or sacct write it, is one that a job does not leave by itself."""
    return _word(state) in _FINAL


def is_held_after_launch(reason: str) -> bool:
    """Whether an element waits for ever because a node could not launch it."""
    return "launch failed requeued held" in reason.lower().replace("_", " ")


def needs_account(evidence: Evidence) -> bool:
    """Whether only accounting can say more: how an element ended of which neither the queue nor a note tells."""
    if not evidence.asked or (evidence.row is not None and _word(evidence.row.state) != "FAILED"):
        return False  # a failed one's exit status is not in the queue
    note = evidence.note
    if note is not None and note.state == "cancelled" and not evidence.cancelled:
        return evidence.row is None  # by whom?
    return _from_note(evidence) is None


def is_unheard_of(evidence: Evidence) -> bool:
    """Whether nothing at all tells of an element that was submitted: the queue has none of its array, no log began."""
    return evidence.asked and evidence.row is None and evidence.log is None and not evidence.siblings


def judge(key: str, evidence: Evidence, now: float) -> JobStatus | None:
    """The status of an element; None when squeue did not answer and nothing else tells."""
    if evidence.given_up:
        return JobStatus(key, JobState.failed, "its launch failed again after it was released", cause="launch",
                         log=evidence.log)  # fmt: skip
    row = evidence.row
    noted = _from_note(evidence)
    if row is not None and (not is_final(row.state) or (noted is None and _passes(row, now))):
        return _in_queue(key, row, evidence)
    if noted is not None:
        return _ended(key, evidence, *noted)
    for record in (evidence.account, row):
        if record is not None and is_final(record.state) and not _passes(record, now):
            return _ended(key, evidence, *_from_state(record, evidence))
    if not evidence.asked:
        return None
    if evidence.hopeless:
        return _ended(key, evidence, JobState.blocked, "blocked", _BEFORE)
    if evidence.cancelled:
        return _ended(key, evidence, JobState.cancelled, "cancelled", "cancelled")
    # slurmctld says when it began in whole seconds.
    if evidence.booted is not None and evidence.heard < evidence.booted + 1 and is_unheard_of(evidence):
        return _ended(key, evidence, JobState.failed, "lost", "slurmctld forgot it when it began again")
    state = JobState.pending if evidence.log is None else JobState.running
    if evidence.siblings and evidence.account is None and evidence.log is None and now - evidence.heard > TAKEN_SECONDS:
        # SLURM (22.05) keeps no trace of an element that was cancelled before it began; one that it lost itself, it
        # lost with the whole array.
        return _ended(key, evidence, JobState.cancelled, "cancelled", "taken out of the queue before it began")
    if now - evidence.heard < LOST_SECONDS:
        return JobStatus(key, state, f"{LEFT}, and how it ended is not known yet", log=evidence.log)
    words = f"{LEFT} without a word" + (f" ({evidence.silence})" if evidence.silence else "")
    return _ended(key, evidence, JobState.failed, "lost", words)


def exit_status(text: str) -> int | None:
    """The exit code in sacct's ``status:signal``: negative for a signal, None when there is none."""
    code, _, number = text.partition(":")
    if not code.isdigit():
        return None
    return -int(number) if number.isdigit() and int(number) else int(code)


def why_it_waits(reason: str, start: float | None) -> str:
    """SLURM's reason in words, with the time at which the element may start if that is known."""
    if is_held_after_launch(reason):
        return "its launch failed, and it was requeued and held"
    words = _WHY_IT_WAITS.get(reason, reason)
    if words and start is not None and reason != "Dependency":
        words += f", may start {time.strftime('%b %d %H:%M', time.localtime(start))}"
    return words


def _in_queue(key: str, row: QueueRow, evidence: Evidence) -> JobStatus:
    place = f"{row.job}_{row.index}"
    if _word(row.state) in _WAITING:
        if row.reason == _NEVER_SATISFIED:
            return JobStatus(key, JobState.blocked, _BEFORE, worker=place, cause="blocked")
        reason = "being cancelled" if evidence.cancelled else why_it_waits(row.reason, row.started)
        cause = "launch" if is_held_after_launch(row.reason) else ""
        return JobStatus(key, JobState.pending, reason, worker=place, cause=cause, log=evidence.log)
    reason = "being cancelled" if evidence.cancelled else _running_words(_word(row.state))
    if is_final(row.state):
        reason = f"{LEFT} ({reason}), and may come back"
    return JobStatus(key, JobState.running, reason, row.started, host=row.nodes or None, worker=place, log=evidence.log)


def _running_words(state: str) -> str:
    return "" if state == "RUNNING" else state.lower().replace("_", " ")


def _ended(key: str, evidence: Evidence, state: JobState, cause: str, reason: str) -> JobStatus:
    note, row, account = evidence.note, evidence.row, evidence.account
    record = row or account
    host = (record.nodes if record is not None else "") or (note.host if note is not None else "") or None
    ended = (record.ended if record is not None else None) or (note.time if note is not None else None)
    return JobStatus(
        key, state, reason, record.started if record is not None else None, ended, host,
        f"{record.job}_{record.index}" if record is not None else None,
        exit_status(account.exit_code) if account is not None else None, cause, evidence.log,
    )  # fmt: skip


def _from_note(evidence: Evidence) -> tuple[JobState, str, str] | None:
    """What the element itself said, unless that was about a start before its last."""
    note = evidence.note
    record = evidence.row or evidence.account
    if note is None or note.requeued:
        return None
    started = record.started if record is not None and _word(record.state) not in _WAITING else None
    if started is not None and note.time < started - 60.0:  # clocks of two machines
        return None
    if note.state == "done":
        return JobState.done, "", ""
    if note.state == "cancelled":
        if (
            not evidence.cancelled
            and record is not None
            and is_final(record.state)
            and _word(record.state) != "CANCELLED"
        ):
            # A SIGTERM that nobody's scancel sent: what ended the batch script ended its processes too.
            return JobState.failed, "killed", "its batch script was killed"
        return JobState.cancelled, "cancelled", note.message or "cancelled while it ran"
    if evidence.cancelled and note.cause in ("", "cancelled"):
        return JobState.cancelled, "cancelled", note.message or "cancelled while it ran"
    return JobState.failed, note.cause or ("interrupted" if note.again else ""), note.message


def _from_state(record: QueueRow | AccountRow, evidence: Evidence) -> tuple[JobState, str, str]:
    """What SLURM says of an element that noted no end."""
    state, cause = _FINAL[_word(record.state)]
    code = exit_status(record.exit_code) if isinstance(record, AccountRow) else None
    if state is JobState.cancelled:
        # Nobody's name stands there when SLURM did it itself; whatever began was a person's to cancel.
        by_slurm = isinstance(record, AccountRow) and " by " not in record.state and record.nodes == ""
        never = isinstance(record, QueueRow) and record.reason == _NEVER_SATISFIED
        if evidence.hopeless or (not evidence.cancelled and (never or by_slurm)):
            return JobState.blocked, "blocked", _BEFORE
        return state, cause, "cancelled" if evidence.cancelled else record.state.lower()
    if state is JobState.failed and not cause:
        if code is not None and code < 0:
            return state, "killed", f"killed by {_signal_name(-code)}"
        if code is None and evidence.began:
            return state, "killed", "it ended after its Python had begun, and could not say why"
        status = f" with status {code}" if code is not None else ""
        return state, "launch", f"it ended{status} before its Python could say why; the launcher's log: {evidence.log}"
    return state, cause, _WORDS.get(cause, "")


def _passes(record: QueueRow | AccountRow, now: float) -> bool:
    """Whether a final state may yet turn out to be the moment before a requeue."""
    return _word(record.state) in _PASSING and record.ended is not None and now - record.ended < LOST_SECONDS


def _word(state: str) -> str:
    return state.split()[0].rstrip("+") if state.strip() else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
