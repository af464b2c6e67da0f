"""Points that move a fit: those without which a parameter would leave its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.solver import Problem, Solution

Array = npt.NDArray[np.float64]

_NAMED = 3


def outliers(
    task: Problem, solution: Solution, x: Array, y: Array, names: Sequence[str], level: float,
    called: Callable[[str], str] = str,
) -> list[str]:  # fmt: skip
    """Points without which a parameter would leave its interval of the fit to the others, worst first.

    ``names`` are the x columns and the y column, ``called`` says a parameter's name to people.

    Leaving a point out in closed form (Belsley, Kuh and Welsch 1980): exact for linear laws, one Gauss-Newton step for
    others. The interval is that of the fit without the point, because a gross error widens its own. Not for Huber's
    loss, which bounds what an error can do.
    """
    if task.freedom < 2 or len(task.weight) < task.rows or task.delta is not None:
        return []
    shifts, widths = _leave_one_out(task, solution, level)
    values = task.law.from_unit(task.center) @ solution.coordinates[0]
    excess = np.abs(shifts) / (widths + 1e-9 * (1e-3 + np.abs(values)))
    worst = excess.max(axis=1)
    found = []
    for row in np.argsort(-worst)[:_NAMED]:
        if worst[row] <= 1:
            break
        place = int(excess[row].argmax())
        name = task.law.parameters[place]
        before, after = values[place] - shifts[row, place], values[place]
        if name in task.law.positive:
            with np.errstate(over="ignore"):
                before, after = np.exp([before, after])
        sizes = ", ".join(f"{column} = {x[k, row]:g}" for k, column in enumerate(names[:-1]))
        found.append(f"the point {names[-1]} = {y[row]:.4g} at {sizes} moves {called(name)} from {before:.4g} to "
                     f"{after:.4g}, out of its interval without that point")  # fmt: skip
    if (more := int((worst > 1).sum()) - len(found)) > 0:
        found.append(f"{more} more points move a parameter out of its interval without them")
    return found


def _leave_one_out(task: Problem, solution: Solution, level: float) -> tuple[Array, Array]:
    """What each point moves each parameter by, and the half-widths without it, both (n, p), as the formula's names."""
    low, high = task.law.limits()
    free = (solution.coordinates[0] > low) & (solution.coordinates[0] < high)
    values, slopes = task.model(solution.coordinates)
    root = np.sqrt(task.weight)
    jacobian, residual = slopes[0][:, free] * root[:, None], (task.target - values)[0] * root
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
