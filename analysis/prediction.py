"""Prediction intervals: where one more single run would fall, at sizes that were measured or beyond them.

Three things part the next run from the fitted curve, and their variances add up:

- the curve itself is known only so well (profile likelihood, as in ``analysis.intervals``);
- a run is not a configuration's mean: its error is that of the points plus what averaging m seeds took away,
  s^2 + sigma_seed^2 (1 - mean(1 / m));
- the law is not the truth: beyond the largest size it errs by more than its own noise, at a rate that looking back from
  the largest sizes shows (``analysis.extrapolation``). The rate is zero where the law held, so that a law which is true
  is not widened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.extrapolation import ModelForm, model_form
from analysis.intervals import Limits, curve_limits
from analysis.solver import Problem, Solution
from analysis.table import Points

if TYPE_CHECKING:
    from analysis.bootstrap import Draws
    from analysis.fitted import Fit

Array = npt.NDArray[np.float64]

FAR = 4.0  # times the largest size: farther than what is looked back at
NO_ORIGINS = "too few points to look back: the error of the law's form is not known"
_FIRST = 3  # places that a warning names


def prediction_limits(
    fit: Fit, z: Array, level: float, draws: Draws | None = None, form: ModelForm | None = None
) -> Limits:
    """Where one more single run falls at z, on the scale of the law's residuals: limits (m,).

    z (k, m) is ln x, with the group's number below it for groups that were fitted together, as ``fit.at`` gives it.
    ``form`` saves looking back again; ``draws`` are those of a bootstrap. NaN without degrees of freedom.
    """
    if fit.task.freedom < 1:
        return Limits(np.full(z.shape[1], np.nan), np.full(z.shape[1], np.nan))
    form = model_form(fit.task, fit.solution) if form is None else form
    extra = run_variance(fit.task, fit.solution, fit.points, level, form.deviation(z))
    return curve_limits(fit.task, fit.solution, z, level, extra, draws)


def cautions(fit: Fit, z: Array, form: ModelForm | None = None) -> list[str]:
    """What to know of a prediction at z (k, m) in ln x: how far from all that was measured it is."""
    found, ahead = [], False
    for name, measured, asked in zip(fit.x, np.log(fit.points.x), z, strict=False):
        room = np.log(FAR) * (1 + 1e-9)
        for far, words in ((asked > measured.max() + room, "more than {:g} times the largest size"),
                           (asked < measured.min() - room, "less than 1/{:g} of the smallest size")):  # fmt: skip
            if far.any():
                found.append(f"{places_named(name, asked[far])}: {words.format(FAR)} that was measured, "
                             f"where nothing speaks for {fit.law} but its formula")  # fmt: skip
        ahead |= bool((asked > measured.max()).any())
    if ahead and form is not None and not form.origins:
        found.append(NO_ORIGINS)
    return found


def places_named(name: str, z: Array) -> str:
    """The first of some sizes in words, ``x = 4096, 8192, ...``."""
    sizes = np.exp(z)
    named = ", ".join(f"{size:.4g}" for size in sizes[:_FIRST])
    return f"{name} = {named}{', ...' if len(sizes) > _FIRST else ''}"


def run_variance(
    task: Problem, solution: Solution, points: Points, level: float, form_deviation: Array | float = 0.0
) -> Array:
    """The variance of one more single run about the curve, in units of that of a residual of weight 1.

    ``form_deviation`` (m,) is the standard error of the law's form there. The intervals take the t quantile of the
    residuals' degrees of freedom; a variance known better (or worse) through the seeds is scaled to its own quantile,
    by the degrees of freedom of a sum (Satterthwaite 1946). Where the points lie on the curve it is 1.
    """
    residual = (task.target - task.model(solution.coordinates)[0])[0]
    spare = float(task.freedom_at(solution.coordinates)[0])
    variance = (float((task.weight * residual**2).sum()) + float(task.scatter[0])) / spare
    if not variance > 0:
        return np.ones(np.shape(form_deviation))
    run = 1.0
    if points.seed_variance is not None and points.seed_freedom > 0:
        lost = points.seed_variance * (1 - float((1 / points.seeds).mean())) / variance
        freedom = (1 + lost) ** 2 / (1 / spare + lost**2 / points.seed_freedom)
        own, usual = (special.stdtrit(count, 0.5 + level / 2) for count in (freedom, spare))
        run = (1 + lost) * float(own / usual) ** 2
    return np.asarray(run + np.square(form_deviation) / variance, dtype=np.float64)
