"""Feature networks: what Fréchet distances, precision and recall see of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokscale import weights
from tokscale.errors import ConfigError, one_of
from tokscale.metrics import inception
from tokscale.metrics.inception_score import SPLITS
from tokscale.metrics.random_conv import RandomConv
from tokscale.record import digest


@dataclass(frozen=True)
class FeatureNetwork:
    """A frozen network from uint8 images to vectors: its name in records, its width, one sentence for the report."""

    name: str
    dim: int
    module: nn.Module
    note: str
    smallest: int
    """pixels a side below which the network has nothing to see"""
    distance: str = "fd"
    """end of the columns of its Fréchet distances: ``fid`` of Inceptions, ``fdd`` of DINOv2s, else ``fd``"""
    logits: Callable[[Tensor], Tensor] | None = None
    """features (b, d) -> (b, classes), for the Inception score"""
    fewest_frames: int | None = None
    """of a clip, where the network sees clips; None: it sees images"""
    splits: int = SPLITS
    """of the images for the Inception score"""
    weights: str = ""
    """hash of the file that the weights are from, where there is one"""

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """uint8 images (b, 3, h, w), or clips (b, 3, t, h, w), on the network's device -> float32 (b, d).

        Autocast is off inside: from features in bfloat16 a Fréchet distance keeps two digits. Images that are too small
        raise ``ConfigError``.
        """
        assert images.dtype == torch.uint8, "features are taken of 8-bit images"
        assert images.ndim == (4 if self.fewest_frames is None else 5), "images are (b, 3, h, w), clips (b, 3, t, h, w)"
        height, width = images.shape[-2:]
        if min(height, width) < self.smallest:
            raise ConfigError(
                f"images are too small for the features {self.name}", where="data.resolution",
                given=f"{height} x {width}", allowed=f"{self.smallest} or more",
            )  # fmt: skip
        if self.fewest_frames is not None and images.shape[2] < self.fewest_frames:
            raise ConfigError(f"clips are too short for the features {self.name}", where="data.frames",
                              given=str(images.shape[2]), allowed=f"{self.fewest_frames} or more")  # fmt: skip
        with torch.autocast(images.device.type, enabled=False):
            features: Tensor = self.module(images).float()
        assert features.shape == (len(images), self.dim), f"{self.name} is not {self.dim} wide"
        return features


def _inception() -> FeatureNetwork:
    network = inception.open_inception()
    return FeatureNetwork(network.name, network.dim, network, network.note, smallest=1, distance="fid",
                          logits=network.logits, weights=file_hash(network.name))  # fmt: skip


def _later_inception() -> FeatureNetwork:
    network = inception.open_inception(inception.LaterInception)
    return FeatureNetwork(network.name, network.dim, network, network.note, smallest=1, distance="fid",
                          logits=network.logits, splits=1, weights=file_hash(network.name))  # fmt: skip


def file_hash(name: str) -> str:
    """The SHA-256 of the file of these weights, which is here."""
    path = weights.present(name)
    return "" if path is None else str(digest(path)["sha256"])


# The word in a spec -> the network. A new one is a file beside this one and a line here.
NETWORKS: dict[str, Callable[[], FeatureNetwork]] = {
    "random-conv": lambda: FeatureNetwork("random-conv", RandomConv.dim, RandomConv(), RandomConv.note, smallest=16),
    inception.NAME: _inception,
    inception.LATER_NAME: _later_inception,
}


def open_features(name: str, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The feature network of that name, in evaluation mode on that device.

    An unknown name raises ``ConfigError``; one whose weights are absent or damaged, ``WeightsError``.
    """
    if name not in NETWORKS:
        raise ConfigError("no such features", where="evaluation.features", given=name, allowed=one_of(NETWORKS, name))
    return ready(NETWORKS[name](), device)


def ready(network: FeatureNetwork, device: torch.device | str) -> FeatureNetwork:
    """The network in evaluation mode, without gradients, on that device."""
    network.module.eval().requires_grad_(False).to(device)
    return network
