"""Layers of the diffusion probe: blocks that are told the time and the class (adaLN-Zero), after DiT.

Peebles & Xie 2023 (arXiv 2212.09748): each block's norms have no weights of their own but a shift and a scale that are
linear in the condition, and what it adds passes through a gate that is linear in it too. These maps start at zero, so
that a block starts as the identity. As in ViTok, the feed-forward layer is a SwiGLU, of about DiT's parameters.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale.diffusion_formulas import TIME_FREQUENCIES
from tokscale.models.layers import SwiGLU, linear
from tokscale.presets import vit_mlp_width
from tokscale.probes.layers import embedding, split_heads
from tokscale.probes.layers import linear as normal_linear

_EPS = 1e-6
_LONGEST = 10_000.0


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map that starts as zero."""
    return normal_linear(inputs, outputs, std=0.0, bias=True)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Tokens (b, n, e), normalised, then scaled by 1 + scale and shifted, both (b, e)."""
    normed = F.layer_norm(x, x.shape[-1:], eps=_EPS)
    return normed * (1 + scale[:, None]) + shift[:, None]


def time_features(times: Tensor) -> Tensor:
    """Cosines and sines (b, 256) of times (b,) that run from 0 to 1000; wave lengths from 2 pi to 10000 times that."""
    half = TIME_FREQUENCIES // 2
    rates = torch.exp(-math.log(_LONGEST) / half * torch.arange(half, device=times.device, dtype=torch.float32))
    angles = times.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Condition(nn.Module):
    """What a probe is told of an image: a vector (b, e) for time and class."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.time = nn.Sequential(
            normal_linear(TIME_FREQUENCIES, width, bias=True), nn.SiLU(), normal_linear(width, width, bias=True)
        )
        self.classes = embedding(classes, width)

    def forward(self, times: Tensor, labels: Tensor) -> Tensor:
        """Times (b,) from 0 to 1000 and labels (b,) -> (b, e), after the SiLU that every user of it begins with."""
        with torch.autocast(times.device.type, enabled=False):  # bfloat16 could not tell neighbouring times apart
            return F.silu(self.time(time_features(times)) + self.classes(labels))


class Attention(nn.Module):
    """Self-attention of all positions to all, with rotary positions where any are given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = linear(width, 3 * width, bias=False, parts=3)
        self.projection = linear(width, width)

    def forward(self, x: Tensor, rotations: Tensor | None) -> Tensor:
        """(b, n, e) -> (b, n, e)."""
        queries, keys, values = split_heads(self.qkv(x), self.heads, rotations)
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return cast(Tensor, self.projection(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """x + gate attention(modulated x), then x + gate mlp(modulated x); the condition says all shifts, scales, gates."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mlp = SwiGLU(width, vit_mlp_width(width))
        self.modulation = zero_linear(width, 6 * width)

    def forward(self, x: Tensor, condition: Tensor, rotations: Tensor | None) -> Tensor:
        """Tokens (b, n, e) and condition (b, e) -> (b, n, e)."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(condition).chunk(6, dim=1)
        x = x + gate[:, None] * self.attention(modulated(x, shift, scale), rotations)
        return cast(Tensor, x + mlp_gate[:, None] * self.mlp(modulated(x, mlp_shift, mlp_scale)))


class Head(nn.Module):
    """Tokens to what is said of each channel, after a last modulation; starts at zero."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.modulation = zero_linear(width, 2 * width)
        self.out = zero_linear(width, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(b, n, e) -> (b, n, d), float32."""
        with torch.autocast(x.device.type, enabled=False):
            shift, scale = self.modulation(condition).chunk(2, dim=1)
            return cast(Tensor, self.out(modulated(x.float(), shift, scale)))
