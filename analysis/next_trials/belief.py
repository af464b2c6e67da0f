"""A law's parameters as the finished trials leave them: a sample of what they may be, and what measures stray by.

A design that trusts one early fit follows it into the ditch. So the worth of a trial is averaged over a sample: the
parametric bootstrap, with the noise's own variance drawn too, and with a weak prior about the fit that keeps the sample
within reason where the points leave a parameter open (randomised maximum a posteriori: Oliver, He and Reynolds 1996;
exact for linear laws). Averaging over a sample is the pseudo-Bayesian design of Chaloner and Verdinelli (1995).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.laws import Law
from analysis.solver import Problem, Rows, minimise, problem, solve

Array = npt.NDArray[np.float64]

SAMPLE = 32
REACH = 3.0
"""a parameter may move the curve by this many spreads of the measures, before anything is known"""
_FREE = 3.0  # e^3 of a scale, 3 of an exponent: beyond, the curve is the same wherever they are
_PRIOR_FREEDOM = 1.0  # residuals of a point more, so that a curve through all points is not taken for certain
_PRIOR_ERROR = (0.05, 0.03)  # of ln y; of y, in parts of its range
_RUN_SHARE = 0.5  # of the variance, where no configuration was repeated: half is the run's, half the configuration's


@dataclass(frozen=True)
class Noise:
    """Variances of a measure around the law, on the scale of its residuals.

    ``own``: of a configuration, which all its seeds share and no further seed reduces; ``run``: of one seed around it.
    """

    own: float
    run: float


@dataclass(frozen=True)
class Belief:
    """What finished configurations say about a law: their problem, the best coordinates (p,), and a sample (s, p).

    ``root`` (p, p) is that of the prior's covariance: coordinates are ``best + root u``, with u standard normal;
    ``seeds`` (n,) are the runs of each configuration.
    """

    task: Problem
    best: Array
    sample: Array
    root: Array
    noise: Noise
    seeds: Array

    @property
    def law(self) -> Law:
        return self.task.law

    def slopes(self, z: Array, coordinates: Array) -> Array:
        """Derivatives (s, m, p), on the scale of the residuals, at places z (k, m) of the problem."""
        return np.nan_to_num(self.task.model(coordinates, z[:, None, :])[1], posinf=0.0, neginf=0.0)


def believe(
    law: Law, x: Array, y: Array, rng: np.random.Generator, *, seeds: Array | None = None,
    seed_variance: float | None = None, sample: int = SAMPLE,
) -> Belief:  # fmt: skip
    """The belief after configurations of sizes x (k, n) and measures y (n,), each the mean of ``seeds`` (n,) runs.

    ``seed_variance`` is that of single runs within configurations, on the scale of the law's residuals, where some
    were repeated.
    """
    task = problem(law, x, y[None])
    best = solve(task).coordinates[0]
    runs = np.ones(x.shape[1]) if seeds is None else seeds
    total = _variance(task, best)
    noise = _noise(total, runs, seed_variance)
    root = _root(task, best)
    drawn = _sample(task, best, root, total, rng, sample)
    return Belief(task, best, drawn, root, noise, runs)


def _variance(task: Problem, best: Array) -> float:
    """Variance of a configuration's mean around the law: of the residuals, and a little of what errors usually are."""
    error = _PRIOR_ERROR[0] if task.law.log_residuals else _PRIOR_ERROR[1] * float(np.ptp(task.target)) + 1e-12
    freedom = max(task.freedom, 0)
    rest = float(task.cost(best[None])[0]) if freedom else 0.0
    return (rest + _PRIOR_FREEDOM * error**2) / (freedom + _PRIOR_FREEDOM)


def _noise(total: float, runs: Array, seed_variance: float | None) -> Noise:
    share = float((1 / runs).mean())
    if seed_variance is None:
        run = _RUN_SHARE * total / share
        return Noise(max(total - run * share, 0.0), run)
    return Noise(max(total - seed_variance * share, 0.0), max(seed_variance, 1e-3 * total))


def _root(task: Problem, best: Array) -> Array:
    """Root of the prior's covariance: every direction moves the curve by REACH spreads of what was measured.

    In function space, so that neither units nor the zero of ln x matter: Zellner's g prior (1986). What hardly moves
    the curve, as an exponent whose scale is near zero, is held within reason.
    """
    slopes = np.nan_to_num(task.model(best[None])[1][0])
    reach = REACH * (float(task.target.std()) + 1e-9)
    held = np.array([name in task.law.positive or "exponent" in name for name in task.law.parameters])
    scale = 1 / np.maximum(np.sqrt((slopes**2).mean(axis=0)) / reach, 1e-9)
    precision = (slopes.T @ slopes / len(slopes)) / reach**2 + np.diag(held / _FREE**2)
    # In units of each coordinate, lest a small one be lost in rounding.
    unit = precision * scale[:, None] * scale + 1e-9 * np.eye(len(best))
    values, vectors = np.linalg.eigh(unit)
    return np.asarray(scale[:, None] * vectors / np.sqrt(np.maximum(values, 1e-9)))


def _sample(task: Problem, best: Array, root: Array, variance: float, rng: np.random.Generator, count: int) -> Array:
    """Coordinates (s, p): fits to the measures and to the prior, both shaken by their own errors."""
    n, p = task.target.shape[1], len(best)
    freedom = max(task.freedom, 0) + 2.0  # of the noise's own variance; two more keep its tail from filling the sample
    variances = variance * freedom / rng.chisquare(freedom, count)
    # Antithetic pairs: the sample's mean is the fit's, whatever its size.
    errors, shifts = (np.concatenate([part, -part])[:count] for part in (
        rng.standard_normal(((count + 1) // 2, n)), rng.standard_normal(((count + 1) // 2, p))))  # fmt: skip
    weight = np.append(task.weight / variances[:, None], np.ones((count, p)), axis=1)
    curve = task.target + errors * np.sqrt(variances)[:, None] / np.sqrt(task.weight)
    inverse = np.linalg.inv(root)
    target = np.append(curve, inverse @ best + shifts, axis=1)

    def model(coordinates: Array, _: Rows) -> tuple[Array, Array]:
        values, slopes = task.model(coordinates)
        prior = np.broadcast_to(inverse, (len(coordinates), p, p))
        return np.append(values, coordinates @ inverse.T, axis=1), np.append(slopes, prior, axis=1)

    start = np.repeat(best[None], count, axis=0)
    return minimise(model, target, weight, start, *task.law.limits(), tolerance=1e-8, iterations=60)[0]
