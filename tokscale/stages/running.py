"""The frame around every stage: claim it, check what it stands on, run it, and leave a record as the last thing."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tokscale import claim
from tokscale.errors import DataError, DivergedError, HeldError, StoppedError, StoreError, UsageError
from tokscale.record import Record, digest, read_record, write_record
from tokscale.stage import StageFolder, identity_of
from tokscale.stages import generation, latents, probe, reconstruction, tokenizer
from tokscale.stages.context import Context, Measures
from tokscale.stages.provenance import Meter
from tokscale.training.loop import Runtime
from tokscale.training.stopping import watch_signals

STAGES: Mapping[str, Callable[[Context], Measures]] = {
    "tokenizer": tokenizer.run,
    "reconstruction": reconstruction.run,
    "latents": latents.run,
    "probe": probe.run,
    "generation": generation.run,
}

# The first that fits names the class of a failure; status shows it, and what is retried depends on it.
_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (DivergedError, "diverged"),
    (DataError, "data"),
    (StoreError, "store"),
    (UsageError, "config"),
    (MemoryError, "out of memory"),
)


def run(path: str, **runtime: Any) -> None:
    """Run the stage whose folder this is, unless it is done.

    The only proof of success is the record. A failure is kept with its cause, for status, and raised; when a living
    process works on the stage, ``HeldError`` is raised and nothing is touched.
    """
    folder = StageFolder(Path(path))
    if folder.record.exists():
        return
    held = claim.claim(folder.path)
    if held is None:
        raise HeldError("a living process works on this stage", where=path, given=str(claim.holder(folder.path)))
    with held:
        try:
            if not folder.record.exists():  # another may have finished it just before we got the claim
                _attempt(folder, held, Runtime(**runtime))
        except BaseException as error:
            with contextlib.suppress(StoreError):  # on a full disk: the error on its way out says more
                held.release(_outcome(error))
            raise
        held.release({"state": "done"})


def _attempt(folder: StageFolder, held: claim.Claim, runtime: Runtime) -> None:
    description = _description(folder)
    _clear_leftovers(folder)
    parents = {kind: _parent(folder.parent(kind, identity)) for kind, identity in description["parents"].items()}
    with watch_signals() as flag, Meter(folder, held.attempt) as meter:
        context = Context(description["id"], folder, description["config"], parents, runtime, flag)
        measures = STAGES[folder.kind](context)
    held.check()  # a process that was away for longer than its lease must not write over its successor's work
    artifacts = {path.name: digest(path) for path in sorted(folder.artifacts.glob("[!.]*")) if path.is_file()}
    provenance = meter.provenance(context)
    record = Record(folder.kind, description["id"], description["config"], description["parents"],
                    {**measures, **meter.measures()}, artifacts, provenance, context.notes)  # fmt: skip
    write_record(folder.path, record)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)


def _description(folder: StageFolder) -> dict[str, Any]:
    """What the stage is, by its own file; raises ``StoreError`` unless that gives the id that the folder bears."""
    try:
        description: dict[str, Any] = YAML(typ="safe", pure=True).load(folder.description.read_text())
        identity = identity_of(description["kind"], description["config"], description["parents"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, YAMLError) as error:
        raise StoreError("a stage's description is damaged", where=str(folder.description), given=str(error),
                         allowed="run the sweep again: it is written anew") from None  # fmt: skip
    if (description["kind"], identity) != (folder.kind, folder.path.name):
        raise StoreError(
            "a stage's description was changed: it is of another stage", where=str(folder.description),
            given=f"{description['kind']}/{identity}", allowed=f"{folder.kind}/{folder.path.name}",
        )  # fmt: skip
    return description


def _clear_leftovers(folder: StageFolder) -> None:
    """Remove what a killed attempt was still writing: temporary names, which nobody else uses under our claim."""
    for path in [*folder.artifacts.glob(".*"), *folder.artifacts.glob("*.partial"), *folder.checkpoints.glob(".*")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _parent(folder: StageFolder) -> Record:
    """The record of a stage that this one stands on, whose artifacts are all there; raises ``StoreError``."""
    record = read_record(folder.path)
    if record is None:
        raise StoreError("a stage that this one stands on is not done", where=str(folder.path),
                         allowed="a finished stage: run the sweep again")  # fmt: skip
    for name, expected in record.artifacts.items():
        path = folder.artifacts / name
        size = path.stat().st_size if path.exists() else None
        if size != expected["bytes"]:
            raise StoreError(
                "a file of a finished stage is missing or cut short", where=str(path),
                given="absent" if size is None else f"{size} bytes",
                allowed=f"{expected['bytes']} bytes, as recorded; remove {folder.record} to have the stage run again",
            )  # fmt: skip
    return record


def _outcome(error: BaseException) -> dict[str, Any]:
    if isinstance(error, StoppedError | KeyboardInterrupt | SystemExit):
        return {"state": "interrupted", "message": str(error)}
    cause = next((name for kind, name in _CAUSES if isinstance(error, kind)), "code")
    if "out of memory" in str(error):  # torch raises RuntimeErrors and subclasses of its own
        cause = "out of memory"
    return {"state": "failed", "cause": cause, "message": f"{type(error).__name__}: {error}"}
