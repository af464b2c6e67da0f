"""Thin calls to SLURM's own programs: sbatch, squeue, sacct, scancel, scontrol, each with a time limit.

A call is judged by its exit status, never by what it prints beside its answer. ``NoAnswerError`` means that slurmctld
or slurmdbd was not reached, or not in time: what was asked may have happened or not.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ASK_SECONDS = 20.0  # a watcher must not hang
SUBMIT_SECONDS = 120.0  # SLURM's own MessageTimeout may be as long as 100 s
DEFAULT_ARRAY_SIZE = 1001  # SLURM's own
MOST_IDS = 300  # in one call of scancel: a command line has an end

# What a shell inside a job passes on and a new job must not inherit: CPU masks, ranks, options of another job.
_OF_A_JOB = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "PMI_", "PMIX_")
_KEPT = ("SLURM_CONF",)
# Times as seconds since the epoch, and lists of indices whole.
_ANSWERS = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
_NOT_REACHED = re.compile(
    r"unable to contact|timed out|connect failure|connection refused|zero bytes were transmitted|communication"
    r"|send/recv|transport endpoint|problem talking|slurmdbd.*down|connection error|persistent connection",
    re.IGNORECASE,
)
# These say that the request never left this machine, so nothing can have come of it.
_NEVER_SENT = re.compile(r"connect failure|connection refused", re.IGNORECASE)
_LIMIT = re.compile(r"\w*MaxSubmit\w*Limit|job submit limit|temporarily unable to accept job", re.IGNORECASE)


class ClusterError(ValueError):
    """SLURM refused, or did not answer: what, where, given, allowed."""

    def __init__(self, what: str, *, where: str, given: object = None, allowed: str):
        self.what, self.where, self.given, self.allowed = what, where, given, allowed
        super().__init__(what)

    def add(self, words: str) -> None:
        """Say more about what is wrong."""
        self.what += f"; {words}"

    def __str__(self) -> str:
        lines = [self.what, f"  where:   {self.where}"]
        if self.given is not None:
            lines.append(f"  given:   {self.given if isinstance(self.given, str) else repr(self.given)}")
        return "\n".join([*lines, f"  allowed: {self.allowed}"])


class NoAnswerError(ClusterError):
    """SLURM was not reached, or did not answer in time; ``sent``: what was asked may have been done nevertheless."""

    sent = True


class AccountingOffError(ClusterError):
    """The cluster keeps no accounts."""


class SubmitLimit(ClusterError):
    """The cluster takes no more jobs of ours for now; ``taken`` are the keys of those that it took before."""

    taken: tuple[str, ...] = ()


@dataclass(frozen=True)
class QueueRow:
    """One element as ``squeue`` shows it: times in seconds since the epoch."""

    job: str
    index: int
    state: str
    reason: str
    nodes: str
    started: float | None  # of one that waits: when it may start
    ended: float | None  # of one that runs: when its time is up
    name: str


@dataclass(frozen=True)
class AccountRow:
    """One element as ``sacct`` shows it."""

    job: str
    index: int
    state: str
    exit_code: str  # status:signal
    nodes: str
    started: float | None
    ended: float | None
    name: str


def sbatch(script: Path) -> str:
    """Submit a script; the id of its job.

    ``SubmitLimit`` when the cluster takes no more of ours, ``NoAnswerError`` when nobody knows whether it was taken,
    ``ClusterError`` with the words of sbatch when it was refused.
    """
    done = _call("sbatch", "--parsable", str(script), seconds=SUBMIT_SECONDS)
    if done.returncode != 0:
        said = _words(done)
        if _LIMIT.search(said):
            raise _no_more(said)
        _raise(done, "sbatch refused a job array", "what the partition, account and QOS of the profile give")
    job = done.stdout.strip().splitlines()[-1].partition(";")[0] if done.stdout.strip() else ""
    if not job.isdigit():
        raise NoAnswerError("sbatch said no job id", where="sbatch", given=done.stdout, allowed="a number")
    return job


def queue(jobs: Sequence[str] = (), *, names: Sequence[str] = ()) -> list[QueueRow]:
    """The elements of arrays, by the arrays' ids or names, that SLURM still knows: also those that ended lately."""
    if not jobs and not names:
        return []
    chosen = f"--jobs={','.join(jobs)}" if jobs else f"--name={','.join(names)}"
    # The name comes last: it alone may contain the separator.
    form = "--format=%F|%K|%T|%r|%N|%S|%e|%j"
    done = _call("squeue", "--noheader", "--array", "--states=all", chosen, form)
    if done.returncode != 0:
        if "invalid job id" in _words(done).lower():  # of a single id that is forgotten
            return []
        _raise(done, "squeue failed", "an answer of slurmctld")
    rows = []
    for line in done.stdout.splitlines():
        fields = line.split("|", 7)
        if len(fields) == 8 and fields[1].isdigit():
            job, index, state, reason, nodes, start, end, name = fields
            rows.append(QueueRow(job, int(index), state, reason, nodes, _time(start), _time(end), name))
    return rows


