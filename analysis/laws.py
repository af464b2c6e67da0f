"""Laws: formulas with named parameters that tie a measure to sizes. A law is one entry of the table ``LAWS``.

A law's curve works on coordinates in which least squares behaves: a positive parameter is represented by its
logarithm, every other by itself, and sizes come as z = ln x. The array shapes: ``coordinates`` (b, p), ``z``
(k, b or 1, n) with k columns of sizes, result (b, n) with its derivatives (b, n, p).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tokscale.errors import UsageError, one_of

Array = npt.NDArray[np.float64]
Curve = Callable[[Array, Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Law:
    """A formula, what its parameters may be, and how a fit of it starts."""

    name: str
    formula: str
    parameters: tuple[str, ...]
    curve: Curve
    log_residuals: bool
    """Least squares on ln y rather than y: errors are a share of y, and y must be positive."""
    linear: bool = False
    """On the scale of its residuals the curve is linear in the coordinates: one exact solution, exact t intervals."""
    positive: tuple[str, ...] = ()
    """Parameters whose coordinate is their logarithm."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Limits of coordinates; what is not named is free."""
    powers: Mapping[str, str] = field(default_factory=dict)
    """Scale -> the exponent that carries the unit of x into it: in units of u, scale becomes scale u^-exponent."""
    starts: Callable[[Array, Array], Array] | None = None
    """Where a nonlinear fit starts: z (1, 1, n) and y (b, n) -> coordinates (b, s, p)."""
    turning_point: Callable[[Array], Array] | None = None
    """Coordinates (b, p) -> ln x of the curve's extremum (b,), for laws that have one."""
    x_columns: int = 1

    @property
    def needs_positive_y(self) -> bool:
        return self.log_residuals

    def value(self, parameters: Mapping[str, float], x: npt.ArrayLike) -> Array:
        """The law's y at sizes x (n,), or (k, n) for a law of several columns; parameters as the formula names them."""
        sizes = np.asarray(x, dtype=np.float64)
        z = np.log(sizes if sizes.ndim == 2 else sizes.reshape(1, -1))
        value: Array = self.curve(self.coordinates(parameters)[None], z[:, None, :])[0][0]
        return value

    def coordinates(self, parameters: Mapping[str, float]) -> Array:
        """Parameters (p,) as coordinates."""
        values = [parameters[name] for name in self.parameters]
        pairs = zip(self.parameters, values, strict=True)
        return np.array([math.log(value) if name in self.positive else value for name, value in pairs])

    def limits(self) -> tuple[Array, Array]:
        """Lower and upper limits of the coordinates, each (p,)."""
        pairs = [self.bounds.get(name, (-math.inf, math.inf)) for name in self.parameters]
        return np.array([low for low, _ in pairs]), np.array([high for _, high in pairs])

    def from_unit(self, center: float) -> Array:
        """The matrix (p, p) that takes coordinates fitted in z - center to those in z."""
        matrix = np.eye(len(self.parameters))
        for scale, exponent in self.powers.items():
            matrix[self.parameters.index(scale), self.parameters.index(exponent)] = center
        return matrix


def law_named(name: str) -> Law:
    """The law of a name; ``UsageError`` lists the names there are."""
    if name not in LAWS:
        raise UsageError("no such law", given=name, allowed=one_of(LAWS, name))
    return LAWS[name]


def _stack(*derivatives: Array) -> Array:
    return np.stack(np.broadcast_arrays(*derivatives), axis=-1)


def _power(coordinates: Array, z: Array) -> tuple[Array, Array]:
    """scale x^-exponent; coordinates (ln scale, exponent)."""
    value = np.exp(coordinates[:, :1] - coordinates[:, 1:2] * z[0])
    return value, _stack(value, -z[0] * value)


def _polynomial(coordinates: Array, z: Array) -> tuple[Array, Array]:
    """intercept + slope log2 x + ..., as many terms as there are coordinates."""
    octaves = z[0] / math.log(2)
    terms = [octaves**degree for degree in range(coordinates.shape[1])]
    value = sum((coordinates[:, degree : degree + 1] * term for degree, term in enumerate(terms)), np.zeros((1, 1)))
    return value, _stack(*(np.broadcast_to(term, value.shape) for term in terms))


