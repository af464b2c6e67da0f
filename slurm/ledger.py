"""The ledger of a sweep's submissions: a file that only grows, one JSON object a line.

    {"event": "intent", "token", "name", "folder", "time", "user", "host", "throttle",
     "minutes", "elements": {index: [key, name, after]}}
    {"event": "submitted", "token", "job"}       sbatch accepted it, or it was found on the cluster by its name
    {"event": "refused", "token", "said"}        sbatch did not take it, or it was never found
    {"event": "throttled", "token", "throttle"}
    {"event": "cancelled" | "released" | "given up" | "hopeless", "token", "elements": [index, ...], "time"}
    {"event": "blocked", "time", "keys": {key: why}}   jobs that were not submitted, since one before them failed

An intent is written before sbatch is called and the job's id after it, so a submission whose submitter died in between
is known and can be looked for. A line that is torn, by a death or a full disk, stands for nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurm.arrays import JobArray, Place
from slurm.cluster import ClusterError
from slurm.lines import append_line
from slurm.machine import process_space

LOCK_SECONDS = 120.0  # a submission of thousands of jobs takes a few


@dataclass(frozen=True)
class Element:
    """What the ledger knows of one element: the job's key and name, and the keys of the jobs that come before it."""

    key: str
    name: str
    after: tuple[str, ...] = ()


@dataclass
class Submission:
    """One array: what was meant, and what came of it; ``job`` is its id on the cluster once that is known."""

    token: str
    name: str
    folder: Path
    time: float
    user: str
    throttle: int | None
    minutes: int | None  # of one element
    elements: Mapping[int, Element]
    host: str = ""  # of the submitter, as ``process_space`` has it; empty: not written down
    job: str | None = None
    refused: str | None = None
    marks: dict[str, set[int]] = field(default_factory=dict)  # event -> indices

    def marked(self, event: str, index: int) -> bool:
        return index in self.marks.get(event, ())


