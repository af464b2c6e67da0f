"""The claim on a stage's folder: who works on it, so that nobody else does, and how the next one takes over.

    claim/0001           the first attempt's owner; a file appears whole, in one step, and never changes
    claim/0001.released  how that attempt ended, when its owner could still say so
    claim/0002           the next attempt; the highest number is the owner

To take over from a dead owner is to publish the next number, and of several processes that try, the file system lets
one succeed: no lock, nothing is ever removed, and it holds on NFS. An owner touches its file every ``interval``
seconds. It counts as dead when its process is gone, where that can be seen, or when its file was not touched for its
``lease``. Age is measured by the clock of the file system, which sets both times, not by the clocks of the nodes.

An owner that was only asleep (a suspended job, a hung mount) can lose its claim. It must ask ``check`` before it writes
what others would read.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from tokscale.errors import StoreError
from tokscale.owner import LEASE, Owner, is_gone, this_process
from tokscale.record import cannot_write, write_atomically

FOLDER_NAME = "claim"
INTERVAL = 20.0  # seconds between heartbeats: fifteen may fail before the lease ends
CLOCK_SECONDS = 30.0  # how long one look at a file system's clock is good for
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class ClaimState:
    """``kind`` is free (never claimed), held, dead (its owner went without a word) or released (with ``outcome``)."""

    kind: str
    owner: Owner | None = None
    attempt: int = 0
    outcome: dict[str, Any] | None = None


class Claim:
    """A claim that is ours. Leaving the ``with`` block releases it: done, interrupted or failed, as the block ended."""

    def __init__(self, folder: Path, owner: Owner, interval: float):
        self.folder = folder
        self.owner = owner
        self.attempt = owner.attempt
        self.outcome: dict[str, Any] | None = None
        self._file = _claim_file(folder, owner.attempt)
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, args=(interval,), name=f"claim {self._file}", daemon=True)
        self._heart.start()

    def owned(self) -> bool:
        """Whether nobody took over since."""
        if _latest(self.folder) != self.attempt:
            return False
        return _read_owner(self.folder, self.attempt).token == self.owner.token

    def check(self) -> None:
        """Raise ``StoreError`` when somebody took over: what this process would still write is no longer wanted."""
        if not self.owned():
            latest = _latest(self.folder)
            taker = _read_owner(self.folder, latest) if latest > self.attempt else "nobody: the claim was removed"
            raise StoreError(
                "the claim on a stage was lost", where=str(self.folder), given=f"taken over by {taker}",
                allowed="let the new owner finish; this attempt's work is not used",
            )  # fmt: skip

    def release(self, outcome: Mapping[str, Any]) -> None:
        """Give the claim up and say how the attempt ended, in JSON values; only the first call counts.

        Raises ``StoreError`` when that cannot be written; the claim then ends with its process or its lease.
        """
        if self.outcome is not None:
            return
        self.outcome = dict(outcome)
        self._stop.set()
        write_atomically(_released_file(self.folder, self.attempt), json.dumps(self.outcome).encode())

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.release({"state": "done"})
            return
        state = "failed" if isinstance(error, Exception) else "interrupted"
        # The error on its way out says more than one about the note that it left.
        with contextlib.suppress(StoreError):
            self.release({"state": state, "error": f"{type(error).__name__}: {error}"})

    def _beat(self, interval: float) -> None:
        while not self._stop.wait(interval):
            # A file system that is away for a while is what the lease is long for.
            with contextlib.suppress(OSError):
                os.utime(self._file)


def claim(folder: Path, *, lease: float = LEASE, interval: float = INTERVAL) -> Claim | None:
    """Claim a stage's folder for this process; None while a live owner holds it (``holder`` says who) or was faster.

    A thread of the same process is refused like anybody else. Whoever gets the claim looks for the record once more:
    the one before may have finished meanwhile. Raises ``StoreError`` when the folder cannot be written.
    """
    assert 0 < interval < lease
    now = state(folder)
    if now.kind == "held":
        return None
    owner = this_process(now.attempt + 1, lease)
    return Claim(folder, owner, interval) if _publish(folder, owner) else None


def holder(folder: Path) -> Owner | None:
    """The live owner of a stage's folder."""
    now = state(folder)
    return now.owner if now.kind == "held" else None


