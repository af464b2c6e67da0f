"""DINOv2 (Oquab et al. 2023, arXiv 2304.07193) from a copy of the authors' repository and their weights, both on disk.

The repository is the folder that ``TOKSCALE_DINOV2`` names, or ``facebookresearch_dinov2_main`` in torch's hub folder,
where ``torch.hub`` would have put it.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tokscale import weights
from tokscale.loss_formulas import DINOV2, DINOV2_PATCH, DINOV2_SIDE
from tokscale.losses_config import IMAGENET_MEAN, IMAGENET_STD
from tokscale.teachers.hub import WANTED_BY, PretrainedTeacher, build, load_weights, require_repository


def open_dinov2(name: str) -> PretrainedTeacher:
    """The teacher of that name with its weights; raises ``WeightsError`` when anything is absent or not what it is.

    GigaTok shows it images at 224 pixels, which are 16 x 16 patches, with ImageNet's mean and spread.
    """
    module = dinov2_module(name, WANTED_BY)
    teacher = PretrainedTeacher(name, module, DINOV2[name].width, side=DINOV2_SIDE, patch=DINOV2_PATCH,
                                mean=IMAGENET_MEAN, std=IMAGENET_STD)  # fmt: skip
    teacher.check(repository(WANTED_BY))
    return teacher


def dinov2_module(name: str, wanted_by: str) -> nn.Module:
    """The network of that name with its weights; raises ``WeightsError``. ``wanted_by`` is for its messages."""
    folder, path = repository(wanted_by), weights.require(name, wanted_by)
    module = build(folder, DINOV2[name].architecture, name)
    load_weights(module, path, name, weights.entry_of(name).url)
    return module


def repository(wanted_by: str) -> Path:
    """The folder with DINOv2's code; raises ``WeightsError`` where there is none."""
    folder = weights.dinov2_folder()
    require_repository(folder, "DINOv2", weights.how_to_bring_dinov2(), wanted_by)
    return folder
