"""Bootstraps: refits of resampled points, and intervals from them.

What is resampled are units: configurations, or whole runs where several rows are checkpoints of one run, for these err
together and are worth little more than one row. Seeds stay with their configuration: resampling them as well would
count their noise twice (Davison and Hinkley 1997, section 3.8).

At small n plain percentile limits are too narrow, by the residuals' lost degrees of freedom and by Student's t against
the normal law. Residuals are therefore inflated by sqrt(n / (n - p)), and limits stretched by t / normal quantile
(Hesterberg 2015, "What teachers should know about the bootstrap", section 5). ``benchmarks/bootstrap_coverage.py``
compares kinds and limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.refits import refit
from analysis.solver import Problem, Solution
from tokscale.errors import UsageError, one_of

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Kind = Literal["pairs", "residual", "wild", "parametric"]
Values = Callable[[Array], Array]
"""Coordinates (m, p) -> quantities (m, q)."""

RESAMPLES = 999
KINDS: tuple[Kind, ...] = ("pairs", "residual", "wild", "parametric")
_WEBB = np.sqrt([0.5, 1.0, 1.5])  # with both signs: more than the 2^u patterns of signs alone (Webb 2014)
_MOST_LEVERAGE = 0.95  # a point that sets the curve alone has no residual to learn from
_REDRAWS = 100


@dataclass(frozen=True)
class Draws:
    """Refits of one data set: coordinates (r, p) of resamples, and (u, p) of the data without each unit in turn.

    ``noise`` (r,) are errors of new points of weight 1; ``without`` is there for pairs only.
    """

    kind: Kind
    best: Array
    coordinates: Array
    noise: Array
    without: Array
    freedom: int

    def limits(self, values: Values, level: float, new_point: Array | float = 0.0) -> tuple[Array, Array]:
        """Lower and upper limits (q,) of quantities of the coordinates, or of new points about them.

        Pairs: BCa limits (Efron 1987), which mend bias and skewness; new points and other kinds: percentiles about the
        estimate. All are stretched by t / normal quantile. A new point's error has ``new_point`` (one or q) times the
        variance of a residual of weight 1. NaN without degrees of freedom.
        """
        estimate = values(self.best[None])[0]
        if self.freedom < 1:
            return np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
        drawn = values(self.coordinates)
        stretch = special.stdtrit(self.freedom, 0.5 + level / 2) / special.ndtri(0.5 + level / 2)
        extra = np.asarray(new_point, dtype=np.float64)
        if self.kind == "pairs" and not extra.any():
            return bca_limits(drawn, estimate, values(self.without), level, stretch)
        drawn = drawn + np.sqrt(extra) * self.noise[:, None]
        with np.errstate(invalid="ignore"):  # a scale that may vanish has a limit at minus infinity
            low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
            return estimate + stretch * (low - estimate), estimate + stretch * (high - estimate)


def bootstrap(
    task: Problem, solution: Solution, rng: np.random.Generator, resamples: int = RESAMPLES, kind: Kind | None = None,
    units: Places | None = None,
) -> Draws:  # fmt: skip
    """Refit a law to resamples of its single data set (b = 1), from the optimum that it has.

    ``pairs`` draws units with replacement; ``residual`` adds residuals drawn from all points to the curve,
    ``parametric`` normal errors, ``wild`` each point's own residual with a random factor, one a unit. ``units`` (n,)
    are the numbers of the units that the points belong to; each its own if not given. Without ``kind``: residuals
    where every point is a unit, pairs where not. Huber's loss with a small threshold passes through some points, which
    then have no residual of their own: ``wild`` intervals are too narrow there. Raises ``UsageError`` for a kind that
    cannot hold units together.
    """
    n, p = task.target.shape[1], len(task.law.parameters)
    _, places = np.unique(np.arange(n) if units is None else units, return_inverse=True)
    count = int(places.max()) + 1
    kind = kind or ("residual" if count == n else "pairs")
    if kind not in KINDS:
        raise UsageError("no such bootstrap", given=kind, allowed=one_of(KINDS, kind))
    if count < n and kind in ("residual", "parametric"):
        raise UsageError("this bootstrap takes every point for independent", given=kind, allowed="pairs, or wild")
    best, without = solution.coordinates[0], np.empty((0, p))
    freedom = task.freedom if count == n else min(task.freedom, count - p)
    if freedom < 1:
        return Draws(kind, best, without, np.empty(0), without, freedom)
    inflated = _residuals(task, solution)[0]
    if kind == "pairs":
        found = refit(task, _unit_counts(task, rng, resamples, places), best).coordinates
        without = refit(task, 1.0 - (places == np.arange(count)[:, None]), best).coordinates
    else:
        errors = _errors(task, solution, rng, resamples, kind, places)
        target = task.model(solution.coordinates)[0] + errors
        new = replace(task, target=target, scatter=np.zeros(len(target)))
        found = refit(new, np.ones((1, n)), best).coordinates
    noise = rng.choice(inflated, size=resamples)
    return Draws(kind, best, found, noise, without, freedom)


def bca_limits(
    drawn: Array, estimate: Array, without: Array, level: float, stretch: float = 1.0
) -> tuple[Array, Array]:
    """Bias-corrected and accelerated limits (q,) from draws (r, q), estimate (q,) and jackknife values (u, q).

    ``stretch`` multiplies the normal quantile. Efron 1987, "Better bootstrap confidence intervals".
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = ((drawn < estimate).sum(axis=0) + (drawn <= estimate).sum(axis=0)) / (2 * len(drawn))
        bias = special.ndtri(np.clip(share, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
        left = without.mean(axis=0) - without
        acceleration = (left**3).sum(axis=0) / (6 * (left**2).sum(axis=0) ** 1.5)
        acceleration = np.nan_to_num(acceleration, posinf=0.0, neginf=0.0)
        z = stretch * special.ndtri(0.5 + level / 2) * np.array([[-1.0], [1.0]])
        shares = special.ndtr(bias + (bias + z) / np.maximum(1 - acceleration * (bias + z), 0.05))
    ends = [[np.quantile(drawn[:, place], share) for place, share in enumerate(side)] for side in shares]
    return np.array(ends[0]), np.array(ends[1])


def _unit_counts(task: Problem, rng: np.random.Generator, resamples: int, places: Places) -> Array:
    """How often each point is drawn (r, n); resamples with fewer different sizes than parameters are drawn again."""
    count = int(places.max()) + 1
    even = np.full(count, 1 / count)
    drawn = rng.multinomial(count, even, size=resamples)
    _, size = np.unique(task.z[:, 0], axis=1, return_inverse=True)
    of_size = np.eye(size.max() + 1)[np.ravel(size)]  # (n, different sizes)
    for _ in range(_REDRAWS):
        poor = ((drawn[:, places] @ of_size) > 0).sum(axis=1) < min(len(task.law.parameters), of_size.shape[1])
        if not poor.any():
            break
        drawn[poor] = rng.multinomial(count, even, size=int(poor.sum()))
    return drawn[:, places].astype(np.float64)


def _residuals(task: Problem, solution: Solution) -> tuple[Array, Array]:
    """Residuals in units of weight 1: centred and inflated to the variance of errors (n,), and by leverage (n,)."""
    value, slope = task.model(solution.coordinates)
    root = np.sqrt(task.weight)
    residual, slope = (task.target - value)[0] * root, slope[0] * root[:, None]
    leverage = np.einsum("np,pn->n", slope, np.linalg.pinv(slope))
    used = task.weight > 0
    inflated = np.where(used, residual - residual[used].mean(), 0.0) * np.sqrt(task.rows / task.freedom)
    # HC3 (MacKinnon and White 1985), which leans to wide intervals at small n.
    return inflated[used], residual / (1 - np.minimum(leverage, _MOST_LEVERAGE))


def _errors(
    task: Problem, solution: Solution, rng: np.random.Generator, resamples: int, kind: Kind, places: Places
) -> Array:
    """Errors (r, n) for the curve, each in proportion to its point's own deviation 1 / sqrt(weight)."""
    inflated, own = _residuals(task, solution)
    shape = resamples, task.target.shape[1]
    if kind == "wild":
        factor = rng.choice(np.append(_WEBB, -_WEBB), size=(resamples, int(places.max()) + 1))
        drawn = own * factor[:, places]
    elif kind == "parametric":
        drawn = np.sqrt((inflated**2).mean()) * rng.standard_normal(shape)
    else:
        drawn = rng.choice(inflated, size=shape)
    return np.asarray(drawn / np.sqrt(np.maximum(task.weight, 1e-300)))