def _offset_power(sign: float) -> Curve:
    """level + sign * scale x^-exponent; coordinates (level, ln scale, exponent)."""

    def curve(coordinates: Array, z: Array) -> tuple[Array, Array]:
        part = sign * np.exp(coordinates[:, 1:2] - coordinates[:, 2:3] * z[0])
        return coordinates[:, :1] + part, _stack(np.ones_like(part), part, -z[0] * part)

    return curve


# Decay of the power's part over the whole span of ln x: from a straight line to gone after the first points.
_DECAYS = np.geomspace(1e-3, 60.0, 40)


def _offset_power_starts(sign: float) -> Callable[[Array, Array], Array]:
    """One start per decay: for a given exponent, level and scale are linear and follow in closed form.

    A floor is at least zero, and is sought among relative errors, as those of a log law are.
    """

    def starts(z: Array, y: Array) -> Array:
        rates = _DECAYS / max(float(np.ptp(z)), 1e-9)
        part = sign * np.exp(-rates[None, :, None] * z[0])  # (1, s, n)
        weight = (1 / y**2 if sign > 0 else np.ones_like(y))[:, None, :]
        weight = weight / weight.sum(axis=2, keepdims=True)
        y_mean, part_mean = (weight * y[:, None, :]).sum(axis=2), (weight * part).sum(axis=2)
        part_square = (weight * part**2).sum(axis=2)
        product = (weight * part * y[:, None, :]).sum(axis=2)
        variance = part_square - part_mean**2
        scale = (product - part_mean * y_mean) / np.maximum(variance, 1e-30 * part_square)
        level = y_mean - scale * part_mean
        if sign > 0:
            scale, level = np.where(level < 0, product / part_square, scale), np.maximum(level, 0.0)
        # A curve that bends the wrong way starts as an almost constant one.
        least = 1e-6 * np.abs(y_mean / part_mean) + 1e-300
        level, scale = np.where(scale < least, y_mean, level), np.maximum(scale, least)
        return np.stack(np.broadcast_arrays(level, np.log(scale), rates), axis=-1)

    return starts


def _parabola_turn(coordinates: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):  # a straight line turns nowhere
        return np.asarray(-coordinates[:, 1] / (2 * coordinates[:, 2]) * math.log(2))


_TABLE = (
    Law("power", "y = scale x^-exponent", ("scale", "exponent"), _power, log_residuals=True, linear=True,
        positive=("scale",)),
    Law("semilog", "y = intercept + slope log2 x", ("intercept", "slope"), _polynomial, log_residuals=False,
        linear=True),
    # Residuals of ln y: the error of a loss or an FID is nearer to a share of it than to a constant, and the fit then
    # extrapolates better (Alabdulmohsin, Neyshabur and Zhai 2022). Noise may put a measured y below the floor.
    Law("power_floor", "y = floor + scale x^-exponent", ("floor", "scale", "exponent"), _offset_power(+1),
        log_residuals=True, positive=("scale",), bounds={"floor": (0.0, math.inf), "exponent": (0.0, 30.0)},
        powers={"scale": "exponent"}, starts=_offset_power_starts(+1)),
    # With an exponent below .01 three decades of x are a straight line in log x, and its ceiling is anywhere.
    Law("saturating", "y = ceiling - scale x^-exponent", ("ceiling", "scale", "exponent"), _offset_power(-1),
        log_residuals=False, positive=("scale",), bounds={"exponent": (0.01, 30.0)},
        powers={"scale": "exponent"}, starts=_offset_power_starts(-1)),
    Law("quadratic", "y = intercept + slope log2 x + curvature (log2 x)^2", ("intercept", "slope", "curvature"),
        _polynomial, log_residuals=False, linear=True, turning_point=_parabola_turn),
)  # fmt: skip

LAWS: dict[str, Law] = {law.name: law for law in _TABLE}
