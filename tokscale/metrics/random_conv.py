"""Features of images from a small fixed random network: for machines without pretrained weights."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

_KEY = 20250116
_CHANNELS = (3, 16, 16, 32)
_DETAIL_SHARE = 0.75


class RandomConv(nn.Module):
    """Three strided 3 x 3 convolutions with absolute values between them; mean and spread over space after each.

    uint8 images (b, 3, h, w) of 16 pixels or more a side -> float64 (b, 128). In the manner of a scattering transform
    (Bruna & Mallat 2013), but with random filters: three quarters of them have zero mean over space, so that they see
    detail and not brightness. That random networks suffice to tell degraded images apart: Naeem et al. 2020. Layout is
    not seen beyond some 15 pixels, and objects are not seen at all.

    It computes in float64: so small a network can afford it, and no setting for speed (autocast, TF32, bfloat16
    convolutions) can then make features differ between machines.
    """

    dim = 2 * sum(_CHANNELS[1:])
    note = (
        "Fréchet distances, precision and recall are measured in a fixed random convolutional network (random-conv), "
        "a stand-in for Inception: it sees blur, noise, colour and texture but no objects, and its values compare with "
        "no published FID."
    )

    def __init__(self) -> None:
        super().__init__()
        for stage, (inner, outer) in enumerate(pairwise(_CHANNELS)):
            self.register_buffer(f"filters_{stage}", torch.from_numpy(_filters(stage, outer, inner)))

    def forward(self, images: Tensor) -> Tensor:
        maps = images.to(torch.float64) / 127.5 - 1
        pooled = []
        for filters in self.buffers():
            maps = F.conv2d(maps, filters, stride=2, padding=1).abs()
            pooled += [maps.mean(dim=(2, 3)), maps.std(dim=(2, 3), correction=0)]
        return torch.cat(pooled, dim=1)


def random_filters(stage: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Random numbers in (-1, 1) of that shape, equal on every machine and with every library version.

    Philox's raw integers are fixed for all time, which NumPy's and torch's normal variates are not.
    """
    integers = np.random.Philox(key=_KEY, counter=stage << 64).random_raw(math.prod(shape)) >> np.uint64(11)
    uniform = integers.astype(np.float64) * 2.0**-52 - 1
    found: NDArray[np.float64] = uniform.reshape(shape)
    return found


def _filters(stage: int, outer: int, inner: int) -> NDArray[np.float64]:
    """Random filters of norm 1: (outer, inner, 3, 3)."""
    filters = random_filters(stage, (outer, inner, 3, 3))
    detail = filters[round(outer * (1 - _DETAIL_SHARE)) :]
    detail -= detail.mean(axis=(2, 3), keepdims=True)
    filters /= np.sqrt((filters**2).sum(axis=(1, 2, 3), keepdims=True))
    return filters
