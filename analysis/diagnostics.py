"""How far a fit can be trusted: goodness on the law's own scale, prediction of what it has not seen, and warnings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, spatial, special

from analysis.gathering import gathered
from analysis.laws import Law
from analysis.solver import Problem, Solution, huber_loss, problem, solve

Array = npt.NDArray[np.float64]
Held = npt.NDArray[np.bool_]

LEAST_SPAN = 1.001  # closer sizes leave a parabola in log x to rounding errors
_FEW = 3  # points beyond the number of parameters, below which an interval says little
_INFLATION = 10.0  # of a slope's variance, beyond which columns are called collinear (Belsley, Kuh and Welsch 1980)


def r_squared(task: Problem, solution: Solution) -> float | None:
    """1 - the cost of the fit / the cost of the best constant, on the scale of the residuals; None where y is constant.

    For least squares that is 1 - RSS / TSS.
    """
    target, weight = task.target[0], task.weight
    if task.delta is None:
        middle = float(np.average(target, weights=weight))
        total = float((weight * (target - middle) ** 2).sum() + task.scatter[0])
    else:
        delta, ends = task.delta, (float(target.min()), float(target.max()))
        best = optimize.minimize_scalar(
            lambda level: float((weight * huber_loss(target - level, delta)).sum()), bounds=ends, method="bounded",
            options={"xatol": 1e-10 * (ends[1] - ends[0]) or 1e-300},
        )  # fmt: skip
        middle, total = float(best.x), float(best.fun)
    # A constant y leaves rounding errors, not zero.
    if np.ptp(target) <= 1e-12 * np.sqrt(task.magnitude) or total <= 0:
        return None
    return 1 - float(solution.cost[0]) / total


def aicc(task: Problem, solution: Solution, y: Array, weight: Array | None = None) -> float | None:
    """Akaike's criterion with the small-sample correction (Hurvich and Tsai 1989); None with too few points for it.

    Normal errors of the residuals' scale, their variance divided by the points' ``weight`` (n,); with Huber's loss the
    errors whose likelihood it maximises, normal in the middle and Laplace's in the tails. For a log law the density is
    taken back to y (+ 2 sum ln y), so that laws of both scales can be compared on the same points.
    """
    n, k = task.rows, len(task.law.parameters) + 1
    if n - k - 1 < 1:
        return None
    cost = max(float(solution.cost[0]), n * 1e-30 * task.magnitude)
    if task.delta is None:
        deviance = n * (np.log(2 * np.pi * cost / n) + 1)
        deviance -= 0.0 if weight is None else np.log(weight).sum()
    else:
        deviance = _huber_deviance(cost, task.weight, task.delta)
    if task.law.log_residuals:
        deviance += 2 * np.log(y).sum()
    return float(deviance + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def _huber_deviance(cost: float, weight: Array, delta: float) -> float:
    """-2 ln likelihood of errors with the density exp(-w rho(r) / phi) / Z, at its best dispersion phi.

    Z is the integral of the density's top: a normal one within delta and an exponential tail on each side.
    """

    def deviance(log_phi: float) -> float:
        phi = np.exp(log_phi) / weight
        edge = delta / np.sqrt(2 * phi)
        tails = 2 * phi / delta * np.exp(-(edge**2))
        return float(2 * np.log(np.sqrt(2 * np.pi * phi) * special.erf(edge) + tails).sum() + cost * np.exp(-log_phi))

    # phi is cost / n for normal errors and half of that for Laplace's; between them it lies between.
    middle = np.log(cost / len(weight))
    found = optimize.minimize_scalar(deviance, bounds=(middle - 1.0, middle + 0.3), method="bounded")
    return float(found.fun)


def holdout_errors(
    law: Law, x: Array, y: Array, weight: Array | None = None, delta: float | None = None
) -> tuple[float | None, float | None]:
    """Root mean squares of ln(predicted / measured) at the largest sizes: of a fit to all others, and of the null.

    The points at the largest size of a column, in every group, are held out and predicted by the law fitted to the
    others; of several columns each is held out in its turn, and counts alike. The null repeats the value at the next
    size: that of the nearest point left, in ln x over the span of each column, which in a grid of sizes is the point
    of the next size and otherwise equal ones. None where a column's remaining points cannot carry the law for any
    column, and where a logarithm does not exist.
    """
    squares = []
    for column in range(law.x_columns):
        held = _largest(law, x, column)
        if lacks(law, x[:, ~held]) is not None:
            continue
        task = gathered(problem(law, x[:, ~held], y[None, ~held], None if weight is None else weight[~held], delta))
        z = law.z(x[:, held]) - task.center
        predicted = law.curve(solve(task).coordinates, z[:, None, :])[0][0]
        if not ((predicted > 0).all() and (y > 0).all()):
            return None, None
        repeated = _nearest_others(law, x, np.log(y), held)
        squares.append([np.mean((guess - np.log(y[held])) ** 2) for guess in (np.log(predicted), repeated)])
    if not squares:
        return None, None
    law_error, null_error = np.sqrt(np.mean(squares, axis=0))
    return float(law_error), float(null_error)


def _largest(law: Law, x: Array, column: int) -> Held:
    """Which points are at the largest size of a column, within their group."""
    if not law.groups:
        return np.asarray(x[column] == x[column].max())
    most = pd.Series(x[column]).groupby(x[-1]).transform("max").to_numpy()
    return np.asarray(x[column] == most)


def _nearest_others(law: Law, x: Array, values: Array, held: Held) -> Array:
    """The mean value at the nearest sizes that are not held, for each held point, within its group."""
    z = np.log(x[: law.x_columns])
    places = (z / np.maximum(np.ptp(z, axis=1, keepdims=True), 1e-300)).T
    if law.groups:
        # Groups stand so far apart that the nearest point is always one of the same group, where there is one.
        places = np.append(places, 1e3 * x[-1:].T, axis=1)
    kept = pd.DataFrame(places[~held])
    means = pd.Series(values[~held]).groupby([kept[name] for name in kept], sort=False).mean()
    sites = np.array(means.index.to_frame(index=False), dtype=np.float64)
    return np.asarray(means.to_numpy()[spatial.KDTree(sites).query(places[held])[1]])


def lacks(law: Law, x: Array) -> str | None:
    """What different sizes x (k, n) lack to carry a law, in words; None where nothing is missing."""
    if not x.shape[1]:
        return "no points"
    needed, distinct = len(law.parameters), _distinct(x)
    if distinct < needed:
        return f"{distinct} different"
    if (x[: law.x_columns].max(axis=1) < LEAST_SPAN * x[: law.x_columns].min(axis=1)).any():
        return "sizes that hardly vary"
    for group in range(law.groups):
        own = sum(name.endswith(f"[{group}]") for name in law.parameters)
        if (found := _distinct(x[:, x[-1] == group])) < own:
            return f"{found} different in a group with {own} parameters of its own"
    return None


def _distinct(x: Array) -> int:
    return len(pd.DataFrame(x.T).drop_duplicates())


def warnings_of(
    task: Problem, solution: Solution, x: Array, names: Sequence[str], called: Callable[[str], str] = str
) -> list[str]:
    """What a reader should know before trusting the fit.

    ``names`` are the x columns and the y column, ``called`` says a parameter's name to people.
    """
    law, found = task.law, []
    spare = task.rows - len(law.parameters)
    if spare < 1:
        found.append(f"{task.rows} points for {len(law.parameters)} parameters: the curve passes through all, "
                     "and there are no intervals")  # fmt: skip
    elif spare < _FEW:
        found.append(f"only {task.rows} points for the {len(law.parameters)} parameters of {law.name}")
    for name, sizes in zip(names, x[: law.x_columns], strict=False):
        ratio = sizes.max() / sizes.min()
        if ratio < 10:
            found.append(f"{name} spans a factor {ratio:.3g}, less than a decade")
    if r_squared(task, solution) is None:
        found.append(f"{names[-1]} does not vary")
    return found + _collinear(x[: law.x_columns], names) + _at_limits(task, solution, called)


def _collinear(x: Array, names: Sequence[str]) -> list[str]:
    """Columns whose logarithms follow one another, pair by pair, or all others together.

    Encoder and decoder that grow together carry no evidence of which of them it was.
    """
    if len(x) < 2:
        return []
    correlation = np.corrcoef(np.log(x))
    found, told = [], set()
    for first in range(len(x)):
        for second in range(first + 1, len(x)):
            if 1 - correlation[first, second] ** 2 < 1 / _INFLATION:
                found.append(f"{names[first]} and {names[second]} change together (correlation "
                             f"{correlation[first, second]:.3f} of their logarithms): their parts cannot be told apart "
                             "well, and extrapolation holds only along their common line")  # fmt: skip
                told |= {first, second}
    for place in range(len(x) if len(x) > 2 else 0):
        others = np.delete(np.arange(len(x)), place)
        inside = correlation[np.ix_(others, others)]
        explained = correlation[place, others] @ np.linalg.pinv(inside) @ correlation[others, place]
        if place not in told and explained > 1 - 1 / _INFLATION:
            found.append(f"{names[place]} follows from the other columns (R2 {explained:.3f} of their logarithms): "
                         "its part cannot be told apart well")  # fmt: skip
    return found


def _at_limits(task: Problem, solution: Solution, called: Callable[[str], str]) -> list[str]:
    low, high = task.law.limits()
    found = []
    for name, value, least, most in zip(task.law.parameters, solution.coordinates[0], low, high, strict=True):
        if name.partition("[")[0] != "floor" and (value <= least or value >= most):
            limit = np.exp(value) if name in task.law.positive else value
            found.append(f"{called(name)} is at its limit {limit:.4g}: the law does not describe these points")
    return found
