"""A job and slurmctld: what does it say of us, and may we begin again. Standard library only: the aftermath uses it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass

ASK_SECONDS = 60.0  # for one call; a busy controller is slow long before it is away
BRIEFLY_SECONDS = 3.0
PATIENCE_SECONDS = 600.0
WARNED_SECONDS = 360.0  # before its time limit, a job that had to stop was warned of it
# What trying again does not mend. Everything else is taken for a controller that is away or busy.
_PERMANENT = ("invalid job id", "permission denied", "disabled", "not found", "invalid user")
_PENDING = "pending execution"
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")


@dataclass(frozen=True)
class Answer:
    """What came of asking to begin again: ``outcome`` is "requeued", "cancelled" or "refused"."""

    outcome: str
    cause: str = ""  # "time limit" or "preempted", where slurmctld said that this is why the job had to stop
    message: str = ""


def begin_again(job: str, restart: int, *, running_only: bool = False, patience: float = PATIENCE_SECONDS) -> Answer:
    """Requeue a job, ``A_a`` for an element of an array, unless somebody cancelled it; ``restart`` is its own count.

    Never the array's own id, with which all its elements would begin again. While slurmctld does not answer, asks again
    for ``patience`` seconds. ``running_only`` leaves a job alone that SLURM itself is about to end, for any reason.
    """
    deadline = time.monotonic() + patience
    pause = 1.0
    while True:
        shown, trouble = _scontrol("show", "job", "--oneliner", job)
        if shown is not None:
            verdict, cause = standing(shown, restart), why_stopped(shown)
            if verdict == "cancelled":
                return Answer("cancelled", "cancelled", "cancelled while it ran")
            if verdict == "requeued":
                return Answer("requeued", cause, "SLURM requeued the job itself")
            if running_only and verdict != "running":
                return Answer("refused", cause, "the job is about to end")
            accepted, trouble = _scontrol("requeue", job)
            if accepted is not None or _PENDING in trouble.lower():
                return Answer("requeued", cause)
        if any(words in trouble.lower() for words in _PERMANENT):
            return Answer("refused", "", trouble)
        if time.monotonic() + pause > deadline:
            return Answer("refused", "", f"slurmctld did not answer for {patience:.0f} s: {trouble}")
        time.sleep(pause)
        pause = min(2 * pause, 60.0)


def standing(shown: str, restart: int) -> str:
    """What SLURM has in mind with a job, from ``scontrol show job``: "running", "cancelled", "requeued", or "ending".

    While processes of a job are left, its state is COMPLETING whatever comes then; only traces tell why. A requeue has
    counted a start already, a time limit is the reason, a preemption has its time; a cancelled job has none of these.
    """
    state, counted = field_of(shown, "JobState"), field_of(shown, "Restarts")
    if state in _WAITING or (counted.isdigit() and int(counted) > restart):
        return "requeued"
    if state in ("RUNNING", "SUSPENDED", "STOPPED"):
        return "running"
    if state == "CANCELLED" or (state == "COMPLETING" and not why_stopped(shown)):
        return "cancelled"
    return "ending"


def why_stopped(shown: str, now: float | None = None) -> str:
    """Why a job has to stop, from ``scontrol show job``: "time limit", "preempted" or "" when it does not say."""
    state = field_of(shown, "JobState")
    if state == "TIMEOUT" or field_of(shown, "Reason") == "TimeLimit":
        return "time limit"
    if state == "PREEMPTED" or _time(field_of(shown, "PreemptTime")) is not None:
        return "preempted"
    end = _time(field_of(shown, "EndTime"))
    left = end - (time.time() if now is None else now) if end is not None else WARNED_SECONDS
    return "time limit" if state == "RUNNING" and left < WARNED_SECONDS else ""


def time_left(job: str) -> float | None:
    """Seconds until SLURM will end a running job; None when it is to leave at once, or nobody knows.

    Asks once and briefly: of a preemption's grace every second counts.
    """
    shown, _ = _scontrol("show", "job", "--oneliner", job, seconds=BRIEFLY_SECONDS)
    if shown is None or _time(field_of(shown, "PreemptTime")) is not None:
        return None
    end = _time(field_of(shown, "EndTime"))
    return None if end is None else end - time.time()


def field_of(shown: str, name: str) -> str:
    """One field of what ``scontrol show --oneliner`` printed; empty when it has none."""
    found = re.search(rf"(?:^|\s){name}=(\S+)", shown)
    return found.group(1) if found else ""


def _scontrol(*words: str, seconds: float = ASK_SECONDS) -> tuple[str | None, str]:
    """What scontrol printed, or None and why it did not do as asked."""
    environment = {**os.environ, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}  # seconds since the epoch
    try:
        done = subprocess.run(["scontrol", *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=seconds, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"scontrol did not answer within {seconds:.0f} s"
    except OSError as error:
        return None, f"scontrol cannot be run: {error.strerror}; not found"
    if done.returncode != 0:
        return None, (done.stderr or done.stdout).strip() or f"scontrol ended with status {done.returncode}"
    return done.stdout, ""


def _time(text: str) -> float | None:
    """Seconds since the epoch; None for None, N/A, Unknown."""
    try:
        return float(text)
    except ValueError:
        return None
