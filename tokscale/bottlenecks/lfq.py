"""LFQ bottleneck: each channel becomes its sign; there is no codebook to learn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tokscale.bottlenecks.base import Bottleneck, BottleneckResult, straight_through
from tokscale.bottlenecks.entropy import sign_entropy_loss
from tokscale.config import LFQBottleneck


class LFQ(Bottleneck):
    """Look-up-free quantisation (Yu et al. 2024, arXiv 2310.05737, MAGVIT-v2).

    Latents are in {-1, 1}^bits, 0 counts as negative, and bit i of an index says whether channel i is positive. The
    commitment loss, a mean over all elements, moves features to their signs. The entropy loss is taken in training mode
    only.
    """

    weights: Tensor

    def __init__(self, config: LFQBottleneck) -> None:
        super().__init__(config.bits, config.bits, 2**config.bits)
        self.commitment = config.commitment
        self.entropy_weight = config.entropy_weight
        self.entropy_temperature = config.entropy_temperature
        self.entropy_bits = config.entropy_bits
        self.register_buffer("weights", 2 ** torch.arange(config.bits), persistent=False)

    def squeeze(self, features: Tensor) -> BottleneckResult:
        positive = features > 0
        signs = positive.to(features.dtype) * 2 - 1
        losses = {"commitment": self.commitment * F.mse_loss(features, signs)}
        if self.training and self.entropy_weight > 0:
            loss = sign_entropy_loss(features.flatten(0, 1), self.entropy_temperature, self.entropy_bits)
            losses["entropy"] = self.entropy_weight * loss
        indices = (positive * self.weights).sum(-1)
        return BottleneckResult(straight_through(signs, features), indices=indices, losses=losses)

    def latents_of(self, indices: Tensor) -> Tensor:
        digits = indices[..., None] // self.weights % 2
        return (digits * 2 - 1).float()
