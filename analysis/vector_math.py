"""e^x and ln x of many numbers at once, compiled by numba.

The C library takes one number at a time, which would be a third of all time of a bootstrap; these loops have no calls
and no branches, and become vector instructions on whatever processor they are compiled for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

import tokscale.machine_code

Array = npt.NDArray[np.float64]
Bits = npt.NDArray[np.int64]
_F = TypeVar("_F", bound=Callable[..., object])

# Sums in any order make vector instructions possible; infinities keep their meaning.
MATH = {"reassoc", "contract", "nsz", "arcp"}
_LOG2_E, _SQRT2 = 1 / math.log(2), math.sqrt(2)
# ln 2 in two parts, the first with enough zeros at its end to be multiplied by a power without rounding.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_FACTORIALS = tuple(1 / math.factorial(k) for k in range(11, -1, -1))
_ODD = tuple(1 / k for k in range(21, 0, -2))
_MANTISSA, _ONE = (1 << 52) - 1, 1023 << 52


def machine_code(function: _F) -> _F:
    """Compiled with what first calls it."""
    return tokscale.machine_code.machine_code(function, MATH)


def in_order(function: _F) -> _F:
    """The same without liberties: what is taken off in two parts has to be."""
    return tokscale.machine_code.machine_code(function, {"contract"})


@in_order
def exponentials(x: Array, powers: Bits) -> None:
    """e^x in place, to the last bit or the one before: e^(k ln 2) e^r, |r| <= ln 2 / 2, by Taylor's series.

    Below e^-708 it is 0, above e^709 infinite. ``powers`` (n,) is room to work in.
    """
    scale = powers.view(np.float64)
    for k in range(len(x)):
        kept = min(max(x[k], -708.0), 709.0)
        power = np.floor(kept * _LOG2_E + 0.5)
        rest = kept - power * _LN2_HIGH - power * _LN2_LOW
        powers[k] = (np.int64(power) + 1023) << 52
        series = 1 / 479001600
        for term in _FACTORIALS:
            series = series * rest + term
        x[k] = np.inf if x[k] > 709.0 else (series if x[k] >= -708.0 else 0.0)
    for k in range(len(x)):
        x[k] *= scale[k]


@in_order
def logarithms(x: Array, bits: Bits) -> None:
    """ln x in place: k ln 2 + 2 artanh((f - 1) / (f + 1)) for x = f 2^k, f within a factor sqrt 2 of 1."""
    raw = x.view(np.int64)
    fraction = bits.view(np.float64)
    for k in range(len(x)):
        bits[k] = (raw[k] & _MANTISSA) | _ONE
    for k in range(len(x)):
        high = fraction[k] > _SQRT2
        power = np.float64((raw[k] >> 52) - 1023 + (1 if high else 0))
        part = fraction[k] * 0.5 if high else fraction[k]
        ratio = (part - 1) / (part + 1)
        square = ratio * ratio
        series = 1 / 23
        for term in _ODD:
            series = series * square + term
        value = power * _LN2_HIGH + (2 * ratio * series + power * _LN2_LOW)
        # Zeros, negative and infinite numbers have no place in a law of logarithms: their cost is infinite.
        x[k] = value if 0 < x[k] < np.inf else np.nan
