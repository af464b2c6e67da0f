"""Stages: the small graph of work behind a trial, the identity of each stage, and the layout of its folder.

A stage's id is a hash of its complete resolved config and of the ids it stands on, and of nothing else. So a finished
stage is never run twice, in this sweep or another, and a changed probe setting re-runs only probes. A field that is
added to a config later says so with ``json_schema_extra={"since": VERSION}`` and is left out of the hash while it
equals its default, so that old ids keep their meaning. A field that only asks to be told more, and changes nothing that
comes out, says ``{"watching": True}``; it is never hashed, and stands beside the config in the stage's description.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tokscale.config import Config, TrialConfig, stand_in_teacher
from tokscale.record import RECORD_NAME

KINDS = ("teacher", "tokenizer", "decoder_finetune", "reconstruction", "latents", "probe", "generation",
         "linear_probe")  # fmt: skip
_SECTION_NAMES = tuple(TrialConfig.model_fields)
PROFILE_VARIABLE = "TOKSCALE_PROFILE"
"""environment variable by which jobs hear that they are to profile themselves"""
COMPILE_VARIABLE = "TOKSCALE_COMPILE"
"""environment variable by which jobs hear that they are to compile the blocks that they train"""
ID_LENGTH = 16  # hex digits: 64 bits, a collision among 10^6 stages has a chance of 3 in 10^8


class Stage(NamedTuple):
    """One unit of work of a trial: its kind, its id, its complete resolved config, and the ids it stands on.

    ``key`` is ``kind/id``: the stage's folder below the stages folder, and its name in logs. ``watch`` is what is to be
    told while it runs, by section, and no part of the id.
    """

    key: str
    kind: str
    id: str
    config: Mapping[str, Any]
    parents: Mapping[str, str]
    watch: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class StageFolder:
    """Where a stage keeps what it is, who runs it, how far it is, and what it leaves."""

    path: Path

    @property
    def kind(self) -> str:
        return self.path.parent.name

    @property
    def description(self) -> Path:
        return self.path / "stage.yaml"

    @property
    def record(self) -> Path:
        return self.path / RECORD_NAME

    @property
    def progress(self) -> Path:
        return self.path / "progress.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    def attempt(self, number: int) -> Path:
        return self.path / attempt_name(number)

    def parent(self, kind: str, identity: str) -> StageFolder:
        return StageFolder(self.path.parent.parent / kind / identity)


def attempt_name(number: int) -> str:
    """Where an attempt keeps its things, below the folder of its stage."""
    return f"attempts/{number:02d}"


def identity_values(config: BaseModel) -> dict[str, Any]:
    """A config as plain values for hashing: complete, but without later fields that still equal their default."""
    values: dict[str, Any] = {}
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        if _is_later_default(info, value) or _says(info, "watching"):
            continue
        values[name] = _plain(value)
    return values


def _is_later_default(info: FieldInfo, value: Any) -> bool:
    """Whether a field was added later and equals its default: then ids are those from before it was there."""
    return _says(info, "since") and bool(value == info.get_default(call_default_factory=True))


def watched(section: BaseModel) -> dict[str, Any]:
    """What a section asks to be told, as plain values: the fields that are no part of an id."""
    fields = type(section).model_fields
    return {name: _plain(getattr(section, name)) for name, info in fields.items() if _says(info, "watching")}


def _says(info: FieldInfo, word: str) -> bool:
    return isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get(word))


def canonical(values: Any) -> str:
    """One text for equal values: keys sorted, no spaces; whole floats are written as integers are."""
    return json.dumps(_numbers(values), sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_of(kind: str, text: str, parents: Mapping[str, str]) -> str:
    """The id of a stage from its kind, its canonical config and its parents' ids."""
    return _finished(_begun(kind, text), parents)


