"""Layers of the pre-norm transformers: rotary positions, attention, SwiGLU, block.

Every linear layer starts from Xavier-uniform weights and zero biases, as in ViTok and MAE. Positions come to the layers
as a table of rotations, so a block does not know whether its tokens lie on a line, in an image or in a video.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tokscale.presets import vit_mlp_width


def linear(inputs: int, outputs: int, *, bias: bool = True, parts: int = 1, gain: float = 1.0) -> nn.Linear:
    """A linear layer with Xavier-uniform weights and zero bias; ``parts`` layers in one are each drawn as their own."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    for part in layer.weight.detach().chunk(parts):
        nn.init.xavier_uniform_(part, gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def grid_positions(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Row and column of each token of a grid, row by row; (rows * columns, 2)."""
    row = torch.arange(rows, device=device).repeat_interleave(columns)
    column = torch.arange(columns, device=device).repeat(rows)
    return torch.stack((row, column), dim=1).float()


def rotary_table(positions: Tensor, head_dim: int, theta: float = 10000.0) -> Tensor:
    """Cosines and sines that turn each head's channels by its token's position along one or more axes.

    ``positions`` is (n, axes), the table (2, n, head_dim / 2). Each axis turns an equal share of the channel pairs, its
    pair i of m by ``position * theta^(-i/m)`` radians: rotary positions (Su et al. 2021, arXiv 2104.09864).
    """
    axes = positions.shape[1]
    assert head_dim % (2 * axes) == 0, f"{axes} axes cannot share {head_dim} channels"
    pairs = head_dim // (2 * axes)
    frequencies = theta ** (-torch.arange(pairs, device=positions.device) / pairs)
    angles = (positions[..., None] * frequencies).flatten(1)  # (n, head_dim / 2)
    return torch.stack((angles.cos(), angles.sin()))


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn the channel pairs (i, i + head_dim / 2) of queries or keys (..., n, head_dim) by a rotary table."""
    cosines, sines = table
    first, second = x.chunk(2, dim=-1)
    # The table is float32 under autocast too, so the product is taken in float32 and rounded once.
    turned = torch.cat((first * cosines - second * sines, first * sines + second * cosines), dim=-1)
    return turned.to(x.dtype)


class GridRotary(nn.Module):
    """Rotary tables of the token grids in use: one table a grid, made when the grid is first seen, never saved."""

    def __init__(self, head_dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.head_dim = head_dim
        self._add(grid, None)

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """The table for (rows, columns); (2, n, head_dim / 2)."""
        if _table_name(grid) not in self._buffers:
            self._add(grid, next(self.buffers()).device)
        return self.get_buffer(_table_name(grid))

    def _add(self, grid: tuple[int, int], device: torch.device | None) -> None:
        # A table that is first needed while evaluating must serve training too: autograd refuses inference tensors.
        with torch.inference_mode(False):
            table = rotary_table(grid_positions(*grid, device=device), self.head_dim)
        self.register_buffer(_table_name(grid), table, persistent=False)


def _table_name(grid: tuple[int, int]) -> str:
    return f"table_{grid[0]}x{grid[1]}"


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions; queries, keys and values carry no bias, the projection does."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = linear(width, 3 * width, bias=False, parts=3)
        self.projection = linear(width, width)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """(b, n, e) -> (b, n, e)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (b, n, 3, heads, head_dim)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(rotate(queries, rotation), rotate(keys, rotation), values)
        projected: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return projected


class SwiGLU(nn.Module):
    """Gated feed-forward layer, out(silu(gate(x)) * value(x)) (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_and_value = linear(width, 2 * hidden, parts=2)
        self.out = linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, e) -> (b, n, e)."""
        gate, value = self.gate_and_value(x).chunk(2, dim=-1)
        result: Tensor = self.out(F.silu(gate) * value)
        return result


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = SwiGLU(width, hidden)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """(b, n, e) -> (b, n, e)."""
        x = x + self.attention(self.attention_norm(x), rotation)
        result: Tensor = x + self.mlp(self.mlp_norm(x))
        return result


class BlockStack(nn.Module):
    """Blocks one after another.

    With ``checkpoint_blocks`` set, a block's activations are not kept for the backward pass but made again there from
    its input: a third more work for less memory, and the same gradients.
    """

    checkpoint_blocks = False

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def through(self, x: Tensor, *seen: Tensor, tap: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Tokens (b, n, e) after all blocks, each given ``seen`` too, and after block ``tap``, counted from 1."""
        assert tap is None or 1 <= tap <= len(self.blocks), f"there is no block {tap} of {len(self.blocks)}"
        tapped = None
        for number, block in enumerate(self.blocks, start=1):
            if self.checkpoint_blocks and torch.is_grad_enabled():
                # there is no dropout in a block, so no random numbers to make again
                x = checkpoint(block, x, *seen, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, *seen)
            if number == tap:
                tapped = x
        return x, tapped


class Transformer(BlockStack):
    """Blocks on a grid of tokens, and a final LayerNorm."""

    def __init__(self, width: int, depth: int, heads: int, grid: tuple[int, int]) -> None:
        super().__init__(Block(width, heads, vit_mlp_width(width)) for _ in range(depth))
        self.rotary = GridRotary(width // heads, grid)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, grid: tuple[int, int], tap: int | None = None) -> tuple[Tensor, Tensor | None]:
        """(b, n, e) -> (b, n, e), the n tokens lying row by row on ``grid``; and the output of block ``tap``."""
        x, tapped = self.through(x, self.rotary(grid), tap=tap)
        return self.norm(x), tapped
