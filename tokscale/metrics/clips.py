"""Networks that see whole clips: I3D, and a small random network for machines without its weights."""

from __future__ import annotations

import warnings
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale import weights
from tokscale.errors import WeightsError
from tokscale.metrics.features import FeatureNetwork, ready
from tokscale.metrics.random_conv import random_filters

_CHANNELS = (3, 16, 16, 32)
_STAGE = 100  # apart from the filters of images
I3D_WIDTH, I3D_FRAMES = 400, 10


class RandomConv3d(nn.Module):
    """Three 3 x 3 x 3 convolutions with absolute values between them; mean and spread over the clip after each.

    uint8 clips (b, 3, t, h, w) of two frames and 16 pixels a side or more -> float64 (b, 128). As ``RandomConv``, with
    time: half of the filters have zero mean over time at each place, so that they see change alone. Two convolutions
    halve the frames; motion is seen beyond some seven frames no more, and objects are not seen at all.
    """

    dim = 2 * sum(_CHANNELS[1:])
    note = (
        "Fréchet distances of clips (rfcd, gfcd) are measured in a fixed random convolutional network (random-conv3d), "
        "a stand-in for I3D: it sees flicker, blur and speed but no actions, and its values compare with no published "
        "FVD."
    )

    def __init__(self) -> None:
        super().__init__()
        for stage, (inner, outer) in enumerate(pairwise(_CHANNELS)):
            filters = random_filters(_STAGE + stage, (outer, inner, 3, 3, 3))
            changes = filters[outer // 2 :]
            changes -= changes.mean(axis=2, keepdims=True)
            filters /= ((filters**2).sum(axis=(1, 2, 3, 4), keepdims=True)) ** 0.5
            self.register_buffer(f"filters_{stage}", torch.from_numpy(filters))

    def forward(self, clips: Tensor) -> Tensor:
        maps = clips.to(torch.float64) / 127.5 - 1
        pooled = []
        for number, filters in enumerate(self.buffers()):
            maps = F.pad(maps, (1, 1, 1, 1))  # over space; over time the ends repeat, as black would be a change
            maps = torch.cat((maps[:, :, :1], maps, maps[:, :, -1:]), dim=2)
            maps = F.conv3d(maps, filters, stride=(1 if number == 0 else 2, 2, 2)).abs()
            pooled += [maps.mean(dim=(2, 3, 4)), maps.std(dim=(2, 3, 4), correction=0)]
        return torch.cat(pooled, dim=1)


class I3D(nn.Module):
    """I3D of Kinetics-400 (Carreira & Zisserman 2017) as the TorchScript file of StyleGAN-V has it; (b, 400).

    The 400 numbers before the softmax, which published FVDs are taken of (Unterthiner et al. 2018); the file itself
    brings clips to 224 x 224 pixels in [-1, 1].
    """

    note = "Fréchet distances of clips (rfvd, gfvd) are measured in I3D, as published FVDs are."

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script

    def forward(self, clips: Tensor) -> Tensor:
        features: Tensor = self.script(clips.float(), rescale=True, resize=True, return_features=True)
        return features


def _random() -> FeatureNetwork:
    return FeatureNetwork("random-conv3d", RandomConv3d.dim, RandomConv3d(), RandomConv3d.note, smallest=16,
                          distance="fcd", fewest_frames=2)  # fmt: skip


def _i3d() -> FeatureNetwork:
    path = weights.require("i3d", "evaluation.clip_features")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, which is what the file is in
            script = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever an archive that is none may raise
        raise WeightsError("this is no TorchScript file of I3D", where=str(path), given=str(error).partition("\n")[0],
                           allowed=weights.entry_of("i3d").url) from error  # fmt: skip
    return FeatureNetwork("i3d", I3D_WIDTH, I3D(script), I3D.note, smallest=1, distance="fvd", fewest_frames=I3D_FRAMES)


NETWORKS = {"random-conv3d": _random, "i3d": _i3d}


def open_clip_features(name: str, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The network of clips of that name, in evaluation mode on that device.

    One whose weights are absent or damaged raises ``WeightsError``.
    """
    return ready(NETWORKS[name](), device)
