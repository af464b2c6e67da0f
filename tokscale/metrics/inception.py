"""The Inception network of published FIDs and Inception scores: the TensorFlow graph of 2015-12-05, in PyTorch.

Every score since Salimans et al. 2016 and Heusel et al. 2017 comes from this one graph. It differs from later Inception
v3 networks: averages at a border leave out the padding, the last block takes a maximum instead of an average, there are
1008 classes, and images are resized as TensorFlow 1 did, without antialiasing and with corners, not centres, in place.
Names are those of torch-fidelity's file of the converted weights, which ``tokscale.weights`` knows.

Some papers' FIDs, ViTok's among them, are of torchvision's network instead, a later one: ``LaterInception``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale import weights
from tokscale.errors import WeightsError

NAME, LATER_NAME = "inception-tf2015", "inception-torchvision"
SIDE = 299
_NORM_EPS = 0.001


class _Step(NamedTuple):
    """One convolution of a block: its name, its channels, its window; padded unless it has a stride."""

    name: str
    channels: int
    height: int = 1
    width: int = 1
    stride: int = 1


_Path = Sequence[_Step | tuple[_Step, _Step]]  # a pair: two convolutions side by side, on the same maps
_Pool = Literal["average", "padded average", "largest", "stride"]
_Average = Literal["average", "padded average"]
_UNUSED = "AuxLogits."  # a second classifier in torchvision's file, which only training looks at


class Convolution(nn.Module):
    """Convolution without bias, batch normalisation by fixed statistics, ReLU."""

    def __init__(self, inputs: int, step: _Step, *, padded: bool) -> None:
        super().__init__()
        window = (step.height, step.width)
        padding = (step.height // 2, step.width // 2) if padded else 0
        self.conv = nn.Conv2d(inputs, step.channels, window, step.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(step.channels, eps=_NORM_EPS)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(maps)))


class Mixed(nn.Module):
    """A block: paths of convolutions side by side, and a pooled one, joined over channels in this order."""

    def __init__(self, inputs: int, paths: Sequence[_Path], pool: _Pool, pool_channels: int = 0) -> None:
        super().__init__()
        self.paths, self.pool = paths, pool
        self.outputs = pool_channels or inputs
        for path in paths:
            width = inputs
            for steps in path:
                pair = (steps,) if isinstance(steps, _Step) else steps
                for step in pair:
                    self.add_module(step.name, Convolution(width, step, padded=step.stride == 1))
                width = sum(step.channels for step in pair)
            self.outputs += width
        if pool_channels:
            self.branch_pool = Convolution(inputs, _Step("branch_pool", pool_channels), padded=True)

    def forward(self, maps: Tensor) -> Tensor:
        found = []
        for path in self.paths:
            here = maps
            for steps in path:
                pair = (steps,) if isinstance(steps, _Step) else steps
                here = torch.cat([self.get_submodule(step.name)(here) for step in pair], dim=1)
            found.append(here)
        return torch.cat([*found, self._pooled(maps)], dim=1)

    def _pooled(self, maps: Tensor) -> Tensor:
        if self.pool == "stride":
            return F.max_pool2d(maps, 3, 2)
        if self.pool == "largest":
            return self._narrowed(F.max_pool2d(maps, 3, 1, 1))
        return self._narrowed(F.avg_pool2d(maps, 3, 1, 1, count_include_pad=self.pool == "padded average"))

    def _narrowed(self, maps: Tensor) -> Tensor:
        narrowed: Tensor = self.branch_pool(maps)
        return narrowed


def _chain(name: str, *steps: tuple[int, ...]) -> list[_Step]:
    return [_Step(f"{name}_{number}", *step) for number, step in enumerate(steps, start=1)]


def _fork(name: str) -> tuple[_Step, _Step]:
    return _Step(f"{name}a", 384, 1, 3), _Step(f"{name}b", 384, 3, 1)


def _of_35(inputs: int, pooled: int, average: _Average) -> Mixed:
    return Mixed(inputs, [
        [_Step("branch1x1", 64)],
        _chain("branch5x5", (48,), (64, 5, 5)),
        _chain("branch3x3dbl", (64,), (96, 3, 3), (96, 3, 3)),
    ], average, pooled)  # fmt: skip


def _of_17(width: int, average: _Average) -> Mixed:
    return Mixed(768, [
        [_Step("branch1x1", 192)],
        _chain("branch7x7", (width,), (width, 1, 7), (192, 7, 1)),
        _chain("branch7x7dbl", (width,), (width, 7, 1), (width, 1, 7), (width, 7, 1), (192, 1, 7)),
    ], average, 192)  # fmt: skip


def _of_8(inputs: int, pool: _Pool) -> Mixed:
    return Mixed(inputs, [
        [_Step("branch1x1", 320)],
        [*_chain("branch3x3", (384,)), _fork("branch3x3_2")],
        [*_chain("branch3x3dbl", (448,), (384, 3, 3)), _fork("branch3x3dbl_3")],
    ], pool, 192)  # fmt: skip


def _to_17() -> Mixed:
    return Mixed(288, [
        [_Step("branch3x3", 384, 3, 3, 2)],
        _chain("branch3x3dbl", (64,), (96, 3, 3), (96, 3, 3, 2)),
    ], "stride")  # fmt: skip


def _to_8() -> Mixed:
    return Mixed(768, [
        _chain("branch3x3", (192,), (320, 3, 3, 2)),
        _chain("branch7x7x3", (192,), (192, 1, 7), (192, 7, 1), (192, 3, 3, 2)),
    ], "stride")  # fmt: skip


class Inception(nn.Module):
    """uint8 images (b, 3, h, w) of any size -> float32 features (b, 2048), the averages of the last maps.

    It computes in full float32 whatever the settings for speed: TF32 changes features in the third digit.
    """

    name = NAME
    dim = 2048
    classes = 1008
    average: _Average = "average"
    last: _Pool = "largest"
    note = (
        f"Fréchet distances and Inception scores are of the 2015 TensorFlow Inception ({NAME}), as in published FIDs. "
        "They compare only with values from as many images, against the same reference images."
    )

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, _Step("1a", 32, 3, 3, 2), padded=False)
        self.Conv2d_2a_3x3 = Convolution(32, _Step("2a", 32, 3, 3), padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, _Step("2b", 64, 3, 3), padded=True)
        self.Conv2d_3b_1x1 = Convolution(64, _Step("3b", 80), padded=False)
        self.Conv2d_4a_3x3 = Convolution(80, _Step("4a", 192, 3, 3), padded=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = (
            _of_35(inputs, pooled, self.average) for inputs, pooled in ((192, 32), (256, 64), (288, 64))
        )
        self.Mixed_6a = _to_17()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            _of_17(width, self.average) for width in (128, 160, 160, 192)
        )
        self.Mixed_7a = _to_8()
        self.Mixed_7b, self.Mixed_7c = _of_8(1280, self.average), _of_8(2048, self.last)
        self.fc = nn.Linear(self.dim, self.classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.prepared(images)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            maps = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(maps)))
            maps = self.Conv2d_3b_1x1(F.max_pool2d(maps, 3, 2))
            maps = F.max_pool2d(self.Conv2d_4a_3x3(maps), 3, 2)
            for name, block in self.named_children():
                if name.startswith("Mixed"):
                    maps = block(maps)
        return maps.mean(dim=(2, 3))

    def prepared(self, images: Tensor) -> Tensor:
        """uint8 images (b, 3, h, w) of any size as the network takes them: float32 (b, 3, 299, 299)."""
        return (resized(images, SIDE) - 128) / 128

    def logits(self, features: Tensor) -> Tensor:
        """Features (b, 2048) -> float64 logits (b, 1008), without the bias of the last layer.

        So take them all who compute Inception scores: the original code multiplied by the matrix alone.
        """
        return features.double() @ self.fc.weight.double().T


class LaterInception(Inception):
    """torchvision's Inception v3, as ViTok's evaluator takes it: uint8 images (b, 3, h, w) -> features (b, 2048).

    Images are in [-1, 1] at 299 pixels, resized bilinearly with aligned corners. torchvision's own model expects them
    with ImageNet's mean and spread and turns them into [-1, 1] itself (``transform_input``): the evaluator goes past
    that. Averages at a border count the padding, the last block takes an average, and there are 1000 classes.
    """

    name = LATER_NAME
    classes = 1000
    average: _Average = "padded average"
    last: _Pool = "padded average"
    note = (
        f"Fréchet distances and Inception scores are of torchvision's Inception v3 ({LATER_NAME}), as in ViTok's "
        "evaluator, and the score is of all images without splits: they are on another scale than published FIDs of "
        "the 2015 network. They compare only with values from as many images, against the same reference images."
    )

    def prepared(self, images: Tensor) -> Tensor:
        maps = images.to(torch.float32) / 127.5 - 1
        return F.interpolate(maps, (SIDE, SIDE), mode="bilinear", align_corners=True)

    def logits(self, features: Tensor) -> Tensor:
        """Features (b, 2048) -> float64 logits (b, 1000) of the whole last layer, as ViTok's evaluator takes them."""
        return F.linear(features.double(), self.fc.weight.double(), self.fc.bias.double())


