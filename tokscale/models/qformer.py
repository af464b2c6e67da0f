"""Blocks of GigaTok's transformers: of a Q-Former, whose queries look at a memory, and of a plain ViT.

Pre-norm, with biases everywhere and a GELU MLP of four times the width, as in DETR's decoder (Carion et al. 2020) and
the first ViTs. Weights start as GigaTok's do: truncated normal with deviation 0.02, and zero biases.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DEVIATION = 0.02


def positions(count: int, width: int) -> nn.Parameter:
    """Learned positions (count, e)."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(count, width), std=_DEVIATION))


def start_small(module: nn.Module) -> None:
    """Give every linear layer of a module truncated normal weights of deviation 0.02, and zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=_DEVIATION)
            nn.init.zeros_(layer.bias)


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to a memory, which may be the tokens themselves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Linear(width, width)
        self.keys_and_values = nn.Linear(width, 2 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """(b, n, e) and (b, m, e) -> (b, n, e)."""
        queries = self.queries(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (b, heads, n, head_dim)
        keys, values = self.keys_and_values(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        projected: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return projected


def _mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class QFormerBlock(nn.Module):
    """Queries attend to one another, then to the memory, then pass an MLP; each on a norm of the queries."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = CrossAttention(width, heads)
        self.memory_norm = nn.LayerNorm(width, eps=1e-6)
        self.memory_attention = CrossAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _mlp(width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Queries (b, n, e), memory (b, m, e) -> (b, n, e)."""
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed)
        x = x + self.memory_attention(self.memory_norm(x), memory)
        result: Tensor = x + self.mlp(self.mlp_norm(x))
        return result


class PlainBlock(nn.Module):
    """Tokens attend to one another, then pass an MLP; each on a norm of the tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = CrossAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, e) -> (b, n, e)."""
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed)
        result: Tensor = x + self.mlp(self.mlp_norm(x))
        return result
