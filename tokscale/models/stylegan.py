"""StyleGAN2's discriminator (Karras et al. 2020, arXiv 1912.04958): residual blocks that halve the image, one logit.

Weights are drawn with spread 1 and scaled where they are used, so that every layer learns at the same rate; maps are
blurred before they are halved; the last but one convolution also sees how much images of a group differ. As there, with
one difference: a group are consecutive images of the global batch, where StyleGAN2 takes some that are spread over
what happens to be on a GPU. So passes of whole groups give the same result in any layout.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale.config import StyleGanDiscriminator

_SLOPE = 0.2
_FILTER = (1.0, 3.0, 3.0, 1.0)


class ScaledConvolution(nn.Module):
    """A square convolution whose weights, of spread 1, are divided by the root of their number for one output."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.stride = 1 / math.sqrt(inputs * kernel * kernel), stride
        self.padding = kernel // 2 if stride == 1 else 0

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) -> (b, outputs, h', w')."""
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


class ScaledLinear(nn.Module):
    """A linear layer with weights as those of ``ScaledConvolution``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs) -> (b, outputs)."""
        return F.linear(x, self.weight * self.scale, self.bias)


class Blur(nn.Module):
    """A small binomial filter over each channel, after ``before`` and ``after`` pixels of zeros on either side."""

    kernel: Tensor

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        row = torch.tensor(_FILTER) / sum(_FILTER)
        self.register_buffer("kernel", torch.outer(row, row)[None, None], persistent=False)
        self.edges, self.stride = (before, after, before, after), stride

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h', w')."""
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, -1, -1)
        return F.conv2d(F.pad(x, self.edges), kernel, stride=self.stride, groups=channels)


class ResidualBlock(nn.Module):
    """Two convolutions, the second of which halves the map, beside a plain halving; their sum keeps its variance."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = ScaledConvolution(inputs, inputs, 3)
        self.blur = Blur(2, 2)
        self.second = ScaledConvolution(inputs, outputs, 3, stride=2)
        self.halved = Blur(1, 1, stride=2)
        self.skip = ScaledConvolution(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) -> (b, outputs, h / 2, w / 2)."""
        found = _rectified(self.second(self.blur(_rectified(self.first(x)))))
        together: Tensor = (found + self.skip(self.halved(x))) / math.sqrt(2)
        return together


class ResidualDiscriminator(nn.Module):
    """Images (b, 3, h, w) in [-1, 1] of one resolution to logits (b, 1) that are high for images."""

    def __init__(self, config: StyleGanDiscriminator, resolution: int) -> None:
        super().__init__()
        widths, last = config.widths(resolution), config.sides(resolution)[-1]
        self.from_rgb = ScaledConvolution(3, widths[0], 1)
        self.halving = nn.Sequential(*(ResidualBlock(a, b) for a, b in pairwise(widths)))
        self.convolution = ScaledConvolution(widths[-1] + 1, widths[-1], 3)
        self.hidden = ScaledLinear(widths[-1] * last * last, widths[-1])
        self.out = ScaledLinear(widths[-1], 1)
        self.group = config.stddev_images
        """images that are judged together"""

    def forward(self, images: Tensor) -> Tensor:
        x = self.halving(_rectified(self.from_rgb(images)))
        x = torch.cat([x, _spread(x, self.group)], dim=1)
        x = _rectified(self.convolution(x)).flatten(1)
        logits: Tensor = self.out(_rectified(self.hidden(x)))
        return logits


def _rectified(x: Tensor) -> Tensor:
    """A leaky ReLU that keeps the variance of what comes in, about."""
    return F.leaky_relu(x, _SLOPE) * math.sqrt(2)


def _spread(x: Tensor, images: int) -> Tensor:
    """Mean standard deviation over each ``images`` consecutive images, everywhere; (b, c, h, w) -> (b, 1, h, w)."""
    found = []
    for group in torch.split(x.float(), images):
        spread = (group.var(dim=0, correction=0) + 1e-8).sqrt().mean()
        found.append(spread.expand(len(group), 1, *x.shape[2:]))
    return torch.cat(found).to(x.dtype)
