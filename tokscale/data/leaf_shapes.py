"""Shapes of leaves, each given by a gauge that is compared with the leaf's extent in the leaf's own frame.

A leaf of circumradius r pixels covers the pixel at (u, v) by ``clip(extent + 1/2 - gauge(u, v), 0, 1)``, the coverage
of a pixel by a straight edge. Frames are scaled by ``frame(r)``; an aspect a above 1 also scales v by a.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """Area over r^2 as a function of the aspect; scale of the frame and extent, of r and aspect; the gauge."""

    area: Callable[[float], float]
    frame: Callable[[Floats, Floats], tuple[Floats, Floats]]
    gauge: Callable[[Floats, Floats], Floats]


def _disc_frame(radius: Floats, aspect: Floats) -> tuple[Floats, Floats]:
    # (r^2 - d^2) / 2r has the slope of r - d at the edge and needs no root per pixel.
    return np.float32(1) / np.sqrt(2 * radius), radius * np.float32(0.5)


def _disc(u: Floats, v: Floats) -> Floats:
    np.multiply(u, u, out=u)
    np.multiply(v, v, out=v)
    return np.add(u, v, out=u)


def _bar_frame(radius: Floats, aspect: Floats) -> tuple[Floats, Floats]:
    return np.ones_like(radius), radius * aspect / np.sqrt(1 + aspect * aspect)


def _bar(u: Floats, v: Floats) -> Floats:
    np.abs(u, out=u)
    np.abs(v, out=v)
    return np.maximum(u, v, out=u)


def _triangle_frame(radius: Floats, aspect: Floats) -> tuple[Floats, Floats]:
    return np.ones_like(radius), radius * np.float32(0.5)


def _triangle(u: Floats, v: Floats) -> Floats:
    np.abs(u, out=u)
    np.multiply(u, np.float32(math.sqrt(0.75)), out=u)
    np.subtract(u, v * np.float32(0.5), out=u)
    return np.maximum(u, v, out=u)


SHAPES = {
    "disc": Shape(lambda aspect: math.pi / aspect, _disc_frame, _disc),
    "bar": Shape(lambda aspect: 4 * aspect / (1 + aspect**2), _bar_frame, _bar),
    "triangle": Shape(lambda aspect: 0.75 * math.sqrt(3), _triangle_frame, _triangle),
}