def resized(images: Tensor, side: int) -> Tensor:
    """uint8 images (b, 3, h, w) as float32 (b, 3, side, side), as ``tf.image.resize_bilinear`` of TensorFlow 1.

    Pixel i of the result lies at i x h / side of the image (align_corners and half_pixel_centers off); rows first, in
    float32, as there.
    """
    maps = images.to(torch.float32)
    for dim in (3, 2):
        size = maps.shape[dim]
        places = torch.arange(side, dtype=torch.float32, device=maps.device) * torch.tensor(size / side)
        lower = places.long().clamp_max(size - 1)
        share = (places - lower).view(-1, 1) if dim == 2 else places - lower
        first = maps.index_select(dim, lower)
        maps = first + (maps.index_select(dim, (lower + 1).clamp_max(size - 1)) - first) * share
    return maps


def open_inception(kind: type[Inception] = Inception) -> Inception:
    """The network with its published weights; raises ``WeightsError`` where they are absent, damaged or others."""
    path = weights.require(kind.name, f"evaluation.features {kind.name}")
    with torch.device("meta"):  # what is read replaces everything: nothing is drawn
        network = kind()
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        used = {name: tensor for name, tensor in stored.items() if not name.startswith(_UNUSED)}
        network.load_state_dict({**_counters(network), **used}, assign=True)
    except Exception as error:  # whatever a pickle that is none may raise
        raise WeightsError(f"these are not the weights of {kind.name}", where=str(path),
                           given=str(error).partition("\n")[0],
                           allowed=weights.entry_of(kind.name).url) from error  # fmt: skip
    return network


def _counters(network: nn.Module) -> dict[str, Tensor]:
    """Of batches that normalisations saw in training: older files have none, and evaluation does not look."""
    return {name: torch.zeros((), dtype=torch.int64) for name in network.state_dict()
            if name.endswith("num_batches_tracked")}  # fmt: skip