def state(folder: Path) -> ClaimState:
    """How the claim on a stage's folder stands; reads only, apart from a look at the file system's clock."""
    attempt = _latest(folder)
    if attempt == 0:
        return ClaimState("free")
    owner = _read_owner(folder, attempt)
    outcome = _read_outcome(folder, attempt)
    if outcome is not None:
        return ClaimState("released", owner, attempt, outcome)
    return ClaimState("dead" if _is_dead(folder, owner) else "held", owner, attempt)


def outcomes(folder: Path) -> list[ClaimState]:
    """All attempts at a stage, oldest first, as far as they are over: released, or dead; reads only.

    An attempt that somebody followed is dead if it left no outcome. The newest is left out while it is held.
    """
    latest = state(folder)
    earlier = range(1, latest.attempt)
    found = [(_read_owner(folder, number), _read_outcome(folder, number)) for number in earlier]
    states = [ClaimState("dead" if outcome is None else "released", owner, owner.attempt, outcome)
              for owner, outcome in found]  # fmt: skip
    return states if latest.kind in ("free", "held") else [*states, latest]


def _is_dead(folder: Path, owner: Owner) -> bool:
    """Whether an owner is gone: for certain where its process can be looked for, by its lease elsewhere."""
    if is_gone(owner):
        return True
    try:
        # Opening makes an NFS client ask the server; a plain stat may answer from memory.
        with open(_claim_file(folder, owner.attempt), "rb") as file:
            heartbeat = os.fstat(file.fileno()).st_mtime
    except OSError:
        return False
    return _file_system_time(folder / FOLDER_NAME) - heartbeat > owner.lease


def _latest(folder: Path) -> int:
    """The highest number published; 0 when there is none."""
    try:
        with os.scandir(folder / FOLDER_NAME) as entries:
            return max((int(entry.name) for entry in entries if entry.name.isdecimal()), default=0)
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _claim_file(folder: Path, attempt: int) -> Path:
    return folder / FOLDER_NAME / f"{attempt:04}"


def _released_file(folder: Path, attempt: int) -> Path:
    return folder / FOLDER_NAME / f"{attempt:04}.released"


def _publish(folder: Path, owner: Owner) -> bool:
    """Make an owner's file appear, whole; False when another process made that number first."""
    path = _claim_file(folder, owner.attempt)
    content = json.dumps(asdict(owner), indent=1).encode()
    temporary = path.with_name(f".{path.name}.{owner.token}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write(temporary, content)
            return _link(temporary, path, content)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error


def _link(temporary: Path, path: Path, content: bytes) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # An NFS server whose first answer was lost reports our own link as one that is there already.
        return path.read_bytes() == content
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        # A file system without hard links: the name is still taken by one only, though not whole at once. A reader that
        # comes in between sees an owner that it does not know, and leaves it its lease.
        try:
            _write(path, content)
        except FileExistsError:
            return False
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return True


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read_owner(folder: Path, attempt: int) -> Owner:
    """The owner of an attempt; one without a process when the file says nothing yet."""
    known = {field.name for field in fields(Owner)}
    try:
        content = json.loads(_claim_file(folder, attempt).read_bytes())
        return Owner(**{name: value for name, value in content.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return Owner(attempt, host="", pid=0)


def _read_outcome(folder: Path, attempt: int) -> dict[str, Any] | None:
    try:
        content = json.loads(_released_file(folder, attempt).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


_clocks: dict[int, tuple[float, float]] = {}  # device: its time, and ours when it was asked


def _file_system_time(folder: Path) -> float:
    """Now, by the clock that stamps this folder's files; by ours where the folder cannot be written."""
    temporary = folder / f".clock.{uuid.uuid4().hex}"
    try:
        device = os.stat(folder).st_dev
        if device in _clocks and time.monotonic() - _clocks[device][1] < CLOCK_SECONDS:
            theirs, asked = _clocks[device]
            return theirs + time.monotonic() - asked
        asked = time.monotonic()
        temporary.touch(exist_ok=False)
        try:
            os.utime(temporary)  # the way heartbeats are stamped
            theirs = temporary.stat().st_mtime
        finally:
            temporary.unlink()
    except OSError:
        return time.time()
    _clocks[device] = theirs, asked
    return theirs
