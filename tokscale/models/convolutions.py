"""GigaTok's convolutional encoder and decoder (arXiv 2504.08736, section 4.1): images to a feature map and back.

Residual blocks of group norm, swish and 3 x 3 convolutions in levels, each level at half the height and width of the
one before; no attention. The decoder is MAGVIT-v2's (Yu et al. 2024): it doubles height and width by spreading channels
over space, and each of its levels opens with a group norm whose scale and bias follow from the map that came in.
Weights start as torch's convolutions do, but for that norm's scale. ``tokscale.gigatok_formulas`` counts these layers.
"""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from tokscale.config import ConvolutionSize

_GROUPS = 32
_EPSILON = 1e-6


def _groups(channels: int) -> int:
    """32 groups, or as many as leave each its four channels."""
    return math.gcd(_GROUPS, channels // 4)


def _rectified(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.GroupNorm(_groups(inputs), inputs, eps=_EPSILON), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
    )


class Residual(nn.Module):
    """x + convolutions(x), with a 1 x 1 convolution of x where the number of channels changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_rectified(inputs, outputs), _rectified(outputs, outputs))
        self.beside = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) -> (b, outputs, h, w)."""
        result: Tensor = self.beside(x) + self.inner(x)
        return result


class AdaptiveNorm(nn.Module):
    """A group norm whose scale and bias are linear in each channel's deviation and mean over another map."""

    def __init__(self, channels: int, seen: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_groups(channels), channels, eps=_EPSILON, affine=False)
        self.scale = nn.Linear(seen, channels)
        self.bias = nn.Linear(seen, channels)
        # It starts near a plain group norm. From scales near 0, as torch's linear layers give them, a small 1D
        # tokenizer learned nothing in 500 steps at a rate of 2e-3; now it explains half of the variance after 300.
        nn.init.ones_(self.scale.bias)

    def forward(self, x: Tensor, entered: Tensor) -> Tensor:
        """(b, channels, h, w), and the map (b, seen, rows, columns) that entered the decoder."""
        # a variance in bfloat16 would keep two digits, and a root of 0 has no gradient
        deviations = (entered.float().var((2, 3), correction=0) + _EPSILON).sqrt()
        scale, bias = self.scale(deviations), self.bias(entered.float().mean((2, 3)))
        result: Tensor = scale[..., None, None] * self.norm(x) + bias[..., None, None]
        return result


def _level(inputs: int, outputs: int, blocks: int) -> list[nn.Module]:
    return [Residual(inputs, outputs), *(Residual(outputs, outputs) for _ in range(blocks - 1))]


class ConvolutionalEncoder(nn.Module):
    """Images to a feature map; a strided convolution stands between levels."""

    def __init__(self, size: ConvolutionSize) -> None:
        super().__init__()
        inputs, levels = size.channels, size.levels
        layers: list[nn.Module] = [nn.Conv2d(3, inputs, 3, padding=1)]
        for number, outputs in enumerate(levels, start=1):
            layers += _level(inputs, outputs, size.encoder_blocks)
            if number < len(levels):
                layers.append(nn.Conv2d(outputs, outputs, 3, stride=2, padding=1))
            inputs = outputs
        layers += [Residual(inputs, inputs), Residual(inputs, inputs), _rectified(inputs, size.map_channels)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, map_channels, h / downsampling, w / downsampling)."""
        result: Tensor = self.layers(images)
        return result


class ConvolutionalDecoder(nn.Module):
    """The feature map back to images; a convolution to four times the channels spreads them over 2 x 2 pixels."""

    def __init__(self, size: ConvolutionSize) -> None:
        super().__init__()
        widths = [size.levels[-1], *reversed(size.levels)]
        self.first = nn.Sequential(
            nn.Conv2d(size.map_channels, widths[0], 3, padding=1), Residual(widths[0], widths[0]),
            Residual(widths[0], widths[0]),
        )  # fmt: skip
        self.norms, self.levels = nn.ModuleList(), nn.ModuleList()
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=1):
            self.norms.append(AdaptiveNorm(inputs, size.map_channels))
            level = _level(inputs, outputs, size.decoder_blocks)
            if number < len(size.levels):
                level += [nn.Conv2d(outputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2)]
            self.levels.append(nn.Sequential(*level))
        self.last = _rectified(widths[-1], 3)

    def forward(self, entered: Tensor) -> Tensor:
        """(b, map_channels, rows, columns) -> (b, 3, rows * downsampling, columns * downsampling)."""
        x = self.first(entered)
        for norm, level in zip(self.norms, self.levels, strict=True):
            x = level(norm(x, entered))
        images: Tensor = self.last(x)
        return images
