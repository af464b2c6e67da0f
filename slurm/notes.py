"""The files by which a submitter and the elements of an array speak to each other, all in the array's folder.

    <folder>/elements.json             what each element calls, written before sbatch
    <folder>/ends/<index>-start.json   that the element's Python got as far as to start, by rank 0
    <folder>/ends/<index>-rank<r>.json how another rank ended, unless it was well
    <folder>/ends/<index>.json         how the element ended; each start writes over the one before
    <folder>/../bad-nodes/<host>       nodes that a job found broken

Everything is written to a temporary name and renamed, so a reader sees a whole file or none. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from slurm.executor import Job, Resources

ELEMENTS_NAME = "elements.json"
BAD_NODE_HOURS = 24.0


@dataclass(frozen=True)
class End:
    """How one start of an element ended.

    ``state`` is "done", "failed", "cancelled", or "stopped": it is to begin again, which ``requeued`` says that SLURM
    has accepted. A note with ``requeued`` is therefore of an earlier start than the one that the queue knows. ``cause``
    is empty when the exception named none; ``tally`` counts by cause how often the element was requeued.
    """

    state: str
    restart: int
    cause: str = ""
    message: str = ""
    host: str = ""
    time: float = 0.0  # seconds since the epoch, by the node's clock
    requeued: bool = False
    rank: int = 0
    again: bool = False
    tally: Mapping[str, int] = field(default_factory=dict)


def write_elements(path: Path, jobs: Mapping[int, Job], resources: Resources, *, requeue: bool = True) -> None:
    """Write what the elements of an array are to call, by their index; ``requeue``: may they requeue themselves."""
    elements = {
        str(index): {"key": job.key, "name": job.name, "target": job.target, "arguments": job.arguments,
                     "log": os.path.abspath(job.log)}
        for index, job in jobs.items()
    }  # fmt: skip
    cpus = max(1, resources.cpus // resources.tasks)
    write_json(path, {"requeue": requeue, "cpus_per_task": cpus, "minutes": resources.minutes, "elements": elements})


def read_end(folder: Path, index: int) -> End | None:
    """How an element ended when it last noted an end; None when it noted none, or nothing that can be read."""
    return _read_note(end_path(folder, index))


def read_rank_ends(folder: Path, index: int, restart: int) -> list[End]:
    """How ranks other than 0 failed in one start, the earliest first."""
    notes = (_read_note(path) for path in (folder / "ends").glob(f"{index}-rank*.json"))
    return sorted((note for note in notes if note is not None and note.restart == restart), key=lambda end: end.time)


def write_end(folder: Path, index: int, end: End) -> None:
    """Note an end: rank 0's is the element's, another rank's lies beside it."""
    path = end_path(folder, index)
    write_json(path if end.rank == 0 else path.with_name(f"{index}-rank{end.rank}.json"), asdict(end))


def end_path(folder: Path, index: int) -> Path:
    """Where an element notes its end."""
    return folder / "ends" / f"{index}.json"


def start_path(folder: Path, index: int) -> Path:
    """Where an element notes that it has started."""
    return folder / "ends" / f"{index}-start.json"


def mark_bad_node(folder: Path, host: str, why: str) -> None:
    """Have the jobs of ``folder``, where each array has a folder of its own, avoid a node for a day."""
    write_json(folder / "bad-nodes" / host, {"when": time.time(), "why": why})


def read_bad_nodes(folder: Path) -> dict[str, str]:
    """Nodes to avoid and why, as jobs marked them in the folder of all arrays; marks expire after 24 hours."""
    found = {}
    with contextlib.suppress(OSError):
        for path in sorted((folder / "bad-nodes").glob("[!.]*")):
            mark = read_json(path)
            if mark is not None and time.time() - float(mark.get("when", 0.0)) < BAD_NODE_HOURS * 3600:
                found[path.name] = str(mark.get("why", ""))
    return found


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON mapping, or None where there is none that can be read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _read_note(path: Path) -> End | None:
    content = read_json(path)
    known = {one.name for one in fields(End)}
    try:
        return End(**{name: value for name, value in (content or {}).items() if name in known})
    except TypeError:
        return None
