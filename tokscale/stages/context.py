"""What a stage is given to work with, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tokscale.record import Record
from tokscale.stage import StageFolder
from tokscale.training.loop import Runtime
from tokscale.training.stopping import StopFlag


@dataclass
class Context:
    """A claimed stage: its id and config, the records of the stages it stands on, and where to put things."""

    id: str
    folder: StageFolder
    config: Mapping[str, Any]
    parents: Mapping[str, Record]
    runtime: Runtime
    flag: StopFlag
    notes: list[str] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        return self.runtime.device

    def parent_folder(self, kind: str) -> StageFolder:
        """The folder of the stage of that kind on which this one stands."""
        return self.folder.parent(kind, self.parents[kind].id)

    def artifact(self, name: str) -> Path:
        """Where the artifact of that name goes; the folder exists."""
        self.folder.artifacts.mkdir(parents=True, exist_ok=True)
        return self.folder.artifacts / name


Measures = dict[str, float | int | str]
