"""DINOv2 as a feature network of Fréchet distances: FD-DINOv2 (Stein et al. 2023, arXiv 2306.04675), or FDD."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale.errors import WeightsError
from tokscale.feature_names import DINOV2S
from tokscale.loss_formulas import DINOV2, DINOV2_SIDE
from tokscale.losses_config import IMAGENET_MEAN, IMAGENET_STD
from tokscale.metrics.features import FeatureNetwork, file_hash
from tokscale.teachers.dinov2 import dinov2_module, repository

CLASS_TOKEN = "x_norm_clstoken"
"""what DINOv2's ``forward_features`` calls the class token behind the last normalisation"""


class ClassToken(nn.Module):
    """uint8 images (b, 3, h, w) -> class tokens (b, dim) of a network with DINOv2's ``forward_features``.

    Images are resized to 224 pixels bicubically with antialiasing, rounded to 8 bits behind rows and behind columns, as
    by Pillow, whose result the authors' evaluator takes; then normalised with ImageNet's mean and spread. Square images
    come out within two levels of Pillow's. It computes in full float32 whatever the settings for speed.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        pixels = _resized(_resized(images.float(), images.shape[2], DINOV2_SIDE), DINOV2_SIDE, DINOV2_SIDE) / 255
        encoder: Any = self.encoder
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            found: Tensor = encoder.forward_features((pixels - self.mean) / self.std)[CLASS_TOKEN]
        return found


def _resized(maps: Tensor, height: int, width: int) -> Tensor:
    """Levels of 255 (b, 3, h, w) at another size, whole and within their bounds."""
    return (
        F.interpolate(maps, (height, width), mode="bicubic", align_corners=False, antialias=True).round().clamp(0, 255)
    )


def open_dinov2_features(name: str) -> FeatureNetwork:
    """The feature network of that name; raises ``WeightsError`` when anything is absent or not what it is."""
    assert name in DINOV2S, f"{name} is no DINOv2"
    width = DINOV2[name].width
    network = ClassToken(dinov2_module(name, f"evaluation.features {name}")).eval()
    try:
        with torch.no_grad():
            shape = tuple(network(torch.zeros(1, 3, DINOV2_SIDE, DINOV2_SIDE, dtype=torch.uint8)).shape)
    except Exception as error:  # another's code, which may raise anything
        raise WeightsError(f"{name} gives no class token", where=str(repository(f"evaluation.features {name}")),
                           given=f"{type(error).__name__}: {error}".partition("\n")[0],
                           allowed=f"a network whose forward_features has {CLASS_TOKEN}") from error  # fmt: skip
    if shape != (1, width):
        raise WeightsError(f"this is not {name}: its class token has another shape",
                           where=str(repository(f"evaluation.features {name}")), given=f"shape {shape}",
                           allowed=f"{width} wide")  # fmt: skip
    note = (
        f"Fréchet distances rfdd and gfdd are of DINOv2's class token at {DINOV2_SIDE} pixels ({name}), as FD-DINOv2 "
        "of Stein et al. 2023, whose published values are of dinov2-l. They compare only within one network, with "
        "values from as many images, against the same reference images."
    )
    return FeatureNetwork(name, width, network, note, smallest=1, distance="fdd", weights=file_hash(name))
