"""Fitting a law to columns of a table: ``fit`` gives a ``Fit``, with intervals and an account of its weaknesses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import diagnostics, intervals
from analysis.laws import LAWS, Law, law_named
from analysis.points import average_seeds, check_mixture, without_repeats
from analysis.solver import Problem, Solution, problem, solve
from analysis.table import Points, column, left_out, numeric_points, select
from tokscale.errors import TableError, UsageError

_LEAST_SPAN = 1.001  # closer sizes leave a parabola in log x to rounding errors
_CHUNK = 1024  # intervals of the curve are found for this many places at once


@dataclass(frozen=True)
class Parameter:
    """A parameter's value and interval; a limit is None where the data set none."""

    value: float
    low: float | None
    high: float | None


class Optimum(TypedDict):
    """The size at which the curve turns, its interval, the measure there, and whether that is the least or most."""

    x: float
    low: float
    high: float
    y: float
    kind: Literal["minimum", "maximum"]


@dataclass(frozen=True)
class Fit:
    """A law with values, intervals and diagnostics on one table; ``n`` points, after averaging over seeds."""

    law: str
    x: tuple[str, ...]
    y: str
    group: Any
    n: int
    parameters: Mapping[str, Parameter]
    interval: float
    r2: float | None
    aicc: float | None
    holdout_rmsle: float | None
    optimum: Optimum | None
    warnings: tuple[str, ...]
    points: Points = field(repr=False, compare=False)
    task: Problem = field(repr=False, compare=False)
    solution: Solution = field(repr=False, compare=False)

    def predict(
        self, x: npt.ArrayLike, interval: float | None = None,
        kind: Literal["confidence", "prediction"] = "confidence",
    ) -> pd.DataFrame:  # fmt: skip
        """The curve at sizes x (m,), or (k, m) for k columns: ``value`` and, with an interval, ``low`` and ``high``.

        ``confidence`` holds the curve, ``prediction`` the next measurement (one configuration's mean over seeds, if the
        fit averaged seeds). Limits are NaN where the points leave no degree of freedom. Both speak of the law as if it
        were true: they know nothing of a curve of another form.
        """
        sizes = np.asarray(x, dtype=np.float64)
        sizes = sizes if sizes.ndim == 2 else sizes.reshape(1, -1)
        if not (sizes > 0).all():
            raise UsageError("a law is asked at a size that is not positive", given=float(sizes.min()))
        z = np.log(sizes)
        value = self.task.law.curve(self.solution.coordinates, (z - self.task.center)[:, None, :])[0][0]
        table = pd.DataFrame({"value": value})
        if interval is None:
            return table
        _check_level(interval)
        parts = [intervals.curve_limits(self.task, self.solution, z[:, start : start + _CHUNK], interval,
                                        kind == "prediction") for start in range(0, z.shape[1], _CHUNK)]  # fmt: skip
        for name in ("low", "high"):
            side = np.concatenate([getattr(part, name) for part in parts])
            with np.errstate(over="ignore"):
                table[name] = np.exp(side) if self.task.law.log_residuals else side
        return table

    @property
    def residuals(self) -> pd.DataFrame:
        """Each point's sizes, measure, fitted ``value``, and ``residual`` on the law's scale, by the table's index."""
        value = self.predict(self.points.x)["value"].to_numpy()
        measured = self.points.y
        difference = np.log(measured / value) if self.task.law.log_residuals else measured - value
        columns = {**dict(zip(self.x, self.points.x, strict=True)), self.y: measured}
        return pd.DataFrame({**columns, "value": value, "residual": difference}, index=self.points.rows)

    def to_json(self) -> dict[str, Any]:
        """The fit as ``tokscale fit --json`` prints it: plain numbers, None for what does not exist."""
        return {
            "law": self.law,
            "x": list(self.x),
            "y": self.y,
            "group": self.group,
            "n": self.n,
            "parameters": {name: {"value": _finite(parameter.value), "low": parameter.low, "high": parameter.high}
                           for name, parameter in self.parameters.items()},
            "interval": self.interval,
            "r2": self.r2,
            "aicc": self.aicc,
            "holdout_rmsle": self.holdout_rmsle,
            "optimum": None if self.optimum is None else dict(self.optimum),
            "warnings": list(self.warnings),
        }  # fmt: skip

    def summary(self) -> str:
        """The fit in a few lines of text."""
        title = f"{self.law}: {LAWS[self.law].formula}, with x = {', '.join(self.x)} and y = {self.y}"
        lines = [title if self.group is None else f"{title} (group {self.group})"]
        for name, parameter in self.parameters.items():
            low, high = (shown(limit) for limit in (parameter.low, parameter.high))
            lines.append(f"  {name} = {parameter.value:.4g} [{low}, {high}]")
        lines.append(
            f"  n {self.n}, R2 {shown(self.r2)}, AICc {shown(self.aicc)}, hold-out {shown(self.holdout_rmsle)}"
        )
        if self.optimum is not None:
            lines.append("  {kind} {y:.4g} at x = {x:.4g} [{low:.4g}, {high:.4g}]".format(**self.optimum))
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)])