class Ledger:
    """The submissions in one file. ``read`` takes in what was appended since; only the owner's ledger is written."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._forget()

    def _forget(self) -> None:
        self.submissions: dict[str, Submission] = {}
        self.blocked: dict[str, tuple[float, str]] = {}  # key -> when, why
        self.foreign_marks: list[dict[str, Any]] = []  # of arrays that stand in another sweep's ledger
        self._offset = 0

    def read(self) -> None:
        """Take in the lines that are new; a last line without an end is left for the next time."""
        try:
            with open(self.path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size < self._offset:  # another file by now
                    self._forget()
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return
        whole = content.rfind(b"\n") + 1
        self._offset += whole
        for line in content[:whole].splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                self._take(json.loads(line))

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one line, whole and on the disk on return; ``ClusterError`` when there is no room for it."""
        try:
            append_line(self.path, event)
        except OSError as error:
            raise ClusterError(
                f"cannot write down a submission: {error.strerror}", where=str(self.path), allowed="a file with room"
            ) from error
        self.read()

    def intend(self, token: str, name: str, folder: Path, array: JobArray, after: Mapping[str, Sequence[str]]) -> None:
        """Write down that an array is about to be submitted."""
        elements = {str(i): [job.key, job.name, list(after[job.key])] for i, job in sorted(array.elements.items())}
        self.append({"event": "intent", "token": token, "name": name, "time": time.time(), "user": os.getuid(),
                     "host": process_space(), "folder": os.path.relpath(folder, self.path.parent),
                     "throttle": array.throttle, "minutes": array.resources.minutes, "elements": elements})  # fmt: skip

    def mark(self, event: str, token: str, indices: Sequence[int]) -> None:
        """Write down what was done to elements of an array."""
        self.append({"event": event, "token": token, "elements": sorted(indices), "time": time.time()})

    def _take(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "intent":
            elements = {int(i): Element(key, name, tuple(after)) for i, (key, name, after) in event["elements"].items()}
            folder = Path(os.path.normpath(self.path.parent / event["folder"]))
            self.submissions[event["token"]] = Submission(
                event["token"], event["name"], folder, float(event["time"]), str(event["user"]), event["throttle"],
                event["minutes"], elements, str(event.get("host", "")),
            )  # fmt: skip
        elif kind == "blocked":
            self.blocked.update({key: (float(event["time"]), why) for key, why in event["keys"].items()})
        elif event["token"] not in self.submissions:
            self.foreign_marks.append(dict(event))
        elif kind == "submitted":  # also when somebody had given it up
            self.submissions[event["token"]].job, self.submissions[event["token"]].refused = str(event["job"]), None
        elif kind == "refused":
            self.submissions[event["token"]].refused = str(event["said"])
        elif kind == "throttled":
            self.submissions[event["token"]].throttle = event["throttle"]
        else:
            self.submissions[event["token"]].marks.setdefault(kind, set()).update(event["elements"])


@dataclass(frozen=True)
class Entry:
    """The newest submission of a job: which array, which element."""

    submission: Submission
    index: int

    @property
    def element(self) -> Element:
        return self.submission.elements[self.index]

    @property
    def log(self) -> Path:
        """Where the launcher of this element, its script and srun, write."""
        return self.submission.folder / f"{self.submission.job}_{self.index}_0_log.out"

    @property
    def place(self) -> Place:
        assert self.submission.job is not None
        return Place(self.submission.job, self.index)


class Ledgers:
    """The own ledger and those of others, read as one: the newest submission of every key."""

    def __init__(self, own: Path, others: Sequence[Path] = ()) -> None:
        self.own = Ledger(own)
        self.others = [Ledger(path) for path in others if path.absolute() != self.own.path]

    def read(self) -> None:
        for ledger in (self.own, *self.others):
            ledger.read()
        for ledger in (self.own, *self.others):
            waiting, ledger.foreign_marks = ledger.foreign_marks, []
            for mark in waiting:
                owner = next((one for one in (self.own, *self.others) if mark.get("token") in one.submissions), None)
                if owner is None:
                    ledger.foreign_marks.append(mark)
                else:
                    owner._take(mark)

    def entries(self) -> dict[str, Entry]:
        """The newest submission of every key, without those that the cluster refused; oldest first."""
        found: dict[str, Entry] = {}
        for submission in sorted(self._submissions(), key=lambda one: one.time):
            if submission.refused is None:
                for index, element in submission.elements.items():
                    found.pop(element.key, None)  # so that it comes after what it was submitted with
                    found[element.key] = Entry(submission, index)
        return found

    def blocked(self) -> dict[str, tuple[float, str]]:
        """Jobs that were never submitted, since one before them failed: when that was, and why."""
        found: dict[str, tuple[float, str]] = {}
        for ledger in (*self.others, self.own):
            for key, (when, why) in ledger.blocked.items():
                if key not in found or when > found[key][0]:
                    found[key] = (when, why)
        return found

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other submitter of these ledgers waiting; ``ClusterError`` when one of them takes too long.

        The locks, a file beside each ledger, are taken in the order of their names, so that no two wait for each other.
        """
        with contextlib.ExitStack() as locks:
            for ledger in sorted((self.own, *self.others), key=lambda one: one.path):
                locks.enter_context(_locked(ledger.path.with_name(ledger.path.name + ".lock"), ledger is self.own))
            yield

    def _submissions(self) -> Iterator[Submission]:
        for ledger in (*self.others, self.own):
            yield from ledger.submissions.values()


def by_token(entries: Iterable[Entry]) -> dict[str, list[int]]:
    """Indices by array."""
    found: dict[str, list[int]] = {}
    for entry in entries:
        found.setdefault(entry.submission.token, []).append(entry.index)
    return found


@contextlib.contextmanager
def _locked(path: Path, own: bool) -> Iterator[None]:
    """Hold a lock file: alone if it is one's own, together with other readers if not; it is kept when done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT if own else os.O_RDONLY, 0o666)
    except OSError as error:
        if own:
            raise ClusterError(
                f"cannot lock the submissions: {error.strerror}", where=str(path), allowed="a folder to write to"
            ) from error
        yield  # nobody has submitted there yet, or it is not ours to lock
        return
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_EX if own else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        "another submission is under way", where=str(path), given=f"{LOCK_SECONDS:.0f} s of waiting",
                        allowed="one submission at a time: try again when it is done",
                    ) from error  # fmt: skip
                time.sleep(0.05)
            except OSError:
                break  # a file system without locks: the claims in the store keep two jobs from one stage
        yield
    finally:
        os.close(descriptor)
