"""Laws at fixed points, as Newton's method sees them: values, and sums over points of their two derivatives.

All is on the scale of the residuals. Here n is points, p coordinates, t exponentials of a law; the first axis b is
"which problem", as in ``solver``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from analysis.laws import Terms

if TYPE_CHECKING:
    from analysis.solver import Problem

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class Curve(Protocol):
    """A law at fixed points on the scale of its residuals: what the method asks of it."""

    @property
    def log(self) -> bool:
        """Whether residuals are those of ln y."""

    def at(self, coordinates: Array) -> tuple[Array, Array]:
        """Coordinates (b, p) -> values (b, n) and whatever the sums below need of them, first axis b."""

    def slopes(self, parts: Array, weight: Array) -> Array:
        """Sum over points of weight (b, n) times gradient: (b, p)."""

    def along(self, parts: Array, move: Array) -> Array:
        """Gradient of each point times a move (b, p): (b, n)."""

    def curvature(self, coordinates: Array, parts: Array, square: Array, bend: Array) -> Array:
        """Sum of ``square`` (b, n) times gradient gradient' and ``bend`` (b, n) times Hessian: (b, p, p)."""


class SumCurve:
    """A law that is linear terms and exponentials: all sums over points are products with fixed matrices.

    The gradient is a combination of t + 1 fixed vectors a point, so each pair of them needs one product with the
    entries of their outer product that are not zero, and no array (b, n, p) is ever made.
    """

    def __init__(self, terms: Terms, log_residuals: bool):
        self.log = log_residuals
        self.signs = terms.signs
        self.basis = [np.ascontiguousarray(part) for part in (terms.linear, *terms.exponents)]  # each (n, p)
        self.size = terms.linear.shape[1]
        self.pairs: list[tuple[int, int, Rows, Array]] = []
        for i, one in enumerate(self.basis):
            for j, other in enumerate(self.basis[i:], i):
                products = one[:, :, None] * other[:, None, :]
                products = products if i == j else products + np.swapaxes(products, 1, 2)
                flat = products.reshape(len(one), -1)
                entries = np.flatnonzero((flat != 0).any(axis=0))
                if len(entries):
                    self.pairs.append((i, j, entries, np.ascontiguousarray(flat[:, entries])))

    def at(self, coordinates: Array) -> tuple[Array, Array]:
        parts = np.empty((len(self.basis), len(coordinates), len(self.basis[0])))
        value = coordinates @ self.basis[0].T
        for place, (sign, form) in enumerate(zip(self.signs, self.basis[1:], strict=True), 1):
            np.exp(coordinates @ form.T, out=parts[place])
            parts[place] *= sign
            value += parts[place]
        parts[0] = 1.0
        if self.log:
            parts /= value
            np.log(value, out=value)
        return value, parts.transpose(1, 0, 2)

    def slopes(self, parts: Array, weight: Array) -> Array:
        total = np.zeros((len(weight), self.size))
        for place, form in enumerate(self.basis):
            total += (weight * parts[:, place]) @ form
        return total

    def along(self, parts: Array, move: Array) -> Array:
        total = np.zeros((len(parts), parts.shape[2]))
        for place, form in enumerate(self.basis):
            total += parts[:, place] * (move @ form.T)
        return total

    def curvature(self, coordinates: Array, parts: Array, square: Array, bend: Array) -> Array:
        if self.log:  # the Hessian of ln v is v''/v - v'v''/v^2
            square = square - bend
        total = np.zeros((len(square), self.size**2))
        weighted = {i: square * parts[:, i] for i in {i for i, *_ in self.pairs}}
        for i, j, entries, products in self.pairs:
            share = weighted[i] * parts[:, j]
            if i == j and i > 0:
                share += bend * parts[:, i]
            total[:, entries] += share @ products
        return total.reshape(-1, self.size, self.size)


@dataclass(frozen=True)
class FreeCurve:
    """Any other law, through its curve and bend."""

    task: Problem

    @property
    def log(self) -> bool:
        return self.task.law.log_residuals

    def at(self, coordinates: Array) -> tuple[Array, Array]:
        return self.task.model(coordinates)

    def slopes(self, parts: Array, weight: Array) -> Array:
        return np.asarray((weight[:, None, :] @ parts)[:, 0])

    def along(self, parts: Array, move: Array) -> Array:
        return np.asarray((parts @ move[:, :, None])[..., 0])

    def curvature(self, coordinates: Array, parts: Array, square: Array, bend: Array) -> Array:
        outer = np.swapaxes(parts * square[..., None], 1, 2) @ parts
        return np.asarray(outer + np.einsum("bn,bnpq->bpq", bend, self.task.bend(coordinates)))


def curve_of(task: Problem) -> Curve:
    """The law of a problem at its points."""
    if task.law.terms is None:
        return FreeCurve(task)
    return SumCurve(task.law.terms(task.z[:, 0]), task.law.log_residuals)
