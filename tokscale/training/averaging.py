"""An exponential moving average of weights, by step (Polyak & Juditsky 1992; as in StyleGAN and diffusion models).

It begins at the weights that training begins with and is not corrected for that: after n steps it holds decay^n of
them. It is part of the task, so that checkpoints have it; where ranks share out blocks, each averages its part.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

NOTED = 0.01
"""share of the first weights beyond which a record says how much is left of them"""


def averaged(module: nn.Module) -> nn.Module:
    """A copy of a module that will be the average of its weights; it takes no gradient."""
    return copy.deepcopy(module).requires_grad_(False).eval()


@torch.no_grad()
def take_in(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move an average to the weights of now: decay x average + (1 - decay) x weights; other state is copied."""
    torch._foreach_lerp_(_own(average), _own(module), 1 - decay)
    for ours, theirs in zip(average.buffers(), module.buffers(), strict=True):
        ours.copy_(theirs)


def note(decay: float, steps: int) -> str | None:
    """What a record says of an average that still holds much of where it began; None where that is next to nothing."""
    left = decay**steps
    if left <= NOTED:
        return None
    return (
        f"the averaged weights, which are measured, still hold {left:.0%} of those that training began with "
        f"(ema {decay:g}, {steps:,} steps)"
    )


def _own(module: nn.Module) -> list[Tensor]:
    """A module's parameters, or this rank's parts of them."""
    return [parameter.to_local() if isinstance(parameter, DTensor) else parameter for parameter in module.parameters()]