def identity_of(kind: str, config: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """The id of a stage from its config as plain values, as descriptions and records hold it."""
    return hash_of(kind, "\n".join(f"{name}:{canonical(config[name])}" for name in sorted(config)), parents)


def _begun(kind: str, text: str) -> hashlib._Hash:
    return hashlib.sha256(f"{kind}\n{text}".encode())


def _finished(begun: hashlib._Hash, parents: Mapping[str, str]) -> str:
    hasher = begun.copy()
    for name in sorted(parents):
        hasher.update(f"\n{name}={parents[name]}".encode())
    return hasher.hexdigest()[:ID_LENGTH]


def trial_id(trial: TrialConfig) -> str:
    """The id of a trial: a hash of all its sections."""
    return TrialStages().trial_id(trial)


def stages_of(trial: TrialConfig) -> list[Stage]:
    """The stages of a trial, parents before children."""
    return TrialStages().stages_of(trial)


class TrialStages:
    """Stages of many trials: sections that trials share are written out and hashed once.

    A grid of 10,000 trials has few different sections; telling them apart by object identity makes planning quick.
    """

    def __init__(self) -> None:
        self._begun: dict[tuple[object, ...], tuple[hashlib._Hash, dict[str, Any]]] = {}
        self._sections: dict[tuple[int, bool], tuple[Any, tuple[Any, str]]] = {}

    def trial_id(self, trial: TrialConfig) -> str:
        """The id of a trial."""
        return self.identify(trial)[0]

    def stages_of(self, trial: TrialConfig) -> list[Stage]:
        """The stages of a trial, parents before children."""
        return self.identify(trial)[1]

    def identify(self, trial: TrialConfig) -> tuple[str, list[Stage]]:
        """The id of a trial, and its stages, parents before children."""
        written = self._written(trial)
        fields = TrialConfig.model_fields
        counted = [name for name in written if not _is_later_default(fields[name], getattr(trial, name))]
        text = "\n".join([f"{name}:{written[name][1]}" for name in counted])
        return hash_of("trial", text, {}), self._stages(trial, written)

    def _stages(self, trial: TrialConfig, written: Mapping[str, tuple[Any, str]]) -> list[Stage]:
        # What is only ever used for measuring is no part of a trained tokenizer.
        training = {
            **written,
            "data": self._section(trial.data, for_training=True),
            "tokenizer": self._section(trial.tokenizer.trained),
        }
        # Who looks at latents sees so many of them as are measured.
        tail = getattr(trial.tokenizer, "tail_masking", None)
        cut: tuple[str, ...] = () if tail is None else ("tail_masking",)
        if tail is not None:
            written = {**written, "tail_masking": self._section(tail)}
        stand_in, stages = stand_in_teacher(trial.losses), []
        if stand_in is not None:
            training["teacher"] = self._section(stand_in)
            stages.append(self._stage("teacher", training, ("data", "teacher"), {}))
        of_teacher = {stage.kind: stage.id for stage in stages}
        names = ("data", "losses", "seed", "tokenizer", "training")
        tokenizer = self._stage("tokenizer", training, names, of_teacher)
        if trial.training.probe_every:
            tokenizer = tokenizer._replace(watch={"training": watched(trial.training)})
        of_tokenizer = {"tokenizer": tokenizer.id}
        stages.append(tokenizer)
        judged = dict(of_tokenizer)  # with the decoder that images come out of; its latents are the tokenizer's
        if trial.decoder_finetune is not None:
            training["decoder_finetune"] = written["decoder_finetune"]
            finetuned = ("data", "decoder_finetune", "seed")
            stages.append(self._stage("decoder_finetune", training, finetuned, of_tokenizer))
            judged["decoder_finetune"] = stages[-1].id
        stages.append(self._stage("reconstruction", written, ("data", "evaluation", *cut), judged))
        if trial.probe is None:
            return stages
        latents = self._stage("latents", written, ("data", "latents", *cut), of_tokenizer)
        probe = self._stage("probe", written, ("probe", "seed"), {"latents": latents.id})
        stages += [latents, probe]
        if trial.generation is not None:
            measured = ("data", "evaluation", "generation", "seed", *cut)
            stages.append(self._stage("generation", written, measured, {**judged, "probe": probe.id}))
        if trial.linear_probe is not None:
            classified = ("data", "linear_probe", "seed", *cut)
            stages.append(self._stage("linear_probe", written, classified, {**of_tokenizer, "probe": probe.id}))
        return stages

    def _stage(
        self, kind: str, written: Mapping[str, tuple[Any, str]], names: tuple[str, ...], parents: dict[str, str]
    ) -> Stage:
        """A stage of the sections of these names, which stand in alphabetical order."""
        key = (kind, *[id(written[name]) for name in names])
        known = self._begun.get(key)
        if known is None:
            text = "\n".join([f"{name}:{written[name][1]}" for name in names])
            known = self._begun[key] = (_begun(kind, text), {name: written[name][0] for name in names})
        identity = _finished(known[0], parents)
        return Stage(f"{kind}/{identity}", kind, identity, known[1], parents)

    def _written(self, trial: TrialConfig) -> dict[str, tuple[Any, str]]:
        return {name: self._section(getattr(trial, name)) for name in _SECTION_NAMES}

    def _section(self, section: Any, *, for_training: bool = False) -> tuple[Any, str]:
        """A section's plain values and their canonical text."""
        key = (id(section), for_training)
        known = self._sections.get(key)
        if known is None:
            values = _plain(section)
            if for_training:
                values = {name: value for name, value in values.items() if not _validation_only(section, name)}
            # the section itself is kept, so that its id() is not given to another object
            known = self._sections[key] = (section, (values, canonical(values)))
        return known[1]


def _validation_only(config: Config, name: str) -> bool:
    return _says(type(config).model_fields[name], "validation_only")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return identity_values(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _numbers(value: Any) -> Any:
    # JSON readers and YAML writers turn 1.0 into 1: both must give the same id.
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
