"""The table of laws: each a small piece of data. A new law is one entry here."""

from __future__ import annotations

import functools
import math

import numpy as np

from analysis.laws.broken import broken_law
from analysis.laws.law import Array, Law, Power, Terms
from analysis.laws.sums import bend_of, curve_of, sum_law, valley_turn
from tokscale.errors import UsageError, one_of

_FALL = Power("scale", "exponent")


def law_named(name: str, columns: int = 1) -> Law:
    """The law of a name for so many x columns; ``UsageError`` lists the names there are."""
    if not isinstance(columns, int) or columns < 1:
        raise UsageError("a law has a number of x columns", given=columns, allowed="1 or more")
    if name == "additive":
        return additive(columns)
    if not isinstance(name, str) or name not in LAWS:
        raise UsageError("no such law", given=name, allowed=one_of(LAW_NAMES, name))
    if columns != LAWS[name].x_columns:
        raise UsageError(f"{name} takes {LAWS[name].x_columns} x column", given=f"{columns} columns")
    return LAWS[name]


@functools.cache
def additive(columns: int) -> Law:
    """y = floor + sum_k scale_k x_k^-exponent_k: sizes that each leave an error of their own (Hoffmann et al. 2022)."""
    numbers = range(1, columns + 1)
    parts = [f"scale_{k} x_{k}^-exponent_{k}" for k in numbers]
    powers = tuple(Power(f"scale_{k}", f"exponent_{k}", k - 1) for k in numbers)
    return sum_law("additive", " + ".join(["y = floor", *parts]), "floor", powers, log_residuals=True)


def _power_terms(z: Array) -> Terms:
    exponent = np.stack(np.broadcast_arrays(1.0, -z[0]), axis=-1)
    return Terms(np.zeros_like(exponent), exponent[None], np.ones(1))


def _octave_terms(z: Array) -> Terms:
    linear = np.stack([np.ones_like(z[0]), z[0] / math.log(2), (z[0] / math.log(2)) ** 2], axis=-1)
    return Terms(linear, np.zeros((0, *linear.shape)), np.zeros(0))


def _line_terms(z: Array) -> Terms:
    linear = np.stack([np.ones_like(z[0]), z[0] / math.log(2)], axis=-1)
    return Terms(linear, np.zeros((0, *linear.shape)), np.zeros(0))


def _parabola_turn(coordinates: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):  # a straight line turns nowhere
        return np.asarray(-coordinates[:, 1] / (2 * coordinates[:, 2]) * math.log(2))


_TABLE = (
    Law("power", "y = scale x^-exponent", ("scale", "exponent"), curve_of(_power_terms), bend_of(_power_terms),
        log_residuals=True, linear=True, positive=("scale",), terms=_power_terms),
    Law("semilog", "y = intercept + slope log2 x", ("intercept", "slope"), curve_of(_line_terms),
        bend_of(_line_terms), log_residuals=False, linear=True, terms=_line_terms),
    # Residuals of ln y: the error of a loss or an FID is nearer to a share of it than to a constant, and the fit then
    # extrapolates better (Alabdulmohsin, Neyshabur and Zhai 2022). Noise may put a measured y below the floor.
    sum_law("power_floor", "y = floor + scale x^-exponent", "floor", (_FALL,), log_residuals=True),
    # With an exponent below .01 three decades of x are a straight line in log x, and its ceiling is anywhere.
    sum_law("saturating", "y = ceiling - scale x^-exponent", "ceiling", (_FALL._replace(sign=-1),),
            log_residuals=False, least_exponent=0.01),
    Law("quadratic", "y = intercept + slope log2 x + curvature (log2 x)^2", ("intercept", "slope", "curvature"),
        curve_of(_octave_terms), bend_of(_octave_terms), log_residuals=False, linear=True,
        turning_point=_parabola_turn, terms=_octave_terms),
    sum_law("valley", "y = floor + scale x^-exponent + rise_scale x^rise_exponent", "floor",
            (_FALL, Power("rise_scale", "rise_exponent", direction=+1)), log_residuals=True,
            turning_point=valley_turn),
    broken_law(1),
    broken_law(2),
)  # fmt: skip

LAWS: dict[str, Law] = {law.name: law for law in _TABLE}
"""The laws of one x column by name; ``law_named`` knows the additive law too, for any number of columns."""
LAW_NAMES = (*LAWS, "additive")
