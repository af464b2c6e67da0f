"""LPIPS (Zhang et al. 2018, arXiv 1801.03924): how far apart two images are in the features of a frozen network.

After the last ReLU of each level of VGG-16, both feature maps are scaled to length 1 over channels; their squared
differences, weighted by channel, are averaged over space, and the levels added up. The weights of the channels are
version 0.1 of the authors', as torchmetrics ships them; VGG's own are a file (``tokscale.weights``).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale import weights
from tokscale.errors import WeightsError
from tokscale.loss_formulas import RANDOM_VGG, VGG_16, Levels
from tokscale.losses_config import FeatureDistance

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # mean and spread of ImageNet's pixels in [-1, 1]
_LENGTH = 1e-10
_SEED = 20180131


class PerceptualDistance(nn.Module):
    """Distance of two batches of images in a frozen VGG; its weights take no gradient."""

    shift: Tensor
    scale: Tensor

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        widths = [3, *(width for level in levels for width in level)]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.lengths = [len(level) for level in levels]
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])
        self.channels = nn.ParameterList(torch.full((level[-1],), 1 / level[-1]) for level in levels)
        self.requires_grad_(False)
        self.eval()

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (b, 3, h, w) in [-1, 1] to a map of unit vectors (b, c, h', w') for each level; float32.

        Convolutions follow autocast, all that is squared or divided stays in float32.
        """
        maps, layers, found = (images.float() - self.shift) / self.scale, iter(self.convolutions), []
        for number, length in enumerate(self.lengths):
            if number:
                maps = F.max_pool2d(maps, 2)
            for _ in range(length):
                maps = F.relu_(next(layers)(maps))
            found.append(_unit(maps.float()))
        return found

    def between(self, features: list[Tensor], others: list[Tensor]) -> Tensor:
        """Distance of each pair of images, by their features; (b,). Both lists are empty afterwards.

        The largest maps come last: those that no gradient needs are gone by then.
        """
        parts = []
        for weight in reversed(self.channels):
            squares = (features.pop() - others.pop()).square()
            parts.append(squares.mul_(weight[:, None, None]).sum(dim=1).mean(dim=(1, 2)))
        return torch.stack(parts[::-1]).sum(dim=0)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distance of each image from its target, both (b, 3, h, w) in [-1, 1]; (b,), no gradient to the targets."""
        with torch.no_grad():
            aims = self.features(targets)
        return self.between(self.features(images), aims)


def _unit(maps: Tensor) -> Tensor:
    """Maps (b, c, h, w) scaled to length 1 over channels."""
    # Not the root of a sum of squares: its gradient is no number where a ReLU let nothing through.
    scaled: Tensor = maps / (torch.linalg.vector_norm(maps, dim=1, keepdim=True) + _LENGTH)
    return scaled


def lpips(wanted_by: str = "losses.perceptual") -> PerceptualDistance:
    """LPIPS in VGG-16 with the published weights, version 0.1; raises ``WeightsError`` where they are absent."""
    path = weights.require("vgg16", wanted_by)
    network = PerceptualDistance(VGG_16)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        layers = sorted({int(name.split(".")[1]) for name in stored if name.startswith("features.")})
        for convolution, layer in zip(network.convolutions, layers, strict=True):
            convolution.load_state_dict({
                "weight": stored[f"features.{layer}.weight"], "bias": stored[f"features.{layer}.bias"]})  # fmt: skip
    except Exception as error:  # whatever a pickle that is none may raise
        raise WeightsError("these are not the weights of VGG-16", where=str(path), given=str(error).partition("\n")[0],
                           allowed=weights.entry_of("vgg16").url) from error  # fmt: skip
    for weight, read in zip(network.channels, _channel_weights(), strict=True):
        weight.copy_(read)
    return network


def random_vgg() -> PerceptualDistance:
    """The same distance in a small random network, equal wherever it is made: a stand-in where no weights are."""
    network = PerceptualDistance(RANDOM_VGG)
    generator = torch.Generator().manual_seed(_SEED)
    for convolution in network.convolutions:
        assert isinstance(convolution, nn.Conv2d)
        spread = (2 / convolution.weight[0].numel()) ** 0.5  # keeps the size of what goes through a ReLU
        convolution.weight.normal_(0, spread, generator=generator)
        assert convolution.bias is not None
        convolution.bias.zero_()
    return network


PERCEPTUAL: dict[str, Callable[[], PerceptualDistance]] = {"lpips": lpips, "random-vgg": random_vgg}


def perceptual_distance(config: FeatureDistance) -> PerceptualDistance:
    """The frozen network of a config; raises ``WeightsError`` where it needs weights that are not here."""
    return PERCEPTUAL[config.kind]()


def _channel_weights() -> list[Tensor]:
    """The published weight of each channel of each level; torchmetrics itself, slow to import, is left alone."""
    found = find_spec("torchmetrics")
    assert found is not None, "torchmetrics is a dependency"
    assert found.submodule_search_locations
    path = Path(found.submodule_search_locations[0]) / "functional" / "image" / "lpips_models" / "vgg.pth"
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return [stored[f"lin{level}.model.1.weight"].flatten() for level in range(len(VGG_16))]
