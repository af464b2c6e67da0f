"""What a law is: a formula, its curve with two derivatives, what its parameters may be, and where a fit starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Curve = Callable[[Array, Array], tuple[Array, Array]]
"""Coordinates (b, p), z (k, b or 1, n) -> values (b, n) and derivatives (b, n, p)."""
Bend = Callable[[Array, Array], Array]
"""Coordinates (b, p), z (k, b or 1, n) -> second derivatives (b, n, p, p)."""
Starts = Callable[[Array, Array], Array]
"""z (k, 1, n) and y (b, n) -> coordinates (b, s, p) from which a fit starts."""


class Power(NamedTuple):
    """The power of x that goes with a scale: its exponent, the column of x, and how it enters.

    ``direction`` -1: scale x^-exponent, which falls; +1: scale x^exponent. ``sign`` -1: it is taken off the level.
    """

    scale: str
    exponent: str
    column: int = 0
    direction: int = -1
    sign: int = 1


@dataclass(frozen=True)
class Terms:
    """A curve that is linear terms and exponentials: sum_i c_i psi_i + sum_t sign_t exp(sum_i c_i phi_ti).

    For z of shape (k, ..., n), which is (k, n) for one data set: linear psi (..., n, p), exponents phi (t, ..., n, p),
    signs (t,).
    """

    linear: Array
    exponents: Array
    signs: Array


@dataclass(frozen=True)
class Law:
    """A formula, what its parameters may be, and how a fit of it starts."""

    name: str
    formula: str
    parameters: tuple[str, ...]
    curve: Curve
    bend: Bend
    log_residuals: bool
    """Least squares on ln y rather than y: errors are a share of y, and y must be positive."""
    linear: bool = False
    """On the scale of its residuals the curve is linear in the coordinates: one exact solution, exact t intervals."""
    positive: tuple[str, ...] = ()
    """Parameters whose coordinate is their logarithm."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Limits of coordinates; what is not named is free."""
    powers: tuple[Power, ...] = ()
    """Scales that carry a unit of x: in units of u, scale becomes scale u^-exponent. A law that has some is fitted
    with z centred; any other in ln x itself."""
    separable: tuple[str, ...] = ()
    """Given the others, y is linear in these parameters, or ln y in their coordinates where the law has no terms."""
    starts: Starts | None = None
    """Where a nonlinear fit starts."""
    moves: Starts | None = None
    """Where else to look, z (k, 1, n) and a minimum (b, p) -> coordinates (b, parts, s, p): lines along which one part
    of the curve moves and the minimum is one point. For laws whose starts cannot try all combinations."""
    ordered: Callable[[Array], Array] | None = None
    """Coordinates (b, p) with parts that may change places, such as two breaks, in their order: the same curves."""
    turning_point: Callable[[Array], Array] | None = None
    """Coordinates (b, p) -> the z of the curve's extremum (b,), for laws that have one: ln x less the centre."""
    x_columns: int = 1
    """Columns of sizes; z has one row for each."""
    terms: Callable[[Array], Terms] | None = None
    """The curve as linear terms and exponentials at z (k, ..., n), for laws that are such a sum."""
    groups: int = 0
    """Groups that are fitted at once (``group_law``): z then has one more row, the number of each point's group."""

    @property
    def needs_positive_y(self) -> bool:
        return self.log_residuals

    def value(self, parameters: Mapping[str, float], x: npt.ArrayLike) -> Array:
        """The law's y at sizes x (n,), or (k, n) for a law of several columns; parameters as the formula names them.

        For a law of groups x has one more row, the number of the group.
        """
        sizes = np.asarray(x, dtype=np.float64)
        z = self.z(sizes if sizes.ndim == 2 else sizes.reshape(1, -1))
        value: Array = self.curve(self.coordinates(parameters)[None], z[:, None, :])[0][0]
        return value

    def z(self, x: Array) -> Array:
        """ln x (k, n); the row of group numbers, where there is one, as it is."""
        z = np.log(x[: self.x_columns])
        return np.append(z, x[self.x_columns :], axis=0) if self.groups else z

    def coordinates(self, parameters: Mapping[str, float]) -> Array:
        """Parameters (p,) as coordinates."""
        values = [parameters[name] for name in self.parameters]
        pairs = zip(self.parameters, values, strict=True)
        return np.array([math.log(value) if name in self.positive else value for name, value in pairs])

    def limits(self) -> tuple[Array, Array]:
        """Lower and upper limits of the coordinates, each (p,)."""
        pairs = [self.bounds.get(name, (-math.inf, math.inf)) for name in self.parameters]
        return np.array([low for low, _ in pairs]), np.array([high for _, high in pairs])

    def from_unit(self, center: npt.ArrayLike) -> Array:
        """The matrix (p, p) that takes coordinates fitted in z - center to those in z; one center a column of x."""
        centers = np.ravel(np.asarray(center, dtype=np.float64))
        matrix = np.eye(len(self.parameters))
        for power in self.powers:
            place = self.parameters.index(power.scale), self.parameters.index(power.exponent)
            matrix[place] = -power.direction * centers[power.column]
        return matrix