def accounts(jobs: Sequence[str] = (), *, names: Sequence[str] = (), since: float) -> list[AccountRow]:
    """The newest account of each element of arrays, by the arrays' ids or names.

    ``since`` is when the oldest of them was submitted (seconds since the epoch): by default sacct sees only today.
    ``AccountingOffError`` where there are no accounts.
    """
    chosen = f"--jobs={','.join(jobs)}" if jobs else f"--name={','.join(names)}"
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - 3600.0))  # clocks of two machines
    form = "--format=JobID,State,ExitCode,NodeList,Start,End,JobName"
    done = _call("sacct", "--allusers", "-X", "-n", "-P", "--delimiter=|", f"--starttime={start}", chosen, form)
    if done.returncode != 0 or "storage is disabled" in done.stderr.lower():
        if "disabled" in _words(done).lower():
            raise AccountingOffError(
                "accounting is off on this cluster", where="sacct", allowed="an accounting storage"
            )
        _raise(done, "sacct failed", "an answer of slurmdbd")
    rows = []
    for line in done.stdout.splitlines():
        fields = line.split("|", 6)
        if len(fields) < 7:
            continue
        job, _, indices = fields[0].partition("_")
        state, exit_code, nodes, started, ended, name = fields[1:]
        nodes = "" if nodes == "None assigned" else nodes
        rows += [AccountRow(job, index, state, exit_code, nodes, _time(started), _time(ended), name)
                 for index in parse_indices(indices)]  # fmt: skip
    return rows


def scancel(ids: Sequence[str]) -> None:
    """Cancel jobs by ids: ``A`` for a whole array, ``A_k`` for an element; those that have ended are no error."""
    for start in range(0, len(ids), MOST_IDS):
        done = _call("scancel", *ids[start:][:MOST_IDS], seconds=4 * ASK_SECONDS)
        if done.returncode != 0 and not re.search(r"invalid job id|already complet", _words(done), re.IGNORECASE):
            _raise(done, "scancel failed", "jobs of one's own")


def release(ids: Sequence[str]) -> None:
    """Let held jobs go on."""
    for identity in ids:
        done = _call("scontrol", "release", identity)
        if done.returncode != 0:
            _raise(done, f"scontrol cannot release {identity}", "a held job of one's own")


def set_throttle(job: str, most: int) -> None:
    """Let at most so many elements of an array run at a time; those that have ended already do not matter."""
    done = _call("scontrol", "update", f"JobId={job}", f"ArrayTaskThrottle={most}")
    # scontrol fails over each element that has ended, and changes the array all the same.
    if done.returncode != 0 and "already finished" not in done.stderr:
        _raise(done, f"scontrol cannot throttle {job}", "an array of one's own that has not ended")


def max_array_size() -> int:
    """The cluster's MaxArraySize: an index is always below it."""
    found = _configuration(r"MaxArraySize\s*=\s*(\d+)")
    return int(found) if found is not None else DEFAULT_ARRAY_SIZE


def booted() -> float | None:
    """When slurmctld began, in seconds since the epoch; None if it does not tell."""
    found = _configuration(r"BOOT_TIME\s*=\s*(\S+)")
    return None if found is None else _time(found)


def _configuration(pattern: str) -> str | None:
    done = _call("scontrol", "show", "config")
    if done.returncode != 0:
        _raise(done, "scontrol cannot show the configuration", "an answer of slurmctld")
    found = re.search(f"^{pattern}", done.stdout, re.MULTILINE)
    return found.group(1) if found else None


def clean_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without what belongs to a job that this process may run in; SLURM_CONF stays."""
    return {name: value for name, value in environment.items() if name in _KEPT or not name.startswith(_OF_A_JOB)}


def parse_indices(text: str) -> Iterable[int]:
    """The indices of ``7``, of ``[1-3,7]`` and of ``[0-999%5]``; none where there is no array."""
    for part in text.strip("[]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            yield from range(int(first), int(last if last.isdigit() else first) + 1)


def _call(program: str, *arguments: str, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of SLURM for at most ``seconds``, by default ``ASK_SECONDS``."""
    seconds = ASK_SECONDS if seconds is None else seconds
    environment = clean_environment()
    if program != "sbatch":  # whose environment is the job's
        environment |= _ANSWERS
    try:
        return subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, timeout=seconds, check=False,
            stdin=subprocess.DEVNULL, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        said = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else error.stderr or ""
        if program == "sbatch" and _LIMIT.search(said):
            raise _no_more(said) from error
        raise NoAnswerError(
            f"{program} did not answer within {seconds:.0f} s", where=program, allowed="a slurmctld that answers"
        ) from error
    except OSError as error:
        raise ClusterError(
            f"{program} cannot be run: {error.strerror}", where="PATH", allowed="a machine with SLURM's programs"
        ) from error


def _words(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip() or done.stdout.strip()) or f"exit status {done.returncode}"


def _raise(done: subprocess.CompletedProcess[str], what: str, allowed: str) -> None:
    program, said = str(done.args[0]), _words(done)
    if not _NOT_REACHED.search(said):
        raise ClusterError(what, where=program, given=said, allowed=allowed)
    error = NoAnswerError(f"{program} got no answer", where=program, given=said, allowed="a cluster that answers")
    error.sent = not _NEVER_SENT.search(said)
    raise error


def _no_more(said: str) -> SubmitLimit:
    found = _LIMIT.search(said)
    what = f"the cluster takes no more jobs for now ({found.group() if found else 'no reason given'})"
    return SubmitLimit(what, where="sbatch", given=said.strip(), allowed="fewer jobs at a time")


def _time(text: str) -> float | None:
    """Seconds since the epoch; None for N/A, NONE, Unknown."""
    try:
        return float(text)
    except ValueError:
        return None
