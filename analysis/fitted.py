"""A fit: a law with values, intervals and diagnostics on one table, and what can be asked of it."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import intervals
from analysis.laws import Law, law_named
from analysis.prediction import cautions, prediction_limits
from analysis.solver import Problem, Solution
from analysis.table import Points, column
from tokscale.errors import UsageError, one_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.bootstrap import Draws
    from analysis.extrapolation import ModelForm

Array = npt.NDArray[np.float64]
Limit = float | None
Kind = Literal["confidence", "prediction"]
Method = Literal["profile", "bootstrap"]

_CHUNK = 1024  # intervals of the curve are found for this many places at once


@dataclass(frozen=True)
class Parameter:
    """A parameter's value and interval; a limit is None where the data set none."""

    value: float
    low: Limit
    high: Limit


class Optimum(TypedDict):
    """The size at which the curve turns, its interval, the measure there, and whether that is the least or most."""

    x: float
    low: float
    high: float
    y: float
    kind: Literal["minimum", "maximum"]


@dataclass(frozen=True)
class Fit:
    """A law with values, intervals and diagnostics on one table; ``n`` points, after averaging over seeds.

    Groups that share parameters are fitted together: ``task`` and ``solution``, and with them ``r2`` and the criteria,
    are then those of all groups, and ``place`` is this group's number among them; ``n``, ``points`` and the parameters
    are the group's own.
    """

    law: str
    x: tuple[str, ...]
    y: str
    group: Any
    n: int
    parameters: Mapping[str, Parameter]
    level: float
    r2: float | None
    aicc: float | None
    aicc_weight: float | None
    """exp(-AICc / 2) among the laws that were fitted to the same points, adding up to 1; None for a law alone."""
    holdout_rmsle: float | None
    null_rmsle: float | None
    """The hold-out error of repeating the value at the next size, which a law that extrapolates beats."""
    optimum: Optimum | None
    warnings: tuple[str, ...]
    points: Points = field(repr=False, compare=False)
    task: Problem = field(repr=False, compare=False)
    solution: Solution = field(repr=False, compare=False)
    place: int | None = field(default=None, repr=False, compare=False)
    method: Method = "profile"
    """How the intervals were found; those of Huber's loss are bootstrapped in any case."""
    draws: Draws | None = field(default=None, repr=False, compare=False)

    @property
    def form(self) -> Law:
        """The law itself, for one group and as many columns as the fit has."""
        return law_named(self.law, len(self.x))

    @property
    def sizes(self) -> str:
        """What stands for x in the formula."""
        if len(self.x) == 1:
            return f"x = {self.x[0]}"
        return ", ".join(f"x_{k} = {name}" for k, name in enumerate(self.x, 1))

    @overload
    def interval(self, name: str, level: float | None = None) -> tuple[Limit, Limit]: ...

    @overload
    def interval(self, name: None = None, level: float | None = None) -> dict[str, tuple[Limit, Limit]]: ...

    def interval(
        self, name: str | None = None, level: float | None = None
    ) -> tuple[Limit, Limit] | dict[str, tuple[Limit, Limit]]:
        """The interval of one parameter, or of all by name, at the fit's own level or at another one.

        A limit is None where the data set none. Raises ``UsageError`` for a name or a level that is none.
        """
        if name is not None and name not in self.parameters:
            raise UsageError("a law has no such parameter", given=name, allowed=one_of(self.parameters, name))
        known = self.parameters
        if level is not None and level != self.level:
            check_level(level)
            known = parameters_of(self, intervals.parameter_limits(self.task, self.solution, level, self.draws))
        found = {key: (parameter.low, parameter.high) for key, parameter in known.items()}
        return found if name is None else found[name]

    def predict(self, x: npt.ArrayLike | pd.DataFrame, interval: float | None = None,
                kind: Kind = "prediction") -> pd.DataFrame:  # fmt: skip
        """The curve at sizes x: ``value`` and, with an interval, its ``low`` and ``high``.

        x is (m,), (k, m) for k columns, or a table that has these columns. A ``prediction`` interval holds what one
        more run would measure: the curve, the noise of runs, and the error of the law's own form beyond the measured
        sizes (``analysis.prediction``); a ``confidence`` interval holds the curve if the law were true. Limits are NaN
        where the points leave no degree of freedom. ``attrs["warnings"]`` of the table says what lies far out.
        """
        z = self.at(x)
        value = self.task.law.curve(self.solution.coordinates, (z - self.task.center)[:, None, :])[0][0]
        table = pd.DataFrame({"value": value})
        looks_back = interval is not None and kind == "prediction" and self.task.freedom > 0
        table.attrs["warnings"] = cautions(self, z, self.form_error if looks_back else None)
        if interval is None:
            return table
        check_level(interval)
        if kind not in ("confidence", "prediction"):
            raise UsageError("no such interval of a curve", given=kind, allowed=one_of(["confidence", "prediction"]))
        parts = [self._limits(z[:, start : start + _CHUNK], interval, kind) for start in range(0, z.shape[1], _CHUNK)]
        for name in ("low", "high"):
            side = np.concatenate([getattr(part, name) for part in parts])
            with np.errstate(over="ignore"):
                table[name] = np.exp(side) if self.task.law.log_residuals else side
        return table

    def at(self, x: npt.ArrayLike | pd.DataFrame) -> Array:
        """Sizes as places of the fit's problem: ln x (k, m), and the group's number below it where groups share."""
        z = np.log(sizes_of(x, self.x))
        return z if self.place is None else np.vstack([z, np.full((1, z.shape[1]), float(self.place))])

    @functools.cached_property
    def form_error(self) -> ModelForm:
        """How far the law's own form errs beyond the measured sizes (``analysis.extrapolation``)."""
        from analysis.extrapolation import model_form

        return model_form(self.task, self.solution)

    def _limits(self, z: Array, level: float, kind: Kind) -> intervals.Limits:
        if kind == "confidence" or self.task.freedom < 1:
            return intervals.curve_limits(self.task, self.solution, z, level, draws=self.draws)
        return prediction_limits(self, z, level, self.draws, self.form_error)

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
            "group": self.group if isinstance(self.group, (str, int, float, bool, type(None))) else str(self.group),
            "n": self.n,
            "parameters": {name: {"value": finite(parameter.value), "low": parameter.low, "high": parameter.high}
                           for name, parameter in self.parameters.items()},
            "interval": self.level,
            "r2": self.r2,
            "aicc": self.aicc,
            "aicc_weight": self.aicc_weight,
            "holdout_rmsle": self.holdout_rmsle,
            "null_rmsle": self.null_rmsle,
            "optimum": None if self.optimum is None else dict(self.optimum),
            "warnings": list(self.warnings),
        }  # fmt: skip

    def summary(self) -> str:
        """The fit in a few lines of text, as an appendix would say it."""
        scale = f"ln {self.y}" if self.task.law.log_residuals else self.y
        title = f"{self.law}: {self.form.formula}, with y = {self.y}, {self.sizes}"
        lines = [title if self.group is None else f"{title} (group {self.group})", f"  {self._how(scale)}"]
        width = max(map(len, self.parameters))
        for name, parameter in self.parameters.items():
            low, high = (shown(limit) for limit in (parameter.low, parameter.high))
            lines.append(f"  {name:{width}} = {parameter.value:.4g} [{low}, {high}]")
        weight = "" if self.aicc_weight is None else f" (weight {self.aicc_weight:.2g} among the laws fitted)"
        lines.append(f"  R2 {shown(self.r2)} of {scale}, AICc {shown(self.aicc)}{weight}")
        if self.holdout_rmsle is not None:
            lines.append(f"  error at the largest size, left out: {shown(self.holdout_rmsle)} of ln {self.y}; "
                         f"repeating the value at the next size: {shown(self.null_rmsle)}")  # fmt: skip
        if self.optimum is not None:
            lines.append("  {kind} {y:.4g} at x = {x:.4g} [{low:.4g}, {high:.4g}]".format(**self.optimum))
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)])

    def _how(self, scale: str) -> str:
        """Loss, number of points and kind of intervals, in words."""
        loss = "least squares" if self.task.delta is None else f"Huber's loss (delta {self.task.delta:g})"
        rows = int(self.points.seeds.sum())
        points = f"n = {self.n}" if rows == self.n else f"n = {self.n} configurations ({rows} rows)"
        weighted = "" if self.points.weight is None else ", weighted"
        kind = "Student's t" if self.task.law.linear else "profile likelihood"
        kind = kind if self.draws is None else f"{self.draws.kind} bootstrap"
        return f"{loss} on {scale}, {points}{weighted}; {100 * self.level:g} % intervals by {kind}"

    def plot(self, axes: Axes) -> Axes:
        """Draw the points, the curve and its bands (``analysis.figures.curve``)."""
        from analysis.figures import curve

        return curve(self, axes)


