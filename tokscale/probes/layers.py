"""Layers of the autoregressive probe: rotary positions on a grid, causal attention with a cache, SwiGLU."""

from __future__ import annotations

from math import prod
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale.models.positions import Grid, axis_pairs

NORM_EPS = 1e-5
INIT_STD = 0.02


def linear(inputs: int, outputs: int, *, std: float = INIT_STD, bias: bool = False) -> nn.Linear:
    """A linear map with normal weights of this standard deviation (0 gives zeros) and zero bias."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=std) if std else nn.init.zeros_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def embedding(count: int, width: int) -> nn.Embedding:
    """An embedding table with normal rows."""
    table = nn.Embedding(count, width)
    nn.init.normal_(table.weight, std=INIT_STD)
    return table


def grid_rotations(grid: Grid, head_dim: int, base: float = 10000.0) -> Tensor:
    """Cosines and sines (2, 1 + n, head_dim / 2) of rotary positions (Su et al. 2021, on two axes as in LlamaGen).

    Half of the channel pairs turn with the row, half with the column; of a clip's tokens, a third each with time, row
    and column, as ``axis_pairs`` says. Tokens stand at (1, 1) to (rows, columns) and the class at (0, 0), a row and a
    column of its own: a token's offset from the class is its absolute place. A grid of one row is a sequence: all pairs
    turn with the place in it, since half of them would not turn at all.
    """
    assert head_dim % 4 == 0, head_dim
    sides = grid[-1:] if prod(grid[:-1]) == 1 else grid
    places = 1 + torch.cartesian_prod(*(torch.arange(side) for side in sides)).view(-1, len(sides))
    places = torch.cat([torch.zeros(1, len(sides), dtype=places.dtype), places]).double()  # (1 + n, axes)
    found = []
    for axis, pairs in enumerate(axis_pairs(head_dim // 2, len(sides))):
        rates = base ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
        found.append(places[:, axis, None] * rates)
    angles = torch.cat(found, dim=1)  # (1 + n, head_dim / 2)
    return torch.stack([angles.cos(), angles.sin()]).float()


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Turn channel pairs (i, i + head_dim / 2) of x (..., head_dim) by rotations (2, ..., head_dim / 2), broadcast."""
    cosines, sines = rotations
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines], dim=-1).type_as(x)


def split_heads(qkv: Tensor, heads: int, rotations: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (b, heads, n, head_dim) of what one linear layer makes of tokens (b, n, 3 e).

    Queries and keys are turned by rotations (2, n, head_dim / 2), where there are any.
    """
    parts = qkv.view(*qkv.shape[:-1], 3, heads, -1)  # (b, n, 3, heads, head_dim)
    if rotations is None:
        queries, keys, values = parts.unbind(2)
    else:  # queries and keys at once, as they lie: half the operations, and no copies on the way back
        queries, keys = rotate(parts[:, :, :2], rotations[:, :, None, None]).unbind(2)
        values = parts[:, :, 2]
    return queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)


class Cache:
    """Keys and values of one block for the positions so far, in room made once for all ``length`` positions."""

    def __init__(self, length: int):
        self.length, self.filled = length, 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, None]:
        """Add one position (b, heads, 1, head_dim); views of all positions so far (b, heads, filled, head_dim)."""
        batch, heads, added, head_dim = keys.shape
        if self._keys is None or self._values is None:
            self._keys = keys.new_empty(batch, heads, self.length, head_dim)
            self._values = torch.empty_like(self._keys)
        end = self.filled + added
        self._keys[:, :, self.filled : end] = keys
        self._values[:, :, self.filled : end] = values
        self.filled = end
        return self._keys[:, :, :end], self._values[:, :, :end], None


class FixedCache(NamedTuple):
    """Keys and values of one block for all positions (b, heads, n, head_dim), of which only some are to be seen.

    Where the next one goes (1,), and which are seen then (1, 1, 1, n), stand in tensors too: every position is the same
    work on the same memory.
    """

    keys: Tensor
    values: Tensor
    place: Tensor
    seen: Tensor

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Put one position (b, heads, 1, head_dim) in its place; all positions, and which of them are seen."""
        return self.keys.index_copy_(2, self.place, keys), self.values.index_copy_(2, self.place, values), self.seen


class Attention(nn.Module):
    """Causal self-attention, with rotary positions where any are given.

    With a cache, one query against all positions so far.
    """

    def __init__(self, width: int, heads: int, residual_std: float):
        super().__init__()
        self.heads = heads
        self.qkv = linear(width, 3 * width)
        self.proj = linear(width, width, std=residual_std)

    def forward(self, x: Tensor, rotations: Tensor | None, cache: Cache | FixedCache | None = None) -> Tensor:
        queries, keys, values = split_heads(self.qkv(x), self.heads, rotations)
        seen = None
        if cache is not None:
            assert x.shape[1] == 1, "a cached pass takes one position"
            keys, values, seen = cache.extend(keys, values)
        mixed = F.scaled_dot_product_attention(queries, keys, values, seen, is_causal=cache is None)
        return cast(Tensor, self.proj(mixed.transpose(1, 2).flatten(2)))


class SwiGLU(nn.Module):
    """Gated feed-forward (Shazeer 2020): w2(silu(w1 x) * w3 x)."""

    def __init__(self, width: int, hidden: int, residual_std: float):
        super().__init__()
        self.w1 = linear(width, hidden)
        self.w3 = linear(width, hidden)
        self.w2 = linear(hidden, width, std=residual_std)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.w2(F.silu(self.w1(x)) * self.w3(x)))


class Block(nn.Module):
    """Pre-norm transformer block; what it adds to the residual stream passes through dropout."""

    def __init__(self, width: int, heads: int, hidden: int, *, dropout: float, residual_std: float):
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.attention = Attention(width, heads, residual_std)
        self.mlp_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.mlp = SwiGLU(width, hidden, residual_std)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotations: Tensor | None, cache: Cache | FixedCache | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), rotations, cache))
        return cast(Tensor, x + self.dropout(self.mlp(self.mlp_norm(x))))
