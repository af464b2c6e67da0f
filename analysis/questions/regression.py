"""Least squares on columns within strata, with exact t intervals of what is linear in the coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.questions.answers import Estimate

Array = npt.NDArray[np.float64]
_ROUNDING = 1e-11


@dataclass(frozen=True)
class Line:
    """Coefficients (p,) of columns, their covariance (p, p), the residuals' variance, degrees of freedom and cost.

    ``scale`` is the size of the numbers that went in: what is smaller by eleven digits is a rounding error.
    """

    coefficients: Array
    covariance: Array
    variance: float
    freedom: int
    cost: float
    scale: float

    def contrast(self, weights: npt.ArrayLike, level: float, sign: int = 0) -> Estimate:
        """A linear combination of the coefficients, its two-sided interval, and its p value.

        ``sign`` makes the p value one-sided: against the hypothesis that the combination does not have this sign.
        """
        weights = np.asarray(weights, dtype=np.float64)
        value = float(weights @ self.coefficients)
        error = math.sqrt(max(float(weights @ self.covariance @ weights), 0.0))
        return student(value, error, self.freedom, level, sign, self.scale * float(np.abs(weights).max(initial=0.0)))


def student(value: float, error: float, freedom: float, level: float, sign: int = 0, scale: float = 0.0) -> Estimate:
    """Student's interval and p value of a number with a standard error."""
    if not freedom > 0 or not math.isfinite(error):
        return Estimate(value, None, None, None, max(float(freedom), 0.0))
    half = float(special.stdtrit(freedom, 0.5 + level / 2)) * error
    if error <= _ROUNDING * scale:  # rounding errors: equal to zero or beyond doubt
        p = float(abs(value) <= _ROUNDING * scale or value * sign < 0)
    else:
        t = value / error
        p = float(special.stdtr(freedom, -t * sign)) if sign else 2 * float(special.stdtr(freedom, -abs(t)))
    return Estimate(value, value - half, value + half, p, float(freedom))


def within(columns: Array, response: Array, stratum: npt.NDArray[np.int64]) -> Line | None:
    """Regress a response (n,) on columns (p, n) with an own level in every stratum (n,).

    None where the columns do not tell their coefficients apart. A stratum of one row takes no part: it costs a degree
    of freedom for its level and brings none.
    """
    _, place = np.unique(stratum, return_inverse=True)
    rows = np.bincount(place)
    centred = [values - (np.bincount(place, weights=values) / rows)[place] for values in (*columns, response)]
    design, target = np.array(centred[:-1]).T, centred[-1]
    size = np.sqrt((design**2).sum(axis=0))
    scale = max(float(np.abs(response).max()), 1e-300)
    if (size <= 1e-9 * np.maximum(np.abs(columns).max(axis=1), 1e-300) * math.sqrt(len(target))).any():
        return None
    unit = design / size
    if np.linalg.cond(unit) > 1e8:
        return None
    orthogonal, triangular = np.linalg.qr(unit)
    inverse = np.linalg.inv(triangular) / size[:, None]
    coefficients = inverse @ (orthogonal.T @ target)
    residual = target - design @ coefficients
    cost = float(residual @ residual)
    freedom = len(target) - len(rows) - len(columns)
    variance = cost / freedom if freedom > 0 else math.nan
    return Line(coefficients, inverse @ inverse.T * variance, variance, freedom, cost, scale / float(size.min()))
