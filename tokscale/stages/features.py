"""The feature networks that a config names, whichever part of the package they are from."""

from __future__ import annotations

import torch

from tokscale.feature_names import DINOV2S, Features, named
from tokscale.metrics.features import FeatureNetwork, open_features, ready
from tokscale.metrics.panel import Panel
from tokscale.teachers.class_token import open_dinov2_features


def open_panel(features: Features, device: torch.device | str) -> Panel:
    """The networks of ``evaluation.features``, on that device; one whose weights are absent raises ``WeightsError``."""
    return Panel(tuple(_open(name, device) for name in named(features)))


def _open(name: str, device: torch.device | str) -> FeatureNetwork:
    return ready(open_dinov2_features(name), device) if name in DINOV2S else open_features(name, device)
