"""How far a fit can be trusted: goodness on the law's own scale, prediction of what it has not seen, and warnings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.laws import Law
from analysis.solver import Problem, Solution, problem, solve

Array = npt.NDArray[np.float64]

_FEW = 3  # points beyond the number of parameters, below which an interval says little
_NAMED_OUTLIERS = 3


def r_squared(task: Problem, solution: Solution) -> float | None:
    """1 - RSS / TSS on the scale of the residuals; None where y does not vary."""
    mean = np.average(task.target[0], weights=task.weight)
    total = float((task.weight * (task.target[0] - mean) ** 2).sum() + task.scatter[0])
    # A constant y leaves rounding errors, not zero.
    if total <= 1e-24 * task.rows * (1 + float(mean) ** 2):
        return None
    return 1 - float(solution.cost[0]) / total


def aicc(task: Problem, solution: Solution, y: Array) -> float | None:
    """Akaike's criterion with the small-sample correction (Hurvich and Tsai 1989); None with too few points for it.

    Normal errors of the residuals' scale; for a log law the density is taken back to y (+ 2 sum ln y), so that laws of
    both scales can be compared on the same points.
    """
    n, k = task.rows, len(task.law.parameters) + 1
    if n - k - 1 < 1:
        return None
    least = n * 1e-30 * (1 + float((task.target**2).mean()))
    deviance = n * (np.log(2 * np.pi * max(float(solution.cost[0]), least) / n) + 1)
    if task.law.log_residuals:
        deviance += 2 * np.log(y).sum()
    return float(deviance + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def holdout_rmsle(law: Law, x: Array, y: Array) -> float | None:
    """Root mean square of ln(predicted / measured) at the largest x, by a fit to all the others.

    None for several x columns, where too few points would be left, and where a logarithm does not exist.
    """
    held = x[0] == x[0].max()
    if len(x) > 1 or len(pd.unique(x[0][~held])) < len(law.parameters):
        return None
    task = problem(law, x[:, ~held], y[None, ~held])
    z = np.log(x[:, held]) - task.center
    predicted = law.curve(solve(task).coordinates, z[:, None, :])[0][0]
    if (predicted <= 0).any() or (y[held] <= 0).any():
        return None
    return float(np.sqrt(np.mean((np.log(predicted) - np.log(y[held])) ** 2)))


def warnings_of(task: Problem, solution: Solution, x: Array, y: Array, names: Sequence[str], level: float) -> list[str]:
    """What a reader should know before trusting the fit; ``names`` are the x columns and the y column."""
    law, found = task.law, []
    spare = task.rows - len(law.parameters)
    if spare < 1:
        found.append(f"{task.rows} points for {len(law.parameters)} parameters: the curve passes through all, "
                     "and there are no intervals")  # fmt: skip
    elif spare < _FEW:
        found.append(f"only {task.rows} points for the {len(law.parameters)} parameters of {law.name}")
    for name, sizes in zip(names, x, strict=False):
        ratio = sizes.max() / sizes.min()
        if ratio < 10:
            found.append(f"{name} spans a factor {ratio:.3g}, less than a decade")
    if r_squared(task, solution) is None:
        found.append(f"{names[-1]} does not vary")
    return found + _at_limits(task, solution) + _outliers(task, solution, x, y, names, level)


def _at_limits(task: Problem, solution: Solution) -> list[str]:
    low, high = task.law.limits()
    found = []
    for name, value, least, most in zip(task.law.parameters, solution.coordinates[0], low, high, strict=True):
        if name != "floor" and (value <= least or value >= most):
            found.append(f"{name} is at its limit {value:g}: the law does not describe these points")
    return found


def _outliers(
    task: Problem, solution: Solution, x: Array, y: Array, names: Sequence[str], level: float
) -> list[str]:  # fmt: skip
    """Points without which a parameter would leave its interval of the fit to the others, worst first.

    Leaving a point out in closed form (Belsley, Kuh and Welsch 1980): exact for linear laws, one Gauss-Newton step for
    others. The interval is that of the fit without the point, because a gross error widens its own.
    """
    if task.freedom < 2 or len(task.weight) < task.rows:
        return []
    shifts, widths = _leave_one_out(task, solution, level)
    values = task.law.from_unit(task.center) @ solution.coordinates[0]
    excess = np.abs(shifts) / (widths + 1e-9 * (1e-3 + np.abs(values)))
    worst = excess.max(axis=1)
    found = []
    for row in np.argsort(-worst)[:_NAMED_OUTLIERS]:
        if worst[row] <= 1:
            break
        place = int(excess[row].argmax())
        name = task.law.parameters[place]
        before, after = values[place] - shifts[row, place], values[place]
        if name in task.law.positive:
            with np.errstate(over="ignore"):
                before, after = np.exp([before, after])
        sizes = ", ".join(f"{column} = {size:g}" for column, size in zip(names, x[:, row], strict=False))
        found.append(f"the point {names[-1]} = {y[row]:.4g} at {sizes} moves {name} from {before:.4g} to {after:.4g}, "
                     "out of its interval without that point")  # fmt: skip
    if (more := int((worst > 1).sum()) - len(found)) > 0:
        found.append(f"{more} more points move a parameter out of its interval without them")
    return found


def _leave_one_out(task: Problem, solution: Solution, level: float) -> tuple[Array, Array]:
    """What each point moves each parameter by, and the half-widths without it, both (n, p), as the formula's names."""
    low, high = task.law.limits()
    free = (solution.coordinates[0] > low) & (solution.coordinates[0] < high)
    values, slopes = task.model(solution.coordinates)
    jacobian, residual = slopes[0][:, free], (task.target - values)[0]
    inverse = np.linalg.pinv(jacobian.T @ jacobian, hermitian=True, rcond=1e-13)
    toward = jacobian @ inverse  # (n, p): row i is (J'J)^-1 j_i
    kept = np.maximum(1 - (toward * jacobian).sum(axis=1), 1e-9)
    shift = toward * (residual / kept)[:, None]
    freedom = task.freedom - 1
    variance = np.maximum(solution.cost[0] - residual**2 / kept, 0.0) / freedom
    natural = task.law.from_unit(task.center)[:, free]
    spread = np.diag(natural @ inverse @ natural.T) + (toward @ natural.T) ** 2 / kept[:, None]
    half = special.stdtrit(freedom, 0.5 + level / 2) * np.sqrt(variance[:, None] * spread)
    return shift @ natural.T, half
