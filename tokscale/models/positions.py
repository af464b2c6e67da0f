"""Where tokens stand, as tables: rotations of queries and keys, or vectors that are added to tokens.

A grid has one axis or more: rows and columns of an image's tokens, or times, rows and columns of a clip's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Grid = tuple[int, ...]


def axis_pairs(pairs: int, axes: int) -> tuple[int, ...]:
    """How many channel pairs belong to each axis: equal shares, and what they leave over to the first axis.

    ViTok made its L 1152 wide so that three axes share its heads of 72 channels equally; heads of 64, those of S and B,
    leave two pairs over, which time gets here.
    """
    share = pairs // axes
    assert share > 0, f"{axes} axes cannot share {pairs} pairs of channels"
    return (pairs - share * (axes - 1),) + (share,) * (axes - 1)


def grid_positions(*grid: int, device: torch.device | None = None) -> Tensor:
    """The place of each token of a grid on every axis, in raster order, the last axis running fastest; (n, axes)."""
    axes = torch.meshgrid(*(torch.arange(side, device=device) for side in grid), indexing="ij")
    return torch.stack(axes, dim=-1).flatten(0, -2).float()


def rotary_table(positions: Tensor, head_dim: int, theta: float = 10000.0) -> Tensor:
    """Cosines and sines that turn each head's channels by its token's position along one or more axes.

    ``positions`` is (n, axes), the table (2, n, head_dim / 2). Each axis turns its share of the channel pairs, its pair
    i of m by ``position * theta^(-i/m)`` radians: rotary positions (Su et al. 2021, arXiv 2104.09864).
    """
    angles = _angles(positions, head_dim // 2, theta)
    return torch.stack((angles.cos(), angles.sin()))


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn the channel pairs (i, i + head_dim / 2) of queries or keys (..., n, head_dim) by a rotary table."""
    cosines, sines = table
    first, second = x.chunk(2, dim=-1)
    # The table is float32 under autocast too, so the product is taken in float32 and rounded once.
    turned = torch.cat((first * cosines - second * sines, first * sines + second * cosines), dim=-1)
    return turned.to(x.dtype)


def sincos_table(positions: Tensor, width: int, theta: float = 10000.0) -> Tensor:
    """Sines and cosines (n, width) of positions (n, axes), as MAE and ViTok's code add them to tokens.

    Each axis has its share of the channel pairs, with the frequencies of ``rotary_table``.
    """
    angles = _angles(positions, width // 2, theta)
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def _angles(positions: Tensor, pairs: int, theta: float) -> Tensor:
    """(n, axes) -> (n, pairs), the pairs of one axis after those of another."""
    found = []
    for axis, share in enumerate(axis_pairs(pairs, positions.shape[1])):
        frequencies = theta ** (-torch.arange(share, device=positions.device) / share)
        found.append(positions[:, axis, None] * frequencies)
    return torch.cat(found, dim=1)


class GridTables(nn.Module):
    """Tables of the token grids in use: one table a grid, made when the grid is first seen, never saved."""

    def __init__(self, make: Callable[[Tensor], Tensor], grid: Grid, *, line: bool = False) -> None:
        super().__init__()
        self.make, self.line = make, line
        """``line``: a token's position is its place in raster order alone"""
        self._add(grid, None)

    def forward(self, grid: Grid) -> Tensor:
        """The table for a grid."""
        if _table_name(grid) not in self._buffers:
            self._add(grid, next(self.buffers()).device)
        return self.get_buffer(_table_name(grid))

    def _add(self, grid: Grid, device: torch.device | None) -> None:
        # A table that is first needed while evaluating must serve training too: autograd refuses inference tensors.
        with torch.inference_mode(False):
            positions = grid_positions(*grid, device=device)
            if self.line:
                positions = grid_positions(len(positions), device=device)
            table = self.make(positions)
        self.register_buffer(_table_name(grid), table, persistent=False)


class LearnedPositions(nn.Module):
    """An embedding of each place of one grid; they start as GPT-2's and the first ViTs' do, normal of spread 0.02."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(tokens, width), std=0.02))

    def forward(self, grid: Grid) -> Tensor:
        """The embedding (n, e) of the one grid, which the tokenizer's layout sees to."""
        return self.weight


def _table_name(grid: Grid) -> str:
    return "table_" + "x".join(map(str, grid))
