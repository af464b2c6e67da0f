"""Marks that people leave in a stage's folder: ``cancelled``, until somebody retries it, and ``attempts/NN/forgiven``.

A mark is a small JSON file that says who made it, when, and why. A job that starts on a cancelled stage ends at once;
a failure that was forgiven no longer counts, and its stage may run again.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from tokscale.record import write_atomically
from tokscale.stage import StageFolder

CANCELLED_NAME = "cancelled"
FORGIVEN_NAME = "forgiven"
_AT_A_TIME = 16  # writes under way: most of one is waiting for the disk

Item = TypeVar("Item")


def cancel(folders: Iterable[StageFolder], why: str) -> None:
    """Mark stages as cancelled: none is begun, here or on a cluster, until the mark is removed."""
    mark = _mark(why=why)
    in_parallel(lambda folder: write_atomically(folder.path / CANCELLED_NAME, mark), folders)


def cancelled(folder: StageFolder) -> Mapping[str, Any]:
    """The mark of a cancelled stage; empty without one."""
    return _read(folder.path / CANCELLED_NAME)


def forgive(folder: StageFolder, attempts: int, job: str | None) -> None:
    """Remove the mark of a cancelled stage and forgive its attempts until now, so that it may run again.

    ``job`` is the cluster's job whose failure is meant, which may have ended before it could make an attempt; a stage
    without attempts keeps the mark as ``attempts/00/forgiven``.
    """
    mark = _mark(job=job)
    for attempt in range(attempts, -1, -1):
        path = folder.attempt(attempt) / FORGIVEN_NAME
        if attempt < attempts and (attempt == 0 or path.exists()):
            break
        write_atomically(path, mark)
    (folder.path / CANCELLED_NAME).unlink(missing_ok=True)


def is_forgiven(folder: StageFolder, attempt: int) -> bool:
    """Whether the failure of an attempt was forgiven."""
    return (folder.attempt(attempt) / FORGIVEN_NAME).exists()


def forgiven(folder: StageFolder, attempts: int) -> Mapping[str, Any]:
    """The mark that forgave a stage's newest attempt, with the ``job`` that was meant; empty without one."""
    return _read(folder.attempt(attempts) / FORGIVEN_NAME)


def in_parallel(function: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Call a function that mostly waits for the disk with each item; the first error is raised when all have ended."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for _ in pool.map(function, items):
            pass


def who() -> str:
    """Who is at the keyboard; their number where they have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _mark(**values: str | None) -> bytes:
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return json.dumps({"who": who(), "when": when, **values}).encode()


def _read(path: Path) -> dict[str, Any]:
    """A mark's content; a mark that says nothing, or nonsense, is a mark all the same, of nobody known."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError):
        return {"who": "unknown"}
    return content if isinstance(content, dict) else {"who": "unknown"}
