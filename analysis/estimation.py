"""One law on one set of points: the fit with its intervals, diagnostics and warnings."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from analysis import diagnostics, intervals
from analysis.fitted import Fit, Optimum, Parameter, named_parameters
from analysis.gathering import gathered, ungathered
from analysis.laws import Law
from analysis.outliers import outliers
from analysis.points import average_seeds, check_mixture, without_repeats
from analysis.shared import counted_once
from analysis.solver import Problem, Solution, problem, solve
from analysis.table import Array, Points, numeric_points
from tokscale.errors import TableError

if TYPE_CHECKING:
    from analysis.bootstrap import Draws

_STRAIGHT = 2.0  # a turn farther out than so many spans of ln x is that of a nearly straight line
MOST_RESAMPLED = 50_000  # points: a thousand refits of more take minutes, and gigabytes


@dataclass(frozen=True)
class Request:
    """What is asked of every group of a table: columns, loss, and intervals."""

    x: tuple[str, ...]
    y: str
    weights: str | None
    huber: float | None
    level: float
    intervals: Literal["profile", "bootstrap"]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.x, self.y)

    @property
    def bootstraps(self) -> bool:
        """Huber's loss has no F threshold: its intervals are bootstrapped in any case."""
        return self.intervals == "bootstrap" or self.huber is not None


def points_for(table: pd.DataFrame, laws: Sequence[Law], asked: Request, group: Any) -> list[tuple[Law, Points]]:
    """The laws that apply to one group of rows, each with its points: the same ones, so that AICc can be compared.

    With one law, rows that it cannot take are left out; with several, laws that cannot take the rows are.
    """
    positive = asked.names if len(laws) == 1 and laws[0].needs_positive_y else asked.x
    table, repeats = without_repeats(table)
    table, shared = counted_once(table, (*asked.names, asked.weights))
    repeats += shared
    raw = numeric_points(table, asked.x, asked.y, positive=positive, group=group, weight=asked.weights)
    notes = repeats + check_mixture(table.loc[raw.rows], asked.names)
    scales = {
        log: average_seeds(table, raw, asked.x, asked.y, log_residuals=log, weights=asked.weights)
        for log in {law.log_residuals for law in laws}
    }
    found = [(law, scales[law.log_residuals]) for law in laws]
    if len(laws) > 1:
        found = [(law, points) for law, points in found if not law.needs_positive_y or (points.y > 0).all()]
        found = [(law, points) for law, points in found if diagnostics.lacks(law, points.x) is None] or found[:1]
    return [(law, replace(points, warnings=(*points.warnings, *notes))) for law, points in found]


def estimate(law: Law, points: Points, asked: Request, group: Any) -> Fit:
    """The fit of a law to the points of one group; ``TableError`` if they cannot carry the law."""
    check_carried(law, points.x, asked, group)
    points = _unit_weights(points)
    found = solved(law, points, asked)
    parameters = named_parameters(found.task, found.solution, found.limits, law.parameters, None)
    warnings = [*points.warnings, *doubts(found, points, asked)]
    warnings += open_ends(law, parameters) if found.task.freedom > 0 else []
    return fit_of(law, points, asked, group, found, parameters, warnings)


def fit_of(
    law: Law, points: Points, asked: Request, group: Any, found: Solved, parameters: Mapping[str, Parameter],
    warnings: Sequence[str], place: int | None = None,
) -> Fit:  # fmt: skip
    """A ``Fit`` of one group from the problem that was solved, which may be that of all groups."""
    optimum, doubt = optimum_of(law, found, points.x[0], asked.level, place)
    return Fit(
        law.name, asked.x, asked.y, group, len(points.y), parameters, asked.level,
        r2=found.r2, aicc=found.aicc, aicc_weight=None, holdout_rmsle=found.errors[0], null_rmsle=found.errors[1],
        optimum=optimum, warnings=(*warnings, *doubt), points=points, task=found.task, solution=found.solution,
        place=place, method=asked.intervals, draws=found.draws,
    )  # fmt: skip


def check_carried(law: Law, x: Array, asked: Request, group: Any) -> None:
    """Raise ``TableError`` if sizes x (k, n) are too few, or too near to one another, for a law."""
    where = None if group is None else f"group {group}"
    for name, sizes in zip(asked.x, x, strict=False):
        if sizes.max() < diagnostics.LEAST_SPAN * sizes.min() and len(pd.unique(sizes)) > 1:
            raise TableError(
                "a column hardly varies", where=where, given=f"{name} from {sizes.min():.9g} to {sizes.max():.9g}"
            )
    if (missing := diagnostics.lacks(law, x)) is not None:
        raise TableError(
            f"{law.name} has {len(law.parameters)} parameters and needs as many different values of "
            f"{', '.join(asked.x)}",
            where=where, given=f"{missing} in {x.shape[1]} usable rows",
        )  # fmt: skip


@dataclass(frozen=True)
class Solved:
    """A law's problem on points, its optimum, the limits of its parameters, and how good it is."""

    task: Problem
    solution: Solution
    draws: Draws | None
    limits: intervals.Limits
    r2: float | None
    aicc: float | None
    errors: tuple[float | None, float | None]


