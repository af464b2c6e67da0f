"""Pretrained vision encoders from a copy of a ``torch.hub`` repository and a file of weights, both on this disk.

Nothing is fetched here: nodes that train often have no internet.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from tokscale.config import HubTeacher as HubConfig
from tokscale.errors import WeightsError
from tokscale.record import digest
from tokscale.teachers.base import VisionTeacher
from tokscale.weights import HUB_FILE

PATCH_TOKENS = "x_norm_patchtokens"
"""what DINOv2's ``forward_features`` calls the features of the patches"""
WANTED_BY = "losses.semantic"


class PretrainedTeacher(VisionTeacher):
    """A network that is shown images at one size, with mean and spread of its own training.

    Its ``forward_features`` gives tokens (b, prefix + n, dim), or a mapping that has those of the patches.
    """

    def __init__(
        self, name: str, module: nn.Module, dim: int, *, side: int, patch: int, mean: tuple[float, ...],
        std: tuple[float, ...], prefix: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(name, module, dim)
        self.side, self.patches, self.prefix = side, (side // patch) ** 2, prefix
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def look(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            pixels = F.interpolate((images.float() + 1) / 2, (self.side, self.side), mode="bicubic",
                                   align_corners=False, antialias=True)  # fmt: skip
            pixels = (pixels - self.mean) / self.std
        return self._patches(self.module, pixels)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)

    def _patches(self, module: Any, pixels: Tensor) -> Tensor:
        found = module.forward_features(pixels)
        tokens: Tensor = found[PATCH_TOKENS] if isinstance(found, Mapping) else found[:, self.prefix :]
        return tokens

    def check(self, where: Path) -> None:
        """Raise ``WeightsError`` unless one image gives what the tokenizer's head is built for."""
        try:
            shape = tuple(self.look(torch.zeros(1, 3, self.side, self.side)).shape)
        except Exception as error:  # another's code, which may raise anything
            raise WeightsError(f"{self.name} gives no features of patches", where=str(where), given=_first_line(error),
                               allowed="a network with forward_features") from error  # fmt: skip
        if shape != (1, self.patches, self.dim):
            given = f"{shape[1]} patches, {shape[2]} wide" if len(shape) == 3 else f"shape {shape}"
            raise WeightsError(f"this is not {self.name}: its features have another shape", where=str(where),
                               given=given, allowed=f"{self.patches} patches, {self.dim} wide")  # fmt: skip


def open_hub(config: HubConfig) -> PretrainedTeacher:
    """The teacher of a config with its weights; raises ``WeightsError`` when anything is absent or not what it is."""
    folder, path = Path(config.repository).expanduser(), Path(config.weights).expanduser()
    require_repository(folder, config.entry, f"a copy of a torch.hub repository that has {config.entry}")
    if not path.is_file():
        raise WeightsError(f"{WANTED_BY} needs the weights of {config.entry}, and they are not here", where=str(path),
                           given="no such file", allowed="a file of the network's state")  # fmt: skip
    found = str(digest(path)["sha256"])
    if not found.startswith(config.sha256):
        raise WeightsError(
            f"{WANTED_BY} needs the weights of {config.entry}, and the file holds others", where=str(path),
            given=f"SHA-256 {found[:12]}...",
            allowed=f"{config.sha256[:12]}..., as losses.semantic.features.sha256 says",
        )  # fmt: skip
    module = build(folder, config.entry, config.entry)
    load_weights(module, path, config.entry, "a file of this network's state")
    teacher = PretrainedTeacher(config.entry, module, config.width, side=config.side, patch=config.patch,
                                mean=config.mean, std=config.std, prefix=config.prefix)  # fmt: skip
    teacher.check(folder)
    return teacher


def require_repository(folder: Path, name: str, allowed: str, wanted_by: str = WANTED_BY) -> None:
    """Raise ``WeightsError`` unless there is a hubconf.py; ``allowed`` says how it comes there."""
    if not (folder / HUB_FILE).is_file():
        raise WeightsError(f"{wanted_by} needs the code of {name}, and it is not here", where=str(folder),
                           given=f"no {HUB_FILE}", allowed=allowed)  # fmt: skip


def build(folder: Path, entry: str, name: str) -> nn.Module:
    """The network that an entry of a repository builds, with random weights; raises ``WeightsError``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*xFormers.*")
        try:
            load: Any = torch.hub.load
            module: nn.Module = load(str(folder), entry, source="local", pretrained=False)
        except Exception as error:  # another's code, which may raise anything
            raise WeightsError(f"this code cannot build {name}", where=str(folder / HUB_FILE),
                               given=_first_line(error),
                               allowed=f"a torch.hub repository with an entry {entry}") from error  # fmt: skip
    return module


def load_weights(module: nn.Module, path: Path, name: str, allowed: str) -> None:
    """Give a network its weights; raises ``WeightsError`` for a file that holds others."""
    try:
        if path.suffix == ".safetensors":
            module.load_state_dict(load_file(path))
        else:
            module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever a pickle that is none may raise
        raise WeightsError(f"these are not the weights of {name}", where=str(path),
                           given=str(error).strip().partition("\n")[0], allowed=allowed) from error  # fmt: skip


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