def _finite(number: float) -> float | None:
    """A scale beyond the range of floats (a steep law far from x = 1) does not exist in JSON."""
    return number if math.isfinite(number) else None


def shown(number: float | None) -> str:
    """A number for people, a dash for none."""
    return "-" if number is None else f"{number:.4g}"


def fit(
    table: pd.DataFrame, *, law: str | None = None, x: str | Sequence[str], y: str, by: str | None = None,
    where: str | None = None, interval: float = 0.95,
) -> Fit | list[Fit]:  # fmt: skip
    """Fit a law to columns of a table, or all laws that apply, best first (by AICc), when none is named.

    ``by`` fits each value of a column apart; ``where`` chooses rows by a condition. Gives one ``Fit``, or a list with
    ``by`` or without ``law``. Rows that cannot be used, and everything else that makes the fit doubtful, stand in the
    fit's ``warnings``; repeated seeds are averaged (``analysis.points.average_seeds``). Raises ``TableError`` for
    columns that are absent or cannot carry the law, ``UsageError`` for an unknown law or an impossible interval.
    """
    _check_level(interval)
    columns = (x,) if isinstance(x, str) else tuple(x)
    if y in columns or len(set(columns)) < len(columns):
        raise TableError("a column is named twice in one fit", given=", ".join((*columns, y)))
    laws = [law_named(law)] if law is not None else list(LAWS.values())
    laws = _of_columns(laws, columns)
    for name in (*columns, y, *([by] if by is not None else [])):
        column(table, name)
    chosen = select(table, where)
    if not chosen.index.is_unique:
        chosen = chosen.reset_index(drop=True)
    fits: list[Fit] = []
    refused: dict[Any, TableError] = {}
    for group, rows in _groups(chosen, by):
        try:
            fits += _fit_group(rows, laws, columns, y, group, interval)
        except TableError as error:
            refused[group] = error
    if not fits:
        raise next(iter(refused.values()))
    notes = tuple(f"group {group} is not fitted: {error.what}" for group, error in refused.items())
    if by is not None and (count := int(chosen[by].isna().sum())):
        notes += (left_out(count, f"{by} is missing"),)
    fits = [replace(one, warnings=(*one.warnings, *notes)) for one in fits]
    return fits[0] if law is not None and by is None else fits


def _check_level(interval: float) -> None:
    if not 0 < interval < 1:
        raise UsageError("an interval's level is a share", given=interval, allowed="a number between 0 and 1, as 0.95")


def _of_columns(laws: list[Law], columns: tuple[str, ...]) -> list[Law]:
    fitting = [law for law in laws if law.x_columns == len(columns)]
    if not fitting:
        given = f"{len(columns)} columns: {', '.join(columns)}"
        name = laws[0].name if len(laws) == 1 else "every law"
        raise UsageError(f"{name} takes {laws[0].x_columns} x column", given=given)
    return fitting


def _groups(table: pd.DataFrame, by: str | None) -> Iterator[tuple[Any, pd.DataFrame]]:
    if by is None:
        yield None, table
        return
    if table[by].isna().all():
        raise TableError("a column to group by has no value", given=by)
    for value, rows in table.groupby(by, sort=True, observed=True):
        yield getattr(value, "item", lambda value=value: value)(), rows