def parameters_of(found: Fit, limits: intervals.Limits) -> dict[str, Parameter]:
    """A fit's parameters with these limits of all parameters of its problem (1, p), as its own law names them."""
    return named_parameters(found.task, found.solution, limits, found.form.parameters, found.place)


def named_parameters(
    task: Problem, solution: Solution, limits: intervals.Limits, names: tuple[str, ...], place: int | None
) -> dict[str, Parameter]:
    """The parameters of one group, under its law's names: shared ones and, of the others, those of its number."""
    values = task.law.from_unit(task.center) @ solution.coordinates[0]
    parameters = {}
    for name in names:
        key = name if name in task.law.parameters else f"{name}[{place}]"
        index = task.law.parameters.index(key)
        with np.errstate(over="ignore"):
            value = float(np.exp(values[index]) if key in task.law.positive else values[index])
        ends = (float(limits.low[0, index]), float(limits.high[0, index]))
        parameters[name] = Parameter(value, *(finite(end) for end in ends))
    return parameters


def sizes_of(x: npt.ArrayLike | pd.DataFrame, columns: tuple[str, ...]) -> Array:
    """Sizes (k, m) as float64; ``TableError`` or ``UsageError`` where there are not k columns of positive ones."""
    sizes = _numbers(x, columns)
    if (wrong := sizes[~(np.isfinite(sizes) & (sizes > 0))]).size:
        raise UsageError("a law is asked at a size that is not positive", given=float(wrong[0]))
    return sizes


