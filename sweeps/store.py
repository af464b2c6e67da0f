"""The runs folder: stages by kind and id, sweeps by name. It is the truth; all else can be rebuilt from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps import marks
from sweeps.description import describe
from tokscale import claim
from tokscale.errors import StoreError
from tokscale.record import RECORD_NAME, Record, read_record, write_atomically
from tokscale.stage import Stage, StageFolder, canonical

if TYPE_CHECKING:
    from sweeps.grid import Trial

CRASH_NAME = "crash.txt"
SPEC_NAME = "spec.yaml"
TRIALS_NAME = "trials.jsonl"


class StageState(str, Enum):
    """Where a stage is; ``interrupted`` was begun by a process that is gone, and can be resumed.

    The last three come from a cluster: ``queued`` waits there, ``blocked`` stands on a stage that failed or was
    cancelled, and ``cancelled`` stays so until somebody retries it.
    """

    new = "new"
    queued = "queued"
    running = "running"
    interrupted = "interrupted"
    failed = "failed"
    blocked = "blocked"
    cancelled = "cancelled"
    done = "done"

    @property
    def alive(self) -> bool:
        """Whether a process or a queue has the stage in hand."""
        return self in (StageState.queued, StageState.running)


@dataclass(frozen=True)
class StageStatus:
    """State of a stage, how many attempts were begun, and for a failure its cause and message.

    ``owner`` is the process of the newest attempt (host:pid); ``job`` and ``node`` are the cluster's job and host;
    ``reason`` says why a stage waits, in words.
    """

    state: StageState
    attempts: int = 0
    cause: str | None = None
    message: str | None = None
    owner: str | None = None
    job: str | None = None
    node: str | None = None
    reason: str | None = None


_NEW, _DONE = StageStatus(StageState.new), StageStatus(StageState.done)


class Store:
    """A runs folder. Reading never changes it; every write is atomic."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def stages(self) -> Path:
        return self.root / "stages"

    def folder(self, stage: Stage) -> StageFolder:
        return StageFolder(self.stages / stage.kind / stage.id)

    def sweep(self, name: str) -> Path:
        return self.root / "sweeps" / name

    def sweep_names(self) -> list[str]:
        """Names of the sweeps that were ever started here."""
        return sorted(name for name in _entries(self.root / "sweeps") if (self.sweep(name) / SPEC_NAME).is_file())

    def check_writable(self, needed: int = 0) -> None:
        """Raise ``StoreError`` when the runs folder cannot be made or written to, or has no room for so many bytes."""
        probe = self.root / f".writable-{os.getpid()}"
        # An empty file fits on a full disk.
        write_atomically(probe, bytes(1 << 15))
        probe.unlink(missing_ok=True)
        room = os.statvfs(self.root)
        free = room.f_bavail * room.f_frsize
        if free < needed:
            raise StoreError(
                "the runs folder has no room for what comes next", where=str(self.root),
                given=f"{free / 2**20:,.0f} MB free", allowed=f"{needed / 2**20:,.0f} MB or more",
            )  # fmt: skip

    def prepare(self, stage: Stage) -> StageFolder:
        """Describe a stage in its folder, so that a job needs nothing but the folder's path."""
        folder = self.folder(stage)
        content = describe(stage).encode()
        if not folder.description.exists() or folder.description.read_bytes() != content:
            write_atomically(folder.description, content)
        return folder

    def prepare_all(self, stages: Iterable[Stage]) -> None:
        """Describe many stages: most of it is waiting for the disk, so several wait at a time."""
        marks.in_parallel(self.prepare, stages)

    def set_aside_invalid(self, stages: Iterable[Stage]) -> dict[str, str]:
        """Rename the records that are not valid, so that their stages run again; their keys with what is wrong."""
        faults = self.faults(stages)
        for key in faults:
            path = self.stages / key / RECORD_NAME
            path.replace(path.with_name(f"{RECORD_NAME}.invalid"))
        return faults

    def faults(self, stages: Iterable[Stage]) -> dict[str, str]:
        """What is wrong with the records of finished stages, by key, and only where something is."""
        return {stage.key: fault for stage in stages if (fault := self._fault(stage)) is not None}

    def _fault(self, stage: Stage) -> str | None:
        """What is wrong with a finished stage, its record or an artifact; None if nothing is."""
        try:
            record = self.record(stage)
        except StoreError as error:
            return error.what
        if record is None:
            return None
        if canonical(record.config) != canonical(dict(stage.config)):
            return "its record is of another config"
        for name, expected in record.artifacts.items():
            path = self.folder(stage).artifacts / name
            if not path.is_file() or path.stat().st_size != expected["bytes"]:
                return f"{name} is gone or cut short"
        return None

    def statuses(self, stages: Iterable[Stage]) -> dict[str, StageStatus]:
        """Status of each stage by key; stages that were never begun cost no file access."""
        wanted = {stage.key: stage for stage in stages}
        begun = {kind: set(_entries(self.stages / kind)) for kind in {stage.kind for stage in wanted.values()}}
        return {key: self.status(stage) if stage.id in begun[stage.kind] else _NEW for key, stage in wanted.items()}

    def status(self, stage: Stage) -> StageStatus:
        """Status of one stage, from its record, then its claim, then the mark of who cancelled it."""
        if os.path.exists(f"{self.root}/stages/{stage.key}/{RECORD_NAME}"):  # most are done: spare them the listing
            return _DONE
        folder = self.folder(stage)
        names = _entries(folder.path)
        if RECORD_NAME in names:  # a network file system may hold that a file is missing for longer than its listing
            return _DONE
        found = self._claimed(folder) if claim.FOLDER_NAME in names else _NEW
        if marks.CANCELLED_NAME in names and found.state is not StageState.running:
            mark = marks.cancelled(folder)
            message = f"by {mark.get('who')} at {mark.get('when')}: {mark.get('why')}"
            return replace(found, state=StageState.cancelled, cause="cancelled", message=message)
        return found

    def _claimed(self, folder: StageFolder) -> StageStatus:
        """Status of a stage without a record, from its claim."""
        held = claim.state(folder.path)
        if held.kind == "free" or held.owner is None:
            return _NEW
        owner = held.owner
        status = StageStatus(StageState.interrupted, held.attempt, owner=f"{owner.host}:{owner.pid}",
                             job=owner.job or None, node=owner.host or None)  # fmt: skip
        if held.kind == "held":
            return replace(status, state=StageState.running)
        if marks.is_forgiven(folder, held.attempt):
            return status
        if held.kind == "dead":
            crash = folder.attempt(held.attempt) / CRASH_NAME
            if not crash.exists():
                return status
            return replace(status, state=StageState.failed, cause="crash", message=crash.read_text())
        outcome = held.outcome or {}
        state = StageState.failed if outcome.get("state") == "failed" else StageState.interrupted
        return replace(status, state=state, cause=outcome.get("cause"), message=outcome.get("message"))

    def record(self, stage: Stage) -> Record | None:
        """The record of a stage, or None while it is not done; one that belongs elsewhere raises ``StoreError``."""
        folder = self.folder(stage)
        record = read_record(folder.path)
        return None if record is None else of_stage(record, stage, where=str(folder.record))

    def keep_crash(self, stage: Stage, attempt: int, reason: str) -> None:
        """Keep why the process of an attempt vanished; the attempt itself could not."""
        write_atomically(self.folder(stage).attempt(attempt) / CRASH_NAME, reason.encode())

    def write_sweep(self, name: str, spec_text: str, trials: Iterable[Mapping[str, Any]]) -> Path:
        """Keep a sweep's spec and the list of its trials with their stages."""
        folder = self.sweep(name)
        write_atomically(folder / TRIALS_NAME, _lines(trials).encode())
        write_atomically(folder / SPEC_NAME, spec_text.encode())
        return folder

    def is_current(
        self, name: str, spec_text: str, trials: Iterable[Mapping[str, Any]], records: Iterable[Path]
    ) -> bool:
        """Whether a sweep's results and report are there, of this very spec, and no older than its records."""
        folder = self.sweep(name)
        expected = {SPEC_NAME: spec_text, TRIALS_NAME: _lines(trials)}
        made = [folder / name for name in ("results.parquet", "summary.json", "report/report.html")]
        try:
            if any((folder / name).read_text() != text for name, text in expected.items()):
                return False
            if not all(path.stat().st_size for path in made):
                return False
            return min(path.stat().st_mtime for path in made) >= max(path.stat().st_mtime for path in records)
        except (OSError, UnicodeDecodeError):
            return False


def of_stage(record: Record, stage: Stage, *, where: str) -> Record:
    """A record that was read at ``where``; raises ``StoreError`` when it is not that stage's."""
    if (record.kind, record.id) != (stage.kind, stage.id):
        raise StoreError("a record belongs to another stage", where=where, given=f"{record.kind}/{record.id}",
                         allowed=stage.key)  # fmt: skip
    return record


def trial_rows(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """What is kept of a sweep's trials: their ids, the values of the grid that make them, and their stages."""
    return [
        {"trial": trial.id, "values": dict(trial.values), "stages": [stage.key for stage in trial.stages]}
        for trial in trials
    ]


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def _entries(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(
            f"the runs folder cannot be read: {error.strerror}", where=str(folder),
            allowed="a folder (choose another with --runs or TOKSCALE_RUNS)",
        ) from error  # fmt: skip
