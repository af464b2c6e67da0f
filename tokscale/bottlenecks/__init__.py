"""Bottlenecks: what stands between encoder and decoder. A new one is one file and one row of ``_MODULES``."""

from __future__ import annotations

from typing import Any

from tokscale.bottlenecks.base import Bottleneck, BottleneckResult
from tokscale.bottlenecks.fsq import FSQ
from tokscale.bottlenecks.kl import KL
from tokscale.bottlenecks.lfq import LFQ
from tokscale.bottlenecks.vq import VQ
from tokscale.config import BottleneckConfig, FSQBottleneck, KLBottleneck, LFQBottleneck, VQBottleneck

__all__ = ["FSQ", "KL", "LFQ", "VQ", "Bottleneck", "BottleneckResult", "build_bottleneck"]

_MODULES: dict[type, Any] = {KLBottleneck: KL, VQBottleneck: VQ, FSQBottleneck: FSQ, LFQBottleneck: LFQ}


def build_bottleneck(config: BottleneckConfig) -> Bottleneck:
    """The bottleneck of a config."""
    bottleneck: Bottleneck = _MODULES[type(config)](config)
    return bottleneck
