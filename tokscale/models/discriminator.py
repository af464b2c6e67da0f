"""PatchGAN (Isola et al. 2017, arXiv 1611.07004): convolutions that say of each patch how much it looks like an image.

As GigaTok and LlamaGen use it, with one difference. A batch norm takes its statistics over the images that happen to
pass together, so that with it a result would depend on the number of GPUs and on the micro-batch. Here it takes them
over groups of consecutive images of the global batch (ghost batches: Hoffer et al. 2017, arXiv 1705.08741), about as
many as a GPU of GigaTok's had: with passes of whole groups, the result is the same in any layout. Images and
reconstructions pass apart, as there. Running statistics are not kept: a discriminator is only used while it trains.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale.config import AnyDiscriminator, PatchDiscriminator
from tokscale.models.stylegan import ResidualDiscriminator


class GroupedBatchNorm(nn.Module):
    """Batch norm by the statistics of each ``images`` consecutive images; (b, c, h, w) -> (b, c, h, w)."""

    def __init__(self, channels: int, images: int) -> None:
        super().__init__()
        self.images = images
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        groups = torch.split(x, self.images)
        return torch.cat([F.batch_norm(group, None, None, self.weight, self.bias, training=True) for group in groups])


class Discriminator(nn.Sequential):
    """Images (b, 3, h, w) in [-1, 1] to logits (b, 1, h', w') that are high for images."""

    def __init__(self, config: PatchDiscriminator) -> None:
        inputs, outputs = 3, config.width
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level in range(1, config.depth + 1):
            inputs, outputs = outputs, config.width * min(2**level, 8)
            stride = 1 if level == config.depth else 2
            layers.append(nn.Conv2d(inputs, outputs, 4, stride, 1, bias=config.norm == "none"))
            layers += [*_norm(config, outputs), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(outputs, 1, 4, 1, 1))
        self.group = config.norm_images if config.norm == "batch" else 1
        """images that are judged together"""
        self.apply(_initialise)


def build_discriminator(config: AnyDiscriminator, resolution: int) -> Discriminator | ResidualDiscriminator:
    """The discriminator of a config, for square images of ``resolution`` pixels, with fresh random weights."""
    if isinstance(config, PatchDiscriminator):
        return Discriminator(config)
    return ResidualDiscriminator(config, resolution)


def _norm(config: PatchDiscriminator, channels: int) -> list[nn.Module]:
    if config.norm == "batch":
        return [GroupedBatchNorm(channels, config.norm_images)]
    return [nn.GroupNorm(math.gcd(32, channels), channels)] if config.norm == "group" else []


def _initialise(module: nn.Module) -> None:
    """Normal weights of spread 0.02, gains about 1, as Isola et al."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, GroupedBatchNorm | nn.GroupNorm):
        nn.init.normal_(module.weight, 1.0, 0.02)
