"""DINOv2 (Oquab et al. 2023, arXiv 2304.07193) from a copy of the authors' repository and their weights, both on disk.

The repository is the folder that ``TOKSCALE_DINOV2`` names, or ``facebookresearch_dinov2_main`` in torch's hub folder,
where ``torch.hub`` would have put it. Nothing is fetched here: nodes that train often have no internet.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale import weights
from tokscale.errors import WeightsError
from tokscale.loss_formulas import DINOV2, DINOV2_PATCH, DINOV2_SIDE
from tokscale.teachers.base import VisionTeacher

FOLDER_VARIABLE = "TOKSCALE_DINOV2"
_REPOSITORY = "https://github.com/facebookresearch/dinov2"
_HUB_NAME = "facebookresearch_dinov2_main"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in [0, 1]
_WANTED_BY = "losses.semantic"


class Dinov2Teacher(VisionTeacher):
    """A DINOv2 as GigaTok shows it images: at 224 pixels, which are 16 x 16 patches; ImageNet's mean and spread."""

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__(name, module, DINOV2[name].width)
        self.mean, self.std = torch.tensor(_MEAN)[:, None, None], torch.tensor(_STD)[:, None, None]

    def look(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            pixels = F.interpolate((images.float() + 1) / 2, (DINOV2_SIDE, DINOV2_SIDE), mode="bicubic",
                                   align_corners=False, antialias=True)  # fmt: skip
            pixels = (pixels - self.mean) / self.std
        return self._patches(self.module, pixels)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)

    @staticmethod
    def _patches(module: Any, pixels: Tensor) -> Tensor:
        found: Tensor = module.forward_features(pixels)["x_norm_patchtokens"]
        return found


def open_dinov2(name: str) -> Dinov2Teacher:
    """The teacher of that name with its weights; raises ``WeightsError`` when anything is absent or not what it is."""
    folder, path = repository(), weights.require(name, _WANTED_BY)
    module = _built(name, folder)
    try:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever a pickle that is none may raise
        raise WeightsError(f"these are not the weights of {name}", where=str(path),
                           given=str(error).strip().partition("\n")[0],
                           allowed=weights.entry_of(name).url) from error  # fmt: skip
    teacher = Dinov2Teacher(name, module)
    _check_width(teacher, folder)
    return teacher


def repository() -> Path:
    """The folder with DINOv2's code; raises ``WeightsError`` where there is none."""
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named) if named else weights.hub_folder() / _HUB_NAME
    if not (folder / "hubconf.py").is_file():
        raise WeightsError(
            f"{_WANTED_BY} needs the code of DINOv2, and it is not here", where=str(folder), given="no hubconf.py",
            allowed=f"a copy of {_REPOSITORY} in that folder ({FOLDER_VARIABLE} names another): "
            f"git clone {_REPOSITORY} {folder}",
        )  # fmt: skip
    return folder


def _built(name: str, folder: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*xFormers.*")
        try:
            load: Any = torch.hub.load
            module: nn.Module = load(str(folder), DINOV2[name].architecture, source="local", pretrained=False)
        except Exception as error:  # another's code, which may raise anything
            raise WeightsError(f"the code of DINOv2 cannot build {name}", where=str(folder / "hubconf.py"),
                               given=f"{type(error).__name__}: {error}".partition("\n")[0],
                               allowed=f"a copy of {_REPOSITORY}") from error  # fmt: skip
    return module


def _check_width(teacher: Dinov2Teacher, folder: Path) -> None:
    """Raise ``WeightsError`` unless one image gives what the tokenizer's head is built for."""
    found = teacher.look(torch.zeros(1, 3, DINOV2_SIDE, DINOV2_SIDE))
    patches = (DINOV2_SIDE // DINOV2_PATCH) ** 2
    if found.shape != (1, patches, teacher.dim):
        raise WeightsError(f"this is not {teacher.name}: its features have another shape", where=str(folder),
                           given=f"{found.shape[1]} patches, {found.shape[2]} wide",
                           allowed=f"{patches} patches, {teacher.dim} wide")  # fmt: skip
