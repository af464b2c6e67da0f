"""Choosing among weighted alternatives without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor


def choose(weights: Tensor, count: int = 1, generator: torch.Generator | None = None) -> Tensor:
    """``count`` independent indices (b, count) into weights (b, k), each in proportion to its row's, none of weight 0.

    The running sum is inverted at uniform numbers, in float64: one number for each index. ``torch.multinomial`` draws
    k of them, which is half the time of sampling a small probe, and asks the device twice whether weights are sound.
    Whoever calls this sees to that: of a row that is not finite, the index means nothing.
    """
    sums = weights.cumsum(-1, dtype=torch.float64)
    shape = (*weights.shape[:-1], count)
    uniform = torch.rand(shape, generator=generator, device=weights.device, dtype=torch.float64)
    return torch.searchsorted(sums, uniform * sums[..., -1:], right=True).clamp_(max=weights.shape[-1] - 1)