def _fit_group(
    table: pd.DataFrame, laws: list[Law], x: tuple[str, ...], y: str, group: Any, interval: float
) -> list[Fit]:
    """The fits of one group, best first; several laws share one set of points, so that their AICc can be compared."""
    # With one law, rows that it cannot take are left out; with several, laws that cannot take the rows are.
    positive = (*x, y) if len(laws) == 1 and laws[0].needs_positive_y else x
    table, repeats = without_repeats(table)
    raw = numeric_points(table, x, y, positive=positive, group=group)
    notes = repeats + check_mixture(table.loc[raw.rows], (*x, y))
    points = average_seeds(table, raw, x, y)
    if len(laws) > 1:
        laws = [law for law in laws if not law.needs_positive_y or (points.y > 0).all()]
        distinct = _distinct(points)
        laws = [law for law in laws if distinct >= len(law.parameters)] or laws[:1]
    fits = [_fit_points(law, points, x, y, group, interval, notes) for law in laws]
    return sorted(fits, key=lambda one: math.inf if one.aicc is None else one.aicc)


def _distinct(points: Points) -> int:
    return len(pd.DataFrame(points.x.T).drop_duplicates())


def _fit_points(
    law: Law, points: Points, x: tuple[str, ...], y: str, group: Any, interval: float, notes: list[str]
) -> Fit:
    if (distinct := _distinct(points)) < len(law.parameters):
        raise TableError(
            f"{law.name} has {len(law.parameters)} parameters and needs as many different values of {', '.join(x)}",
            where=None if group is None else f"group {group}",
            given=f"{distinct} different in {len(points.y)} usable rows",
        )
    for name, sizes in zip(x, points.x, strict=True):
        if sizes.max() < _LEAST_SPAN * sizes.min():
            raise TableError("a column hardly varies", given=f"{name} from {sizes.min():.9g} to {sizes.max():.9g}")
    task = problem(law, points.x, points.y[None])
    solution = solve(task)
    limits = intervals.parameter_limits(task, solution, interval)
    parameters = _parameters(task, solution, limits)
    found = diagnostics.warnings_of(task, solution, points.x, points.y, (*x, y), interval)
    found += _open_ends(law, parameters) if task.freedom > 0 else []
    return Fit(
        law.name, x, y, group, len(points.y), parameters, interval,
        diagnostics.r_squared(task, solution),
        diagnostics.aicc(task, solution, points.y),
        diagnostics.holdout_rmsle(law, points.x, points.y),
        _optimum(task, solution, points.x[0], interval),
        (*points.warnings, *notes, *found), points, task, solution,
    )  # fmt: skip


def _parameters(task: Problem, solution: Solution, limits: intervals.Limits) -> dict[str, Parameter]:
    values = task.law.from_unit(task.center) @ solution.coordinates[0]
    parameters = {}
    for place, name in enumerate(task.law.parameters):
        with np.errstate(over="ignore"):
            value = float(np.exp(values[place]) if name in task.law.positive else values[place])
        ends = (float(limits.low[0, place]), float(limits.high[0, place]))
        parameters[name] = Parameter(value, *(_finite(end) for end in ends))
    return parameters


def _open_ends(law: Law, parameters: Mapping[str, Parameter]) -> list[str]:
    """Warnings about parameters that the points do not pin down."""
    found = []
    for name, parameter in parameters.items():
        missing = [side for side in ("low", "high") if getattr(parameter, side) is None]
        if missing:
            found.append(
                f"{name} has no {' and no '.join({'low': 'lower', 'high': 'upper'}[s] for s in missing)} limit"
            )
        least = law.bounds.get(name, (-math.inf, math.inf))[0]
        if parameter.low is not None and parameter.low <= least:
            excluded = f"{name} = {least:g} is not excluded"
            found.append(excluded if name == "floor" else f"{excluded}: these points do not bend enough for {law.name}")
    return found


def _optimum(task: Problem, solution: Solution, x: npt.NDArray[np.float64], level: float) -> Optimum | None:
    """Where the curve turns, if it does so for certain (by its interval) and between the sizes that were measured."""
    if task.law.turning_point is None or task.freedom < 1:
        return None
    limits = intervals.turning_point_limits(task, solution, level)
    z = float(task.law.turning_point(solution.coordinates)[0])
    if limits is None or not math.log(x.min()) <= z <= math.log(x.max()):
        return None
    low, high = (float(np.exp2(np.clip(limit, -1000, 1000))) for limit in limits)
    y = float(task.law.curve(solution.coordinates, np.full((1, 1, 1), z))[0][0, 0])
    kind: Literal["minimum", "maximum"] = "minimum" if solution.coordinates[0, 2] > 0 else "maximum"
    return Optimum(x=math.exp(z), low=low, high=high, y=y, kind=kind)
