"""How a discrete bottleneck uses its codes."""

from __future__ import annotations

import torch
from torch import Tensor

from tokscale.errors import DataError


class CodeHistogram:
    """Counts of every code, streamed over batches of indices; joined across processes by ``merge``."""

    def __init__(self, codebook_size: int):
        self.codebook_size = codebook_size
        self._counts = torch.zeros(codebook_size, dtype=torch.int64)

    def update(self, indices: Tensor) -> None:
        """Add indices of any shape and integer type, each in 0 .. codebook_size - 1."""
        counts = torch.bincount(indices.detach().flatten().cpu().long(), minlength=self.codebook_size)
        assert len(counts) == self.codebook_size, f"an index is beyond the {self.codebook_size} codes"
        self._counts += counts

    def merge(self, other: CodeHistogram) -> None:
        """Take in what another histogram saw."""
        assert self.codebook_size == other.codebook_size, "histograms of different codebooks cannot be joined"
        self._counts += other._counts

    def compute(self) -> dict[str, float]:
        """``codebook_usage``, the share of codes seen, and ``codebook_entropy`` of the histogram in bits.

        Both are at most what so many tokens can show: with fewer tokens than codes, usage cannot reach 1. Before the
        first token, ``DataError``.
        """
        total = int(self._counts.sum())
        if total == 0:
            raise DataError("no image was encoded, so there are no codes to count", where="the validation set")
        shares = self._counts[self._counts > 0].double() / total
        return {
            "codebook_usage": len(shares) / self.codebook_size,
            "codebook_entropy": max(0.0, float(-(shares * shares.log2()).sum())),
        }
