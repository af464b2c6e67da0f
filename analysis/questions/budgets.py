"""How a budget follows from two sizes: as their weighted sum (parameters) or as a product of powers (6 N D)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize

from tokscale.errors import TableError

Array = npt.NDArray[np.float64]
_CLOSE = 0.05
_ROUNDS = 12


@dataclass(frozen=True)
class Budget:
    """budget = constant + a x_1 + b x_2 (``sum``), or constant x_1^a x_2^b (``product``), off by ``error`` at most."""

    form: Literal["sum", "product"]
    weights: tuple[float, float]
    constant: float
    error: float

    def second(self, first: Array, budget: Array) -> Array:
        """ln x_2 that spends a budget beside ln x_1; not finite where x_1 alone exceeds it."""
        a, b = self.weights
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.form == "product":
                return np.asarray((np.log(budget / self.constant) - a * first) / b)
            return np.asarray(np.log((budget - self.constant - a * np.exp(first)) / b))

    def first_ends(self, low: Array, high: Array, budget: Array) -> tuple[Array, Array]:
        """The ends (m,) of ln x_1 between which both sizes lie from ``low`` (2,) to ``high`` (2,), in logarithms."""
        swapped = Budget(self.form, (self.weights[1], self.weights[0]), self.constant, self.error)
        least, most = (swapped.second(np.full_like(budget, side), budget) for side in (high[1], low[1]))
        return np.fmax(least, low[0]), np.fmin(most, high[0])

    def best(self, gains: Array, exponents: Array, budget: Array) -> Array:
        """ln x_1 (m,) at which scale_1 x_1^-exponent_1 + scale_2 x_2^-exponent_2 is least on each budget (m,).

        ``gains`` (2, m) are ln (scale exponent). Along a budget the sum is convex in the logarithms: its slope has one
        zero, in closed form for a product, else by Newton's steps in the logit of the share that x_1 takes.
        """
        a, b = self.weights
        if self.form == "product":
            level = np.log(budget / self.constant) / b
            return np.asarray((gains[0] - gains[1] - math.log(a / b) + exponents[1] * level)
                              / (exponents[0] + exponents[1] * a / b))  # fmt: skip
        tops = [np.log((budget - self.constant) / weight) for weight in (a, b)]
        logit = np.zeros_like(budget)
        for _ in range(_ROUNDS):
            first, second = tops[0] - np.logaddexp(0, -logit), tops[1] - np.logaddexp(0, logit)
            more = gains[0] - gains[1] - (1 + exponents[0]) * first + (1 + exponents[1]) * second - math.log(a / b)
            share = np.exp(-np.logaddexp(0, -logit))
            logit += more / ((1 + exponents[0]) * (1 - share) + (1 + exponents[1]) * share)
        return np.asarray(tops[0] - np.logaddexp(0, -logit))


def budget_of(sizes: Array, budget: Array, names: Sequence[str], name: str) -> Budget:
    """The form of a budget (n,) in two sizes (2, n), whichever is nearer; ``TableError`` if it is none within 5 %."""
    scale = np.append(sizes.max(axis=1), budget.max())
    design = np.stack([*(sizes / scale[:2, None]), np.ones_like(budget)], axis=1) / (budget / scale[2])[:, None]
    a, b, constant = optimize.nnls(design, np.ones_like(budget))[0] * scale[2] / np.append(scale[:2], 1.0)
    found = [Budget("sum", (a, b), constant, _error(a * sizes[0] + b * sizes[1] + constant, budget))]
    logs = np.stack([*np.log(sizes), np.ones_like(budget)], axis=1)
    powers = np.linalg.lstsq(logs, np.log(budget), rcond=None)[0]
    product = Budget("product", (powers[0], powers[1]), float(np.exp(powers[2])),
                     _error(np.exp(logs @ powers), budget))  # fmt: skip
    found = [one for one in (*found, product) if min(one.weights) > 1e-6 * max(one.weights)]
    best = min(found, key=lambda one: one.error, default=None)
    if best is None or best.error > _CLOSE:
        raise TableError(
            f"{name} is no function of {' and '.join(names)}",
            given="neither their weighted sum nor a product of their powers" + ("" if best is None else
            f": off by {100 * best.error:.0f} %"), allowed="the two sizes that it is spent on; equal other settings",
        )  # fmt: skip
    return best


def _error(predicted: Array, budget: Array) -> float:
    return float(np.abs(predicted / budget - 1).max())