def solved(law: Law, points: Points, asked: Request) -> Solved:
    """The optimum of a law on points, with intervals of the kind that is asked for."""
    task = gathered(problem(law, points.x, points.y[None], points.weight, asked.huber))
    solution = solve(task)
    draws = _drawn(task, solution, points) if asked.bootstraps else None
    return Solved(
        task, solution, draws, intervals.parameter_limits(task, solution, asked.level, draws),
        diagnostics.r_squared(task, solution),
        diagnostics.aicc(task, solution, points.y, points.weight),
        diagnostics.holdout_errors(law, points.x, points.y, points.weight, asked.huber),
    )  # fmt: skip


def _drawn(task: Problem, solution: Solution, points: Points) -> Draws:
    """The bootstrap's refits, the same ones for the same points every time; none where there are too many points."""
    from analysis.bootstrap import Draws, bootstrap

    if task.rows > MOST_RESAMPLED:
        none = np.empty((0, len(task.law.parameters)))
        return Draws("pairs", solution.coordinates[0], none, np.empty(0), none, freedom=0)
    seed = zlib.crc32(task.target.tobytes())
    if len(task.weight) < task.rows:
        task = ungathered(task, points.x, points.y, points.weight)
    return bootstrap(task, solution, np.random.default_rng(seed), units=points.runs)


def doubts(found: Solved, points: Points, asked: Request, called: Callable[[str], str] = str) -> list[str]:
    """The warnings that follow from the points and the optimum."""
    task, solution = found.task, found.solution
    warnings = diagnostics.warnings_of(task, solution, points.x, asked.names, called)
    if asked.bootstraps and task.rows > MOST_RESAMPLED:
        warnings.append(f"no intervals: a bootstrap takes {MOST_RESAMPLED} points at most, here are {task.rows}")
    return warnings + outliers(task, solution, points.x, points.y, asked.names, asked.level, called)


def open_ends(law: Law, parameters: Mapping[str, Parameter], called: Callable[[str], str] = str) -> list[str]:
    """Warnings about parameters that the points do not pin down."""
    found = []
    for name, parameter in parameters.items():
        missing = [side for side in ("low", "high") if getattr(parameter, side) is None]
        if missing:
            words = " and no ".join({"low": "lower", "high": "upper"}[side] for side in missing)
            found.append(f"{called(name)} has no {words} limit")
        least = -math.inf if name in law.positive else law.bounds.get(name, (-math.inf, math.inf))[0]
        if parameter.low is not None and parameter.low <= least:
            excluded = f"{called(name)} = {least:g} is not excluded"
            floor = name.partition("[")[0] == "floor"
            found.append(excluded if floor else f"{excluded}: these points do not bend enough for {law.name}")
    return found


def _unit_weights(points: Points) -> Points:
    """The points with weights of mean 1: a common factor says nothing, and thresholds stay those of plain residuals."""
    return points if points.weight is None else replace(points, weight=points.weight / points.weight.mean())


def optimum_of(
    law: Law, found: Solved, x: Array, level: float, place: int | None = None
) -> tuple[Optimum | None, list[str]]:
    """Where the curve turns, if it does so for certain (by its interval) and between the sizes that were measured.

    With it a warning, where there is a turn that is not certain.
    """
    if law.turning_point is None or found.task.freedom < 1:
        return None, []
    task, coordinates = _own(found, law, place)
    with np.errstate(all="ignore"):
        z = float(law.turning_point(coordinates)[0])
    ends = np.log([x.min(), x.max()]) - task.center[0, 0]
    beyond = max(ends[0] - z, z - ends[1]) if math.isfinite(z) else math.inf
    if beyond > _STRAIGHT * (ends[1] - ends[0]):
        return None, []
    turn = math.exp(z + task.center[0, 0])
    if beyond > 0:
        return None, [f"the curve turns at x = {turn:.4g}, outside the sizes measured ({x.min():.6g} to {x.max():.6g}"
                      "): it says nothing certain of a best size"]  # fmt: skip
    limits = intervals.turning_point_limits(task, found.solution, level, found.draws)
    if limits is None or not np.isfinite(limits).all():
        return None, [f"the curve turns at x = {turn:.4g}, but that is not certain: its interval has an open end"]
    low, high = (float(np.exp2(np.clip(limit, -1000, 1000))) for limit in limits)
    y, *others = law.curve(coordinates, np.array([[[z, *ends]]]))[0][0]
    kind: Literal["minimum", "maximum"] = "minimum" if max(others) >= y else "maximum"
    return Optimum(x=turn, low=low, high=high, y=float(y), kind=kind), []


def _own(found: Solved, law: Law, place: int | None) -> tuple[Problem, Array]:
    """The problem with the turning point of one group's curve, and the group's own coordinates (1, p)."""
    if place is None:
        return found.task, found.solution.coordinates
    joint, turn = found.task.law, law.turning_point
    assert turn is not None
    own = [joint.parameters.index(name if name in joint.parameters else f"{name}[{place}]") for name in law.parameters]
    # The exact interval of a linear law is that of a single parabola.
    several = replace(joint, linear=False, turning_point=lambda coordinates: turn(coordinates[:, own]))
    return replace(found.task, law=several), found.solution.coordinates[:, own]
