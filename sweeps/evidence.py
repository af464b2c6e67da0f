"""What tables need of the records of finished stages, kept in one file of the sweep so that each record is read once.

A record is known by its file's inode, size and times. One that is hardly older than the moment it is read at is not
kept: a second write might leave the same times. What is kept is only ever a copy; where its file is missing, damaged or
of another version, all records are read, and where none can be written nothing is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import tokscale
from sweeps.store import Store, of_stage
from tokscale.errors import StoreError
from tokscale.record import RECORD_NAME, SCHEMA, parse_record, write_atomically
from tokscale.stage import Stage

KEPT_NAME = "records.kept"
_VERSION = f"1 {SCHEMA} {tokscale.__version__}"
_GRAIN = 2 * 10**9  # nanoseconds: the coarsest times of any file system in use


class Evidence(NamedTuple):
    """A record without what its stage says as well: its config and its parents; of artifacts there are the names.

    ``signature`` tells its file from any other: inode, bytes, and nanoseconds of its two times.
    """

    signature: Sequence[int]
    kind: str
    measures: Mapping[str, float | int | str]
    artifacts: Sequence[str]
    notes: Sequence[str]
    provenance: Mapping[str, Any]


def evidence(store: Store, sweep: str, stages: Iterable[Stage]) -> dict[str, Evidence]:
    """The evidence of those stages that have a record, by key, in their order.

    Raises ``StoreError`` for a record that is damaged, of a newer version, or of another stage.
    """
    folder, root = store.sweep(sweep), str(store.stages)
    kept = _load(folder / KEPT_NAME)
    found: dict[str, Evidence] = {}
    now: int | None = None
    for stage in stages:
        path = f"{root}/{stage.key}/{RECORD_NAME}"
        try:
            known, signature = kept.get(stage.key), _signature(os.stat(path))
            if known is None or known.signature != signature:
                now = _now(folder) if now is None else now
                known = _read(path, stage)
        except (FileNotFoundError, NotADirectoryError):
            continue
        found[stage.key] = known
    if now:
        last = now - _GRAIN
        _keep(folder / KEPT_NAME, {key: one for key, one in found.items() if max(one.signature[2:]) < last}, kept)
    return found


def _signature(stat: os.stat_result) -> list[int]:
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _now(folder: Path) -> int:
    """The time of a folder's file system, which may be another machine's, in ns; 0 where it takes no files."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return 0


def _read(path: str, stage: Stage) -> Evidence:
    """Read a record, with the signature from before: if it changes meanwhile, it has another one afterwards."""
    with open(path, "rb") as file:
        signature = _signature(os.fstat(file.fileno()))
        record = of_stage(parse_record(file.read(), where=path), stage, where=path)
    return Evidence(signature, record.kind, record.measures, list(record.artifacts), record.notes, record.provenance)


def _load(path: Path) -> dict[str, Evidence]:
    """What was kept, by key; empty where there is nothing that can be relied on."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        if head != _head(body):
            return {}
        content = json.loads(body)
    except (OSError, ValueError):
        return {}
    provenances = content["provenances"]
    return {
        key: Evidence(signature, kind, measures, artifacts, notes, provenances[number])
        for key, (signature, kind, measures, artifacts, notes, number) in content["records"].items()
    }


def _keep(path: Path, found: Mapping[str, Evidence], kept: Mapping[str, Evidence]) -> None:
    """Keep what was found in place of what was kept; what many records have in common is written once."""
    if found == kept:
        return
    numbers: dict[str, int] = {}
    records = {}
    for key, one in found.items():
        number = numbers.setdefault(json.dumps(one.provenance), len(numbers))
        records[key] = [*one[:-1], number]
    body = json.dumps({"provenances": [json.loads(text) for text in numbers], "records": records}).encode()
    with suppress(StoreError):
        write_atomically(path, _head(body) + b"\n" + body)


def _head(body: bytes) -> bytes:
    """The first line of the file: who wrote it, and a digest of the rest."""
    return f"{_VERSION} {hashlib.sha256(body).hexdigest()}".encode()
