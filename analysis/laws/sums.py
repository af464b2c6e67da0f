"""Laws that are a level and powers of x: one value, gradient and Hessian for all of them, and one way to start."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.laws.law import Array, Law, Power, Terms
from analysis.laws.starts import profile_moves, profile_starts


def sum_law(
    name: str, formula: str, level: str, powers: tuple[Power, ...], *,
    log_residuals: bool, least_exponent: float = 0.0, turning_point: Callable[[Array], Array] | None = None,
) -> Law:  # fmt: skip
    """The law y = level + sum of sign scale x^(direction exponent), in coordinates (level, ln scale, exponent, ...).

    With residuals of ln y every part is at least zero, the level too.
    """
    parameters = (level, *(name for power in powers for name in (power.scale, power.exponent)))
    exponents = {power.exponent: (least_exponent, 30.0) for power in powers}
    terms = PowerTerms(parameters, powers)
    return Law(
        name, formula, parameters, terms.curve, bend_of(terms), log_residuals,
        positive=tuple(power.scale for power in powers),
        bounds={**({level: (0.0, math.inf)} if log_residuals else {}), **exponents},
        powers=powers,
        separable=(level, *(power.scale for power in powers)),
        starts=profile_starts(powers, log_residuals, least_exponent),
        moves=profile_moves(powers, least_exponent) if len(powers) > 1 else None,
        turning_point=turning_point,
        x_columns=1 + max(power.column for power in powers),
        terms=terms,
    )  # fmt: skip


@dataclass(frozen=True)
class PowerTerms:
    """The terms of a level and powers at z (k, ..., n)."""

    parameters: tuple[str, ...]
    powers: tuple[Power, ...]

    def __call__(self, z: Array) -> Terms:
        linear = np.zeros((*z.shape[1:], len(self.parameters)))
        linear[..., 0] = 1.0
        exponents = np.zeros((len(self.powers), *linear.shape))
        for place, power in enumerate(self.powers):
            exponents[place, ..., 1 + 2 * place] = 1.0
            exponents[place, ..., 2 + 2 * place] = power.direction * z[power.column]
        return Terms(linear, exponents, np.array([float(power.sign) for power in self.powers]))

    def curve(self, coordinates: Array, z: Array) -> tuple[Array, Array]:
        """What ``curve_of`` gives, without the entries of the terms that are zero."""
        slope = np.empty((len(coordinates), z.shape[-1], len(self.parameters)))
        slope[..., 0] = 1.0
        value = coordinates[:, :1]
        for place, power in enumerate(self.powers):
            towards = power.direction * z[power.column]
            part = np.exp(coordinates[:, 1 + 2 * place, None] + coordinates[:, 2 + 2 * place, None] * towards)
            part = part if power.sign > 0 else -part
            value = value + part
            slope[..., 1 + 2 * place] = part
            slope[..., 2 + 2 * place] = part * towards
        return value, slope


def curve_of(terms: Callable[[Array], Terms]) -> Callable[[Array, Array], tuple[Array, Array]]:
    """The curve with its gradient: psi + sum_t sign_t exp(phi_t c) phi_t."""

    def curve(coordinates: Array, z: Array) -> tuple[Array, Array]:
        parts = terms(z)
        value = _dot(parts.linear, coordinates)
        slope = np.broadcast_to(parts.linear, (*value.shape, coordinates.shape[1])).copy()
        for sign, exponents in zip(parts.signs, parts.exponents, strict=True):
            power = sign * np.exp(_dot(exponents, coordinates))
            value = value + power
            slope += power[..., None] * exponents
        return value, slope

    return curve


def bend_of(terms: Callable[[Array], Terms]) -> Callable[[Array, Array], Array]:
    """The Hessian of the curve: sum_t sign_t exp(phi_t c) phi_t phi_t'."""

    def bend(coordinates: Array, z: Array) -> Array:
        parts = terms(z)
        b, p = coordinates.shape
        found = np.zeros((b, z.shape[-1], p, p))
        for sign, exponents in zip(parts.signs, parts.exponents, strict=True):
            power = sign * np.exp(_dot(exponents, coordinates))
            found += power[..., None, None] * (exponents[..., :, None] * exponents[..., None, :])
        return found

    return bend


def _dot(forms: Array, coordinates: Array) -> Array:
    """Linear forms (b or 1, n, p) of coordinates (b, p): (b, n)."""
    if len(forms) == 1:
        return np.asarray(coordinates @ forms[0].T)
    return np.asarray((forms @ coordinates[:, :, None])[..., 0])


def valley_turn(coordinates: Array) -> Array:
    """Where falling and rising part balance: exponent scale e^(-exponent z) = rise_exponent rise_scale e^(...)."""
    _, scale, exponent, rise_scale, rise_exponent = coordinates.T
    with np.errstate(divide="ignore", invalid="ignore"):  # a part without exponent turns nowhere
        turn: Array = (np.log(exponent) + scale - np.log(rise_exponent) - rise_scale) / (exponent + rise_exponent)
    return turn
