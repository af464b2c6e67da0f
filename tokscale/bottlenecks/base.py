"""What every bottleneck promises: one result type for continuous and discrete, for training and evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tokscale.bottlenecks.draws import Draws


@dataclass(frozen=True)
class BottleneckResult:
    """What a bottleneck makes of the encoder's features; what a kind of bottleneck does not have is None."""

    latents: Tensor
    """(b, n, d), what the decoder receives"""
    indices: Tensor | None = None
    """(b, n) int64 in [0, codebook_size), of discrete bottlenecks"""
    mean: Tensor | None = None
    """(b, n, d), of bottlenecks with a Gaussian posterior"""
    logvar: Tensor | None = None
    """(b, n, d), natural logarithm of the posterior's variance"""
    losses: dict[str, Tensor] = field(default_factory=dict)
    """scalars, already weighted, to be added to the total"""
    statistics: dict[str, Tensor] = field(default_factory=dict)
    """detached scalars to watch: means over the images of this micro-batch"""


class Bottleneck(nn.Module, ABC):
    """From features (b, n, encoder_channels) to latents (b, n, latent_dim).

    ``codebook_size`` is None for continuous bottlenecks. Features are taken in float32 (or better) and autocast is off,
    since bfloat16 would move latents to other codes. A training step may pass its batch in several micro-batches, on
    several ranks: each is a forward pass with the step's ``draws``, and ``finish_step`` follows them.
    """

    feature_gain = 1.0
    """factor on the first weights of the encoder's last layer, for bottlenecks that care how large features start"""

    draws: Draws | None = None
    """where random numbers come from; None: torch's global generator"""

    def __init__(self, encoder_channels: int, latent_dim: int, codebook_size: int | None) -> None:
        super().__init__()
        self.encoder_channels = encoder_channels
        self.latent_dim = latent_dim
        self.codebook_size = codebook_size

    def forward(self, features: Tensor) -> BottleneckResult:
        """(b, n, encoder_channels) -> result; latents are sampled in training mode and the posterior's mode in eval."""
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        device = features.device.type
        if not torch.amp.is_autocast_available(device):  # such as "meta", which refuses the context below
            return self.squeeze(features)
        with torch.autocast(device, enabled=False):
            return self.squeeze(features)

    @abstractmethod
    def squeeze(self, features: Tensor) -> BottleneckResult:
        """``forward`` in full precision."""

    def latents_of(self, indices: Tensor) -> Tensor:
        """Indices (b, n) to the latents (b, n, d) that the decoder receives for them; only for discrete bottlenecks."""
        raise TypeError(f"{type(self).__name__} is continuous: it has no codes")

    def finish_step(self) -> None:
        """What is done once a training step, after its last backward pass and before the optimizer's step."""
        return

    def code_statistics(self, indices: Tensor) -> dict[str, Tensor]:
        """Share of the codes that a batch uses, and the entropy of its code histogram in bits.

        They are no means over images, so they are taken of the whole batch, and only when somebody looks. Counted in
        the sorted indices, not in a histogram: the cost does not grow with the codebook.
        """
        assert self.codebook_size is not None
        codes = indices.flatten().sort().values
        distinct = 1 + (codes[1:] != codes[:-1]).sum()
        counts = torch.searchsorted(codes, codes, right=True) - torch.searchsorted(codes, codes)  # of each token's code
        return {
            "codebook_usage": distinct / self.codebook_size,
            "codebook_entropy": (codes.numel() / counts).log2().mean(),
        }


def straight_through(values: Tensor, gradient_of: Tensor) -> Tensor:
    """``values``, bit by bit, with the gradient of ``gradient_of`` (Bengio et al. 2013, arXiv 1308.3432)."""
    return values.detach() + (gradient_of - gradient_of.detach())
