"""Networks that see whole clips: I3D, and a small random network for machines without its weights."""

from __future__ import annotations

import warnings
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale import weights
from tokscale.config import MIN_I3D_FRAMES
from tokscale.errors import WeightsError
from tokscale.metrics.features import FeatureNetwork, file_hash, ready
from tokscale.metrics.random_conv import random_filters

_CHANNELS = (3, 16, 16, 32)
_STAGE = 100  # apart from the filters of images
I3D_WIDTH, _I3D_SIDE = 400, 224


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
    """I3D of Kinetics-400 (Carreira & Zisserman 2017) as the TorchScript file of StyleGAN-V has it.

    uint8 clips (b, 3, t, h, w) of 10 frames or more -> (b, 400), the numbers before the softmax, which published FVDs
    are taken of (Unterthiner et al. 2018). The file itself brings clips to [-1, 1] (``rescale``) and to 224 x 224
    pixels (``resize``), as StyleGAN-V and ViTok's evaluator let it. It computes in full float32 whatever the settings
    for speed.

    Tried with a stand-in of the same signature only, never with the published file: that its ``resize`` is bilinear in
    each frame, and that 10 frames are its fewest, is from those who use it.
    """

    note = "Fréchet distances of clips (rfvd, gfvd) are measured in I3D, as published FVDs are."

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        self.script = script

    def forward(self, clips: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            features: Tensor = self.script(clips.float(), rescale=True, resize=True, return_features=True)
        return features

    @torch.no_grad()
    def fault(self) -> str:
        """What of one clip shows that this is another network, or means something else by its flags; or nothing.

        A clip of 224 pixels a side gives the same whoever brings it to [-1, 1].
        """
        clip = torch.randint(256, (1, 3, MIN_I3D_FRAMES, _I3D_SIDE, _I3D_SIDE), dtype=torch.uint8,
                             generator=torch.Generator().manual_seed(0))  # fmt: skip
        try:
            found = self(clip)
            expected = self.script(clip / 127.5 - 1, rescale=False, resize=False, return_features=True)
        except Exception as error:  # another's code, which may raise anything
            return f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        if found.shape != (1, I3D_WIDTH):
            return f"features of shape {tuple(found.shape)}"
        same = torch.allclose(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))
        return "" if same else f"a clip of {_I3D_SIDE} pixels a side that rescale=True does not bring to [-1, 1]"


def _random() -> FeatureNetwork:
    return FeatureNetwork("random-conv3d", RandomConv3d.dim, RandomConv3d(), RandomConv3d.note, smallest=16,
                          distance="fcd", fewest_frames=2)  # fmt: skip


def _i3d() -> FeatureNetwork:
    path = weights.require("i3d", "evaluation.clip_features")
    url = weights.entry_of("i3d").url
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, which is what the file is in
            script = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever an archive that is none may raise
        raise WeightsError("this is no TorchScript file of I3D", where=str(path), given=str(error).partition("\n")[0],
                           allowed=url) from error  # fmt: skip
    network = I3D(script.eval())
    if fault := network.fault():
        raise WeightsError(
            "this TorchScript file is not the I3D of published FVDs", where=str(path), given=fault,
            allowed=f"{url}, called with rescale, resize and return_features: {I3D_WIDTH} numbers a clip",
        )  # fmt: skip
    return FeatureNetwork("i3d", I3D_WIDTH, network, I3D.note, smallest=1, distance="fvd",
                          fewest_frames=MIN_I3D_FRAMES, weights=file_hash("i3d"))  # fmt: skip


NETWORKS = {"random-conv3d": _random, "i3d": _i3d}


def open_clip_features(name: str, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The network of clips of that name, in evaluation mode on that device.

    One whose weights are absent or damaged raises ``WeightsError``.
    """
    return ready(NETWORKS[name](), device)
