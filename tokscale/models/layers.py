"""Layers of the pre-norm transformers: attention, SwiGLU, block.

Every linear layer starts from Xavier-uniform weights and zero biases, as in ViTok and MAE. Positions come to the layers
as a table of rotations, so a block does not know whether its tokens lie on a line, in an image or in a video.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tokscale.models.positions import Grid, GridTables, LearnedPositions, rotary_table, rotate, sincos_table
from tokscale.presets import vit_mlp_width
from tokscale.tokenizer_config import Positions


def linear(inputs: int, outputs: int, *, bias: bool = True, parts: int = 1, gain: float = 1.0) -> nn.Linear:
    """A linear layer with Xavier-uniform weights and zero bias; ``parts`` layers in one are each drawn as their own."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    for part in layer.weight.detach().chunk(parts):
        nn.init.xavier_uniform_(part, gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values carry no bias, the projection does.

    Queries and keys are turned where positions are rotary.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = linear(width, 3 * width, bias=False, parts=3)
        self.projection = linear(width, width)

    def forward(self, x: Tensor, rotation: Tensor | None) -> Tensor:
        """(b, n, e) -> (b, n, e)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (b, n, 3, heads, head_dim)
        if rotation is None:
            queries, keys, values = qkv.unbind(2)
        else:  # queries and keys at once, as they lie: half the operations, and no copies on the way back
            turned, values = qkv.split((2, 1), dim=2)
            queries, keys = rotate(turned, rotation[:, :, None, None]).unbind(2)
            values = values.squeeze(2)
        mixed = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (queries, keys, values)))
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

    def forward(self, x: Tensor, rotation: Tensor | None) -> Tensor:
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

    def through(self, x: Tensor, *seen: Tensor | None, tap: int | None = None) -> tuple[Tensor, Tensor | None]:
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
    """Blocks on a grid of tokens that know their places, and a final LayerNorm."""

    def __init__(self, width: int, depth: int, heads: int, grid: Grid, positions: Positions = "rotary") -> None:
        super().__init__(Block(width, heads, vit_mlp_width(width)) for _ in range(depth))
        self.rotary: GridTables | None = None
        self.places: GridTables | LearnedPositions | None = None
        if positions.startswith("rotary"):
            turns = partial(rotary_table, head_dim=width // heads)
            self.rotary = GridTables(turns, grid, line=positions == "rotary_1d")
        self.norm = nn.LayerNorm(width, eps=1e-6)
        if positions == "sincos":
            self.places = GridTables(partial(sincos_table, width=width), grid)
        elif positions == "learned":
            self.places = LearnedPositions(prod(grid), width)

    def forward(self, x: Tensor, grid: Grid, tap: int | None = None) -> tuple[Tensor, Tensor | None]:
        """(b, n, e) -> (b, n, e), the first tokens lying in raster order on ``grid``; and the output of block ``tap``.

        Tokens beyond those of the grid have no place: nothing is added to them, and nothing turned.
        """
        beyond = x.shape[1] - prod(grid)
        if self.places is not None:
            places = self.places(grid)
            x = x + (F.pad(places, (0, 0, 0, beyond)) if beyond else places)
        rotation = None if self.rotary is None else self.rotary(grid)
        if rotation is not None and beyond:
            unturned = torch.stack((torch.ones_like(rotation[0, :1]), torch.zeros_like(rotation[1, :1])))
            rotation = torch.cat((rotation, unturned.expand(-1, beyond, -1)), dim=1)
        x, tapped = self.through(x, rotation, tap=tap)
        return self.norm(x), tapped
