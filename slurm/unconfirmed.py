"""Submissions of which nobody wrote down whether the cluster took them: looked for by name, and given up in time.

Their submitter died after its intent, or the answer of sbatch was lost. One that the cluster does not know may still be
on its way, for as long as its sbatch lives and a little longer. On the machine of its submitter that can be seen; on
another, only time tells.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from slurm import cluster
from slurm.cluster import AccountingOffError, ClusterError
from slurm.ledger import Ledgers, Submission
from slurm.machine import process_space

UNCONFIRMED_SECONDS = 300.0  # after so long one that the cluster does not know by its name never got there
GRACE_SECONDS = 20.0  # in which slurmctld works off what it took in from an sbatch that is gone
SENDER = b"sbatch"


class Unconfirmed:
    """What is not known yet; ``seconds`` says by key until when (from the last look) it is known in any case."""

    def __init__(self, ledgers: Ledgers) -> None:
        self.ledgers = ledgers
        self.seconds: Mapping[str, float] = {}
        self._quiet: dict[str, float] = {}  # token -> since when no sbatch of it is seen here, by the monotonic clock

    def look(self) -> None:
        """Look in the queue, then in accounting; asks nothing when all is known.

        ``ClusterError`` when one of the two does not answer: then nothing is given up.
        """
        lost = {entry.submission.name: entry.submission for entry in self.ledgers.entries().values()
                if entry.submission.job is None}  # fmt: skip
        left = self._seconds_left(lost.values())
        self.seconds = self._by_key(lost.values(), left)
        if not lost:
            return
        found: dict[str, str] = {}
        try:
            found = {row.name: row.job for row in cluster.queue(names=sorted(lost))}
            if missing := sorted(lost.keys() - found.keys()):
                since = min(lost[name].time for name in missing)
                with contextlib.suppress(AccountingOffError):
                    found |= {row.name: row.job for row in cluster.accounts(names=missing, since=since)}
        finally:
            for name in found:
                self._settle(lost[name], {"event": "submitted", "token": lost[name].token, "job": found[name]})
        for name in lost.keys() - found.keys():
            if left[lost[name].token] <= 0:
                said = "the cluster does not know it"
                self._settle(lost[name], {"event": "refused", "token": lost[name].token, "said": said})
        self.seconds = self._by_key(lost.values(), left)

    def _seconds_left(self, lost: Collection[Submission]) -> dict[str, float]:
        """Until each is known in any case, by token; to be asked before the cluster is: one may be sent in between."""
        now, clock = time.time(), time.monotonic()
        # Only of our own: what is found out about others is not ours to write, and another process must find the same.
        here = {one.token for one in lost if one.token in self.ledgers.own.submissions and is_visible(one)}
        quiet = here - sent_here(here) if here else set()
        self._quiet = {token: self._quiet.get(token, clock) for token in quiet}
        left = {one.token: UNCONFIRMED_SECONDS - (now - one.time) for one in lost}
        for token in here:
            since = self._quiet.get(token, clock)
            left[token] = min(left[token], GRACE_SECONDS - (clock - since))
        return left

    def _by_key(self, lost: Collection[Submission], left: Mapping[str, float]) -> dict[str, float]:
        unknown = [one for one in lost if one.job is None and one.refused is None]
        return {element.key: max(0.0, left[one.token]) for one in unknown for element in one.elements.values()}

    def _settle(self, submission: Submission, event: Mapping[str, str]) -> None:
        """Write down what became of a submission, if it is ours; else know it for as long as we live."""
        if submission.token in self.ledgers.own.submissions:
            try:
                self.ledgers.own.append(event)
            except ClusterError:  # no room, or not ours to write
                if event["event"] == "refused":  # given up only where everybody can read that
                    return
        submission.job, submission.refused = event.get("job"), event.get("said")


def is_visible(submission: Submission) -> bool:
    """Whether an sbatch of a submission would be among the processes that we see: same machine, same user."""
    here = process_space()
    return here != "" and submission.host == here and submission.user == str(os.getuid())


def sent_here(tokens: Collection[str], root: Path = Path("/proc")) -> set[str]:
    """The arrays, by their tokens, for which an sbatch runs on this machine: their folder is on its command line."""
    found: set[str] = set()
    for path in root.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            words = path.read_bytes()
            if SENDER in words:
                found |= {token for token in tokens if f"/{token}/".encode() in words}
    return found
