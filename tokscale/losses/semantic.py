"""Semantic regularisation (GigaTok, arXiv 2504.08736, 4.2): the decoder's features are led to a vision encoder's.

An MLP maps the decoder's features after one of its first blocks to the width of a frozen network's patch features; the
loss is their mean cosine similarity, negated. The MLP is left behind with the rest of training.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Alignment(nn.Sequential):
    """The MLP from the decoder's features (b, cells, width) to the teacher's (b, cells, features)."""

    def __init__(self, width: int, features: int) -> None:
        hidden = 4 * width
        super().__init__(
            nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, features)
        )


def alignment_loss(aligned: Tensor, teacher: Tensor) -> Tensor:
    """Negative mean cosine similarity of (b, cells, d) twice; the teacher's may lie on another square grid."""
    aims = on_grid(teacher.float(), aligned.shape[1])
    return -F.cosine_similarity(aligned.float(), aims, dim=-1).mean()


def on_grid(features: Tensor, cells: int) -> Tensor:
    """Features (b, n, d) of a square grid, row by row, as they are on the square grid of so many cells; bilinear."""
    if features.shape[1] == cells:
        return features
    old, new = math.isqrt(features.shape[1]), math.isqrt(cells)
    assert (old * old, new * new) == (features.shape[1], cells), "both grids are square"
    maps = features.transpose(1, 2).reshape(len(features), -1, old, old)
    with torch.autocast(features.device.type, enabled=False):
        maps = F.interpolate(maps, (new, new), mode="bilinear", align_corners=False, antialias=True)
    return maps.flatten(2).transpose(1, 2)
