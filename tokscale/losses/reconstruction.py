"""Pixel losses: mean over everything of a penalty on prediction minus target, both (b, 3, h, w) in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tokscale.config import LossesConfig

ReconstructionLoss = Callable[[Tensor, Tensor], Tensor]

_CHARBONNIER_EPSILON = 1e-3


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(*_comparable(prediction, target))


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error."""
    return F.l1_loss(*_comparable(prediction, target))


def charbonnier(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of sqrt(error^2 + 0.001^2): absolute error made smooth at 0 (Charbonnier et al. 1994; Lai et al. 2017)."""
    prediction, target = _comparable(prediction, target)
    return ((prediction - target).square() + _CHARBONNIER_EPSILON**2).sqrt().mean()


RECONSTRUCTION_LOSSES: dict[str, ReconstructionLoss] = {
    "mse": mse,
    "l1": l1,
    "charbonnier": charbonnier,
}


def reconstruction_loss(config: LossesConfig) -> ReconstructionLoss:
    """The pixel loss that a config names: a function of (prediction, target) to a float32 scalar."""
    return RECONSTRUCTION_LOSSES[config.reconstruction]


def _comparable(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    # Broadcasting would hide a wrong shape, and a difference in bfloat16 keeps two digits.
    assert prediction.shape == target.shape, f"prediction {tuple(prediction.shape)}, target {tuple(target.shape)}"
    return prediction.to(torch.float32), target.to(torch.float32)