def _numbers(x: npt.ArrayLike | pd.DataFrame, columns: tuple[str, ...]) -> Array:
    try:
        if isinstance(x, pd.DataFrame):
            return np.stack([column(x, name).to_numpy(dtype=np.float64) for name in columns])
        sizes = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        allowed = f"numbers, {len(columns)} for each place: {', '.join(columns)}"
        raise UsageError("sizes are no numbers", given=" ".join(str(x).split())[:80], allowed=allowed) from error
    if sizes.ndim < 2:
        sizes = sizes.reshape(1, -1) if len(columns) == 1 else sizes.reshape(-1, 1)
    if sizes.ndim != 2 or len(sizes) != len(columns):
        raise UsageError(
            "sizes have another number of columns than the fit", given=f"an array of shape {np.shape(x)}",
            allowed=f"{len(columns)} rows: {', '.join(columns)}",
        )  # fmt: skip
    return sizes


def check_level(interval: float) -> None:
    """Raise ``UsageError`` unless a level lies between 0 and 1."""
    if not (isinstance(interval, numbers.Real) and 0 < interval < 1):
        raise UsageError("an interval's level is a share", given=interval, allowed="a number between 0 and 1, as 0.95")


def finite(number: float) -> float | None:
    """A number as JSON knows it: a limit that the data did not set, or a scale beyond the range of floats, is None."""
    return number if math.isfinite(number) else None


def shown(number: float | None) -> str:
    """A number for people, a dash for none."""
    return "-" if number is None else f"{number:.4g}"
