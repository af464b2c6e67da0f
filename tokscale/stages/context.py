"""What a stage is given to work with, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tokscale.record import Record
from tokscale.stage import StageFolder
from tokscale.stages.attempts import newest_images
from tokscale.training.loop import Setting


@dataclass
class Context(Setting):
    """An attempt at a stage: where it takes place, the stage's config, and the records of the stages it stands on."""

    config: Mapping[str, Any]
    parents: Mapping[str, Record]
    watch: Mapping[str, Any] = field(default_factory=dict)
    """by section of the config, what is to be told while the stage runs; it changes nothing that comes out"""
    notes: list[str] = field(default_factory=list)
    digests: dict[str, dict[str, Any]] = field(default_factory=dict)
    """of artifacts that the stage itself has hashed when they were whole, by name"""

    @property
    def device(self) -> torch.device:
        return self.runtime.device

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone measures and writes; the others leave when training is over."""
        return self.team.ranks.first

    def parent_folder(self, kind: str) -> StageFolder:
        """The folder of the stage of that kind on which this one stands."""
        return self.folder.parent(kind, self.parents[kind].id)

    def artifact(self, name: str) -> Path:
        """Where the artifact of that name goes; the folder exists."""
        self.folder.artifacts.mkdir(parents=True, exist_ok=True)
        return self.folder.artifacts / name

    def pass_size(self, usual: int) -> int:
        """How many images to measure at once: as usual, or fewer where memory is short; which is kept for the next
        attempt. What is measured must not depend on it."""
        size = min(usual, self.runtime.micro_batch or usual)
        self.begin(newest_images(self.folder), size)
        return size


Measures = dict[str, float | int | str]
