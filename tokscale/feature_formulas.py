"""What feature networks take that measure images and clips, by formula: Inceptions, DINOv2, I3D, random convolutions.

FLOPs are two per multiply-accumulate in convolutions and matrix products, as ``tokscale.formulas`` counts them. Tests
hold them against torch's FlopCounterMode on the modules of ``tokscale.metrics``; of DINOv2 and I3D, whose code is not
here, on networks of the published layers, and against published numbers: DINOv2 (Oquab et al. 2023), I3D 108 G
multiply-accumulates for 64 frames (Carreira & Zisserman 2017, counted by Feichtenhofer et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from tokscale.feature_names import DINOV2S
from tokscale.loss_formulas import DINOV2, DINOV2_PATCH, DINOV2_SIDE, VGG_16, Levels, dinov2, vgg


class Look(NamedTuple):
    """What a network takes that looks at images without gradients."""

    params: int
    """its weights"""
    flops: int
    """of one image, or clip"""
    floats: int
    """kept at once of each image, at the widest moment"""
    width: int
    """of its features"""
    size: int = 4
    """bytes of a float"""

    @property
    def fixed_bytes(self) -> int:
        return self.size * self.params

    @property
    def image_bytes(self) -> int:
        return self.size * self.floats


class _Map(NamedTuple):
    """A convolution of a network: channels in and out, cells of its window, of its input and of its output."""

    inputs: int
    outputs: int
    window: int
    before: int
    after: int

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs * self.window


def _totals(maps: Iterable[_Map]) -> tuple[int, int, int]:
    """Weights, FLOPs, and floats of the widest moment: a layer's input, and its output before and after the norm."""
    layers = list(maps)
    return (
        sum(layer.weights for layer in layers),
        sum(2 * layer.weights * layer.after for layer in layers),
        max(layer.inputs * layer.before + 2 * layer.outputs * layer.after for layer in layers),
    )


@cache
def image_network(name: str, resolution: int) -> Look:
    """The network of images of that name, as ``evaluation.features`` has it, for images of so many pixels a side."""
    if name in DINOV2S:
        return _dinov2(name)
    return (
        _random_conv(resolution) if name == "random-conv" else _inception(1008 if name == "inception-tf2015" else 1000)
    )


@cache
def clip_network(name: str, resolution: int, frames: int) -> Look:
    """The network of clips of that name, as ``evaluation.clip_features`` has it."""
    return _i3d(frames) if name == "i3d" else _random_conv_3d(resolution, frames)


# --- Inception v3 (Szegedy et al. 2016), in both forms: they differ in pools, and in classes ---

_INCEPTION_SIDE, _INCEPTION_WIDTH = 299, 2048


def _inception(classes: int) -> Look:
    maps = [*_stem(), *_at_35(192, 32), *_at_35(256, 64), *_at_35(288, 64), *_to_17()]
    maps += [layer for width in (128, 160, 160, 192) for layer in _at_17(width)]
    maps += [*_to_8(), *_at_8(1280), *_at_8(2048)]
    weights, flops, widest = _totals(maps)
    # each convolution has a scale, a shift, a mean and a variance of each channel behind it
    params = weights + 4 * sum(layer.outputs for layer in maps) + (_INCEPTION_WIDTH + 1) * classes
    return Look(params, flops, widest + 3 * _INCEPTION_SIDE**2, _INCEPTION_WIDTH)


def _plane(inputs: int, outputs: int, window: int, after: int, before: int | None = None) -> _Map:
    return _Map(inputs, outputs, window, (before or after) ** 2, after**2)


def _chain(side: int, *steps: int, windows: Iterable[int]) -> list[_Map]:
    """Convolutions one behind the other at one side, from each number of channels to the next."""
    return [_plane(a, b, window, side) for (a, b), window in zip(pairwise(steps), windows, strict=True)]


def _stem() -> list[_Map]:
    return [_plane(3, 32, 9, 149, 299), _plane(32, 32, 9, 147, 149), _plane(32, 64, 9, 147), _plane(64, 80, 1, 73),
            _plane(80, 192, 9, 71, 73)]  # fmt: skip


def _at_35(inputs: int, pooled: int) -> list[_Map]:
    return [
        *_chain(35, inputs, 64, windows=[1]), *_chain(35, inputs, 48, 64, windows=[1, 25]),
        *_chain(35, inputs, 64, 96, 96, windows=[1, 9, 9]), *_chain(35, inputs, pooled, windows=[1]),
    ]  # fmt: skip


def _to_17() -> list[_Map]:
    return [_plane(288, 384, 9, 17, 35), *_chain(35, 288, 64, 96, windows=[1, 9]), _plane(96, 96, 9, 17, 35)]


def _at_17(width: int) -> list[_Map]:
    return [
        *_chain(17, 768, 192, windows=[1]), *_chain(17, 768, width, width, 192, windows=[1, 7, 7]),
        *_chain(17, 768, width, width, width, width, 192, windows=[1, 7, 7, 7, 7]), *_chain(17, 768, 192, windows=[1]),
    ]  # fmt: skip


def _to_8() -> list[_Map]:
    return [*_chain(17, 768, 192, windows=[1]), _plane(192, 320, 9, 8, 17),
            *_chain(17, 768, 192, 192, 192, windows=[1, 7, 7]), _plane(192, 192, 9, 8, 17)]  # fmt: skip


