"""An exponential moving average over the weights of all steps (Polyak & Juditsky 1992), kept as a module of its own.

As a module of the task it is part of every checkpoint, and its blocks are shared out among ranks where the trained
ones are; without gradients, no optimizer and no exchange of gradients knows it.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

Module = TypeVar("Module", bound=nn.Module)


def average_of(module: Module) -> Module:
    """A copy of a module that gathers the average over its weights, from those that it has now."""
    return copy.deepcopy(module).requires_grad_(False)


def decay_at(step: int, decay: float) -> float:
    """Share of the average that is kept after step 1, 2, ...: (1 + step) / (10 + step), until that reaches ``decay``.

    So the average forgets where training began also in trainings that are much shorter than 1 / (1 - decay) steps.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) weights, of each rank's part of them."""
    kept, new = ([_local(parameter) for parameter in each.parameters()] for each in (average, module))
    torch._foreach_lerp_(kept, new, 1 - decay)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
