"""Inception score (Salimans et al. 2016): how sure a classifier is of each image, and how much images differ to it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tokscale.errors import DataError

SPLITS = 10
# The order of torch-fidelity: NumPy froze this generator's stream, so scores of both agree to rounding.
_SHUFFLE_SEED = 2020


class InceptionScore:
    """Logits of a classifier, kept as float32; joined across processes by ``merge``."""

    def __init__(self) -> None:
        self._logits: list[Tensor] = []
        self.count = 0

    def update(self, logits: Tensor) -> None:
        """Add logits of shape (b, classes)."""
        self._logits.append(logits.detach().float().cpu())
        self.count += len(logits)

    def merge(self, other: InceptionScore) -> None:
        """Take in what another accumulator saw; its images come after those of this one."""
        self._logits += other._logits
        self.count += other.count

    def compute(self, splits: int = SPLITS) -> float:
        """Mean over equal splits of exp(mean KL(p(y | x) || p(y))): 1 to the number of classes.

        Images are shuffled first, by a fixed seed: sets that are sorted by class would otherwise have a few classes in
        a split. p(y) is the split's own mean, so the score grows with its images. Fewer images than splits raise
        ``DataError``.
        """
        if self.count < splits:
            raise DataError("an Inception score needs images", given=f"{self.count}", allowed=f"{splits} or more")
        order = torch.from_numpy(np.random.RandomState(_SHUFFLE_SEED).permutation(self.count))
        logits = torch.cat(self._logits)[order]
        ends = [number * self.count // splits for number in range(splits + 1)]
        return sum(_score(logits[a:b].double()) for a, b in pairwise(ends)) / splits


def _score(logits: Tensor) -> float:
    """Of logits (n, classes): exp of the mean KL divergence of each row's prediction from their mean."""
    log_p = logits.log_softmax(dim=1)
    # A class that no image of the split can be has p = 0 in both: its share is 0, not 0 x infinity.
    log_mean = (log_p.logsumexp(dim=0) - math.log(len(logits))).clamp_min(torch.finfo(torch.float64).min)
    return math.exp(float((log_p.exp() * (log_p - log_mean)).nan_to_num(0.0).sum(dim=1).mean()))
