"""Moving dead leaves: clips whose every frame is a pure function of a key, with motion that is known.

Leaves of one layer, which are of one size and depth, move together at a constant velocity. Layers of a scene move in
one direction, within 30 degrees of that of the scene's class, at speeds of their own: nearer leaves cover and uncover
farther ones. A still clip repeats its first frame, so that speed says how redundant the frames are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokscale.data.dead_leaves import MOVING, Scenes, render
from tokscale.data.leaf_shapes import Floats
from tokscale.data.randomness import hash64, uniforms
from tokscale.data_config import ProceduralVideoData

_MOTION, _CUT, _SCENE = 2**20, 2**20 + 1, 2**20 + 2  # apart from the words of leaves
_SPREAD = 0.2679492  # tangent of 15 degrees, half of what a scene's direction may be off that of its class


def velocities(which: Scenes, speed: float, parallax: float) -> Floats:
    """Of each scene's layers and, last, its texture: (b, MOVING, 2), right and down, in sides per frame."""
    turn, *_ = uniforms(hash64(which.keys, _MOTION))
    tangent = (2 * turn - 1) * np.float32(_SPREAD)  # of half the angle, as no sine is the same on every machine
    square = tangent * tangent
    cos, sin = (1 - square) / (1 + square), 2 * tangent / (1 + square)
    heading_cos, heading_sin = which.number("heading_cos")[:, 0, 0], which.number("heading_sin")[:, 0, 0]
    heading = np.stack((heading_cos * cos - heading_sin * sin, heading_sin * cos + heading_cos * sin), axis=-1)
    slower, *_ = uniforms(hash64(which.keys[:, None], _MOTION, np.arange(MOVING)[None]))
    speeds = np.float32(speed) * (1 - np.float32(parallax) * slower)
    found: Floats = speeds[:, :, None] * heading[:, None, :]
    return found


def shown(which: Scenes, frames: int, cut_probability: float) -> Scenes:
    """The scene of every frame (b * frames,): the same throughout, but for cuts to others of its class."""
    numbers = np.arange(frames)[None]
    chances, *_ = uniforms(hash64(which.keys[:, None], _CUT, numbers))
    cuts = np.cumsum((chances < np.float32(cut_probability)) & (numbers > 0), axis=1)
    others = hash64(which.keys[:, None], _SCENE, cuts)
    keys = np.where(cuts == 0, which.keys[:, None], others)
    return Scenes(keys.ravel(), which.labels.repeat(frames))


def clips(which: Scenes, config: ProceduralVideoData) -> NDArray[np.uint8]:
    """Clips (b, 3, t, h, w) of the scenes; the first frame is the scene as an image."""
    frames = shown(which, config.frames, config.cut_probability)
    times = np.tile(np.arange(config.frames, dtype=np.float32), len(which))
    shifts = velocities(frames, config.speed, config.parallax) * times[:, None, None]
    pictures = render(frames, config.resolution, shifts)
    apart = pictures.reshape(len(which), config.frames, *pictures.shape[1:])
    return np.ascontiguousarray(apart.transpose(0, 2, 1, 3, 4))
