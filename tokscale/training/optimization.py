"""AdamW as the papers use it, and a learning rate that is a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from tokscale.config import OptimizationConfig


def build_optimizer(module: nn.Module, config: OptimizationConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; matrices, embeddings and codes decay, biases and gains do not.

    Codes are compared and decoded on the unit sphere, so the decay of their length changes nothing that they mean.
    """
    inside = {id(parameter) for block in transformer_blocks(module) for parameter in block.parameters()}
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = []
    for decays in (True, False):
        # Apart, since ranks may share out the blocks, and no kernel takes parts and whole tensors at once.
        for in_block in (True, False):
            chosen = [p for p in parameters if (p.ndim >= 2) is decays and (id(p) in inside) is in_block]
            groups.append({"params": chosen, "weight_decay": config.weight_decay if decays else 0.0})
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, betas=config.betas,
                             fused=True)  # fmt: skip


def transformer_blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks of all transformers in a module: what its lists called ``blocks`` hold."""
    lists = [getattr(part, "blocks", None) for part in module.modules()]
    return [block for blocks in lists if isinstance(blocks, nn.ModuleList) for block in blocks]


def learning_rate(step: int, config: OptimizationConfig) -> float:
    """Learning rate of step 0, 1, ...: linear warm-up to the peak, then a half cosine to ``final_lr`` of it."""
    warmup_steps = round(config.warmup * config.steps)
    if step < warmup_steps:
        return config.lr * (step + 1) / warmup_steps
    if config.schedule == "constant":
        return config.lr
    share = min(1.0, (step - warmup_steps) / max(1, config.steps - warmup_steps))
    return config.lr * (config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * share)))
