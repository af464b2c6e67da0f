"""KL bottleneck: a diagonal Gaussian per token, held near the standard normal."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tokscale.bottlenecks.base import Bottleneck, BottleneckResult
from tokscale.config import KLBottleneck


class KL(Bottleneck):
    """The bottleneck of a variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114), as in ViTok.

    The encoder gives mean and log-variance, the latter clamped to [-30, 20]. The loss is ``weight`` times the mean of
    the divergence over batch, tokens and channels, which is what ViTok's code does with its weight of 1e-3; a sum over
    tokens and channels, as in latent diffusion, would be L x c times as strong.
    """

    def __init__(self, config: KLBottleneck) -> None:
        super().__init__(2 * config.channels, config.channels, None)
        self.weight = config.weight

    def squeeze(self, features: Tensor) -> BottleneckResult:
        mean, logvar = features.chunk(2, dim=-1)
        logvar = logvar.clamp(-30.0, 20.0)
        latents = mean + (0.5 * logvar).exp() * self._noise(mean) if self.training else mean
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar)  # nats, (b, n, d)
        bits = divergence.detach().flatten(1).sum(1).mean() / math.log(2)
        return BottleneckResult(
            latents, mean=mean, logvar=logvar,
            losses={"kl": self.weight * divergence.mean()},
            statistics={"kl_bits_per_image": bits},
        )  # fmt: skip

    def _noise(self, mean: Tensor) -> Tensor:
        if self.draws is None:
            return torch.randn_like(mean)
        return self.draws.normal("posterior", mean.shape, mean.device).to(mean.dtype)
