"""How far a law errs beyond the largest size because its form is not the truth: measured, not assumed.

Intervals of a fit speak of the law as if it were true, and cover far less than they say on real curves. The remedy is
to look back: fit the law up to an earlier size, foretell what came, and compare the errors with those that a true law
would make. What they have too much is an error of the form, and grows with the distance in ln x: the curve that comes
leaves the law at some angle, so its standard error is a rate times that distance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.hindcast import Refits, dependence, origins, refit
from analysis.solver import Problem, Solution

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

HORIZON = 1 / 6  # of the span of ln x: how far beyond an origin errors are looked at, the middle of the origins
CHANCE = 1.5
"""The errors that a law may make by chance, in units of their expected squares, before its form is blamed.

Errors at a few origins come from the same few points: half of all true laws exceed 1, one in five exceeds 1.5. With 1,
intervals of true laws at six to thirty points would cover up to 97.7 % for nominal 95 %. Chance is no excuse where
residuals follow one another: there they are not noise, and the law is seen not to hold.
"""


@dataclass(frozen=True)
class ModelForm:
    """The error of a law's form beyond the measured sizes, on the scale of the law's residuals.

    ``rate`` is its standard error for each unit of ln x beyond ``edge`` (k, g): ln of the largest size of each of k
    columns, in each of g groups. For a law of log residuals that is a relative error, for others one in units of y.
    """

    rate: float
    edge: Array
    origins: int
    """From how many sizes it was looked back; with none the rate is 0, and nothing is known of the form."""

    def deviation(self, z: Array) -> Array:
        """Its standard error (m,) at places z (k, m) in ln x (with a last row of group numbers, if there are groups).

        Zero within the measured sizes; of several columns that lie beyond, the distances count as one, by Pythagoras.
        """
        columns = len(self.edge)
        group = z[columns].astype(np.int64) if len(z) > columns else np.zeros(z.shape[1], dtype=np.int64)
        beyond = np.maximum(z[:columns] - self.edge[:, group], 0.0)
        return np.asarray(self.rate * np.sqrt((beyond**2).sum(axis=0)))


def model_form(task: Problem, solution: Solution) -> ModelForm:
    """The error of the form of a fitted law, from its rolling-origin errors; for a single data set (b = 1).

    A prediction interval adds ``form.deviation(z) ** 2`` to the variance of the curve and of one more run. It is zero
    where the law's own intervals held what came, so that a true law is not widened.
    """
    z = task.z[:, 0, :] + task.center
    columns = task.law.x_columns
    group = z[columns].astype(np.int64) if task.law.groups else np.zeros(z.shape[1], dtype=np.int64)
    edge = np.array([[row[group == number].max() for number in range(max(task.law.groups, 1))] for row in z[:columns]])
    parts, ahead, distance = _looks_back(z[:columns] - edge[:, group], group, task)
    if not len(parts) or task.freedom < 1:
        return ModelForm(0.0, edge, 0)
    found = refit(task, parts, start=solution.coordinates[0])
    error, allowed = _errors(task, solution, found, z)
    excuse = CHANCE * (1 - _dependence(task, solution, z, group))
    return ModelForm(form_rate(error, excuse * allowed, distance, ahead), edge, len(parts))


def form_rate(error: Array, allowed: Array, distance: Array, ahead: Mask) -> float:
    """The rate r of errors (o, n) that exceed the variances allowed (o, n): error^2 = allowed + r^2 distance^2.

    At the points ``ahead`` (o, n) of each origin; each origin counts alike, however many points lie ahead of it.
    """

    def mean(square: Array) -> Array:
        return np.asarray(np.where(ahead, square, 0.0).sum(axis=1) / ahead.sum(axis=1))

    excess = (mean(error**2) - mean(allowed)) / mean(distance**2)
    return float(np.sqrt(max(excess.mean(), 0.0)))


def within_horizon(known: Mask, z: Array) -> Mask:
    """Which points (o, n) are foretold from each origin: those near ahead of it, and at least the next ones."""
    last = np.where(known, z, -np.inf).max(axis=1, keepdims=True)
    ahead = np.where(known, np.inf, z - last)
    reach = np.maximum(HORIZON * np.ptp(z), ahead.min(axis=1, keepdims=True))
    return np.asarray(ahead <= reach * (1 + 1e-9))


def _looks_back(short: Array, group: npt.NDArray[np.int64], task: Problem) -> tuple[Mask, Mask, Array]:
    """Which points are known (o, n) and which are foretold (o, n), and how far ahead they are (o, n).

    ``short`` (k, n) is how far each size lies below the largest one of its column and group. Each column is cut in its
    turn.
    """
    parts, ahead, distance = [], [], []
    for row in short:
        for known in origins(row):
            if known.sum() <= len(task.law.parameters) or not _carried(known, group, task):
                continue
            foretold = within_horizon(known[None], row)[0]
            parts.append(known)
            ahead.append(foretold)
            distance.append(row - row[known].max())
    return np.array(parts, dtype=bool), np.array(ahead, dtype=bool), np.array(distance)


def _carried(known: Mask, group: npt.NDArray[np.int64], task: Problem) -> bool:
    """Whether every group keeps as many points as it has parameters of its own."""
    own = [sum(name.endswith(f"[{number}]") for name in task.law.parameters) for number in range(task.law.groups)]
    return all((known & (group == number)).sum() > count for number, count in enumerate(own))


def _dependence(task: Problem, solution: Solution, z: Array, group: npt.NDArray[np.int64]) -> float:
    """The probability that the residuals follow one another; several columns put points in no order."""
    if task.law.x_columns > 1:
        return 0.0
    residual = (np.sqrt(task.weight) * (task.target - task.model(solution.coordinates)[0]))[0]
    return dependence(residual[np.lexsort((z[0], group))], len(task.law.parameters))


def _errors(task: Problem, solution: Solution, found: Refits, z: Array) -> tuple[Array, Array]:
    """Errors of the refits (o, n), and the variance that a true law would give them.

    The residual variance is that of the full fit: where the law is true it knows it best, and where it is not it is
    the larger one, so that the form is blamed for what lies beyond the usual misfit only.
    """
    residual = task.target - task.model(solution.coordinates)[0]
    variance = float((task.weight * residual**2).sum() + task.scatter[0]) / task.freedom
    scale = variance / np.where(found.variance > 0, found.variance, 1.0)
    value, spread = replace(found, covariance=found.covariance * scale[:, None, None]).foretell(z)
    return task.target - value, spread + variance / np.maximum(task.weight, 1e-300)
