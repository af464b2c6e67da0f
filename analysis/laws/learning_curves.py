"""The law of learning curves that flatten: a power of x which ends at a size, not at a level (M3 of the literature).

ln y = ln scale + exponent ln(1/x + 1/onset): y is scale x^-exponent up to about x = onset, where it turns into the
constant scale onset^-exponent (Alabdulmohsin, Neyshabur and Zhai 2022, "Revisiting Neural Scaling Laws in Language and
Vision", where M3 is the best of the laws with three parameters). A negative exponent is a rise that ends.
"""

from __future__ import annotations

import numpy as np

from analysis.laws.law import Array, Law

_KNOTS = 14  # sizes at which the curve may flatten, from before the first point to where points cannot tell
_BEFORE, _AFTER = 1.0, 3.0  # beyond both ends, in ln x
_STEEPEST = 30.0


def _curve(coordinates: Array, z: Array) -> tuple[Array, Array]:
    bent, share = _bent(coordinates, z)
    value = np.exp(coordinates[:, :1] + coordinates[:, 1:2] * bent)
    slope = np.stack(np.broadcast_arrays(1.0, bent, -coordinates[:, 1:2] * share), axis=-1)
    return value, value[..., None] * slope


def _bend(coordinates: Array, z: Array) -> Array:
    bent, share = _bent(coordinates, z)
    exponent = coordinates[:, 1:2]
    slope = np.stack(np.broadcast_arrays(1.0, bent, -exponent * share), axis=-1)
    second = slope[..., :, None] * slope[..., None, :]
    second[..., 1, 2] -= share
    second[..., 2, 1] -= share
    second[..., 2, 2] += exponent * share * (1 - share)
    return np.asarray(np.exp(coordinates[:, :1] + exponent * bent)[..., None, None] * second)


def _bent(coordinates: Array, z: Array) -> tuple[Array, Array]:
    """ln(1/x + 1/onset) and the share of 1/onset in that sum, both (b, n)."""
    onset = coordinates[:, 2:3]
    bent = np.logaddexp(-z[0], -onset)
    return bent, np.exp(-onset - bent)


def _starts(z: Array, y: Array) -> Array:
    """One start an onset: given it, ln y is linear in the others."""
    z, logarithm = z[0, 0], np.log(y)
    low, high = float(z.min()) - _BEFORE, float(z.max()) + _AFTER
    onsets = np.linspace(low, high, _KNOTS)
    bent = np.logaddexp(-z, -onsets[:, None])  # (s, n)
    off = bent - bent.mean(axis=1, keepdims=True)
    exponent = (logarithm @ off.T) / np.maximum((off**2).sum(axis=1), 1e-300)  # (b, s)
    scale = logarithm.mean(axis=1, keepdims=True) - exponent * bent.mean(axis=1)
    return np.stack(np.broadcast_arrays(scale, exponent, onsets), axis=-1)


FLATTENING = Law(
    "flattening", "y = scale (1 / x + 1 / onset)^exponent", ("scale", "exponent", "onset"), _curve, _bend,
    log_residuals=True, positive=("scale", "onset"), bounds={"exponent": (-_STEEPEST, _STEEPEST)}, starts=_starts,
)  # fmt: skip
