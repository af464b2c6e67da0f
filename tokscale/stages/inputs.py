"""What a stage begins with: its own description, the records of what it stands on, and a folder without leftovers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tokscale import claim
from tokscale.errors import StoreError
from tokscale.record import Record, cannot_write, read_record
from tokscale.stage import StageFolder, identity_of
from tokscale.training import team


def read_description(folder: StageFolder) -> dict[str, Any]:
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


def read_parents(folder: StageFolder, parents: Mapping[str, str]) -> dict[str, Record]:
    """The records of the stages that one stands on, by kind, whose artifacts are all there; raises ``StoreError``."""
    second = "decoder_finetune" in (folder.kind, *parents)
    return {kind: _read_parent(folder.parent(kind, identity), second) for kind, identity in parents.items()}


def _read_parent(folder: StageFolder, second: bool) -> Record:
    """The record of a stage for one that stands on it, and that is or needs a ``second`` training of its decoder."""
    record = read_record(folder.path)
    if record is None:
        what = "a stage that this one stands on is not done"
        if second and folder.kind == "tokenizer":
            what = "a stage 2 without its stage 1: the tokenizer of the finetuned decoder is not done"
        raise StoreError(what, where=str(folder.path), allowed="a finished stage: run the sweep again")
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


def clear_leftovers(folder: StageFolder, meeting: str) -> None:
    """Remove what a killed attempt was still writing: temporary names, which nobody else uses under our claim.

    Old meetings go with them, not the one named, which is ours.
    """
    meetings = [path for path in (folder.path / team.FOLDER).glob("*.json") if path.stem != meeting]
    for path in [*folder.artifacts.glob(".*"), *folder.artifacts.glob("*.partial"), *folder.checkpoints.glob(".*"),
                 *meetings]:  # fmt: skip
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def set_aside_diverged(folder: StageFolder) -> None:
    """Keep the checkpoints of an attempt that diverged with that attempt: from there it would only diverge again."""
    past = claim.outcomes(folder.path)
    if not past or (past[-1].outcome or {}).get("cause") != "diverged" or not folder.checkpoints.is_dir():
        return
    kept = folder.attempt(past[-1].attempt) / folder.checkpoints.name
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder.checkpoints, kept)
    except OSError as error:
        raise cannot_write(kept, error) from error