def _at_8(inputs: int) -> list[_Map]:
    fork = 2 * _chain(8, 384, 384, windows=[3])
    return [*_chain(8, inputs, 320, windows=[1]), *_chain(8, inputs, 384, windows=[1]), *fork,
            *_chain(8, inputs, 448, 384, windows=[1, 9]), *fork, *_chain(8, inputs, 192, windows=[1])]  # fmt: skip


# --- DINOv2 ---

_DINOV2_HEAD = 64  # channels of a head of attention


def _dinov2(name: str) -> Look:
    size, counted = DINOV2[name], dinov2(name)
    tokens = (DINOV2_SIDE // DINOV2_PATCH) ** 2 + 1 + size.registers
    # In the MLP: what goes past it, its input, its hidden numbers before and after the GELU or the gate; in attention,
    # what goes past it, queries, keys and values, what is mixed, and the scores whole, as where no kernel is fused.
    feeding = tokens * (2 * size.width + (2 * 4 * size.width if size.swiglu is None else 4 * size.swiglu))
    attending = tokens * 5 * size.width + 2 * (size.width // _DINOV2_HEAD) * tokens**2
    return Look(counted.params, counted.flops, max(feeding, attending) + 3 * DINOV2_SIDE**2, size.width)


# --- I3D of Kinetics-400 (Carreira & Zisserman 2017): Inception v1 with windows over time ---

_I3D_SIDE, _I3D_WIDTH = 224, 400
# channels of a block: 1 x 1 x 1; two paths of a narrow layer and a window of 3 x 3 x 3; what is pooled
_I3D_BLOCKS = {
    28: [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)],
    14: [(192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
         (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128)],
    7: [(256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)],
}  # fmt: skip
I3D_FEATURES = 1024


def _i3d(frames: int) -> Look:
    """Frames are halved three times; the last average takes two at a time, and the features of each are averaged."""
    halved = frames // 2
    quartered = -(-halved // 2)
    times = {28: halved, 14: quartered, 7: -(-quartered // 2)}
    maps = [
        _Map(3, 64, 343, frames * _I3D_SIDE**2, halved * 112**2),
        _Map(64, 64, 1, halved * 56**2, halved * 56**2),
        _Map(64, 192, 27, halved * 56**2, halved * 56**2),
    ]
    inputs = 192
    for side, blocks in _I3D_BLOCKS.items():
        cells = times[side] * side**2
        for first, narrow, second, narrower, third, pooled in blocks:
            paths = [(inputs, first, 1), (inputs, narrow, 1), (narrow, second, 27), (inputs, narrower, 1),
                     (narrower, third, 27), (inputs, pooled, 1)]  # fmt: skip
            maps += [_Map(*path, cells, cells) for path in paths]
            inputs = first + second + third + pooled
    weights, flops, widest = _totals(maps)
    params = weights + 4 * sum(layer.outputs for layer in maps) + (I3D_FEATURES + 1) * _I3D_WIDTH
    flops += 2 * I3D_FEATURES * _I3D_WIDTH * max(1, times[7] - 1)
    # beside the first convolution: the clip resized, and padded
    return Look(params, flops, widest + 2 * 3 * frames * _I3D_SIDE**2, _I3D_WIDTH)


# --- random convolutions, in float64 ---

_RANDOM = (3, 16, 16, 32)
_RANDOM_WIDTH = 2 * sum(_RANDOM[1:])


def _random_conv(resolution: int) -> Look:
    sides = [resolution]
    for _ in _RANDOM[1:]:
        sides.append(-(-sides[-1] // 2))
    maps = [_plane(a, b, 9, after, before)
            for (a, b), (before, after) in zip(pairwise(_RANDOM), pairwise(sides), strict=True)]  # fmt: skip
    weights, flops, widest = _totals(maps)
    return Look(weights, flops, widest, _RANDOM_WIDTH, size=8)


def _random_conv_3d(resolution: int, frames: int) -> Look:
    sides, times = [resolution], [frames]
    for number, _ in enumerate(_RANDOM[1:]):
        sides.append(-(-sides[-1] // 2))
        times.append(times[-1] if number == 0 else -(-times[-1] // 2))
    cells = [time * side**2 for time, side in zip(times, sides, strict=True)]
    padded = [(side + 2) ** 2 for side in sides]
    longer = [(time + 2) * area for time, area in zip(times, padded, strict=True)]
    maps = [_Map(a, b, 27, before, after)
            for (a, b), before, after in zip(pairwise(_RANDOM), longer, cells[1:], strict=False)]  # fmt: skip
    weights, flops, widest = _totals(maps)
    # or while maps that are padded over space are padded over time
    padding = max(a * ((2 * time + 2) * area) for a, time, area in zip(_RANDOM[:-1], times, padded, strict=False))
    return Look(weights, flops, max(widest, padding), _RANDOM_WIDTH, size=8)


# --- LPIPS ---


@cache
def distance(resolution: int, levels: Levels = VGG_16) -> Look:
    """LPIPS of one image from another: two passes, and the features of both held against each other.

    At its widest moment it holds unit vectors of all levels of one and of the first level of the other, and is pooling
    the map of that: a quarter of it, and the places of the maxima, 8 bytes each.
    """
    once, found, side = vgg(levels, resolution), 0, resolution
    for level in levels:
        found += level[-1] * side * side
        side //= 2
    first = levels[0][-1] * resolution**2
    return Look(once.params + sum(level[-1] for level in levels), 2 * once.flops, found + 2 * first + 3 * first // 4, 0)
