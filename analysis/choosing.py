"""Choosing among laws, and what to predict by: several laws, weighed by what they explain and what they foretold."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.averaging import Average, Outlook, averaged
from analysis.estimation import Request, check_carried, estimate, points_for
from analysis.fitted import Fit, Kind, check_level, finite, shown, sizes_of
from analysis.groups import groups_of
from analysis.laws import LAW_NAMES, Law, law_named
from analysis.laws.learning_curves import FLATTENING
from analysis.prediction import FAR, NO_ORIGINS, places_named
from analysis.table import Points, column, column_names, left_out, select
from tokscale.errors import TableError, UsageError, one_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = npt.NDArray[np.float64]

DEFAULT = ("power", "semilog", "power_floor", "flattening", "saturating", "quadratic")
"""Laws of at most three parameters. Longer ones follow every bend, and beyond the last size go anywhere: measured on
learning curves, the best of them by AICc foretells worse than repeating the last value."""


@dataclass(frozen=True)
class Choice:
    """Laws on one set of points, each with its weight, and the average that predicts."""

    x: tuple[str, ...]
    y: str
    group: Any
    n: int
    level: float
    weights: Mapping[str, float]
    """Law -> its share of what is predicted beyond the largest size, over all windows; heaviest first."""
    holdout_rmsle: float | None
    """Root mean squared error of ln y at earlier origins, foretold by the points up to each (``analysis.hindcast``)."""
    null_rmsle: float | None
    """The same of repeating the last value."""
    warnings: tuple[str, ...]
    average: Average | None = field(repr=False, compare=False)
    """None for several columns and for few points: then the first fit predicts."""
    candidates: tuple[tuple[Law, Points], ...] = field(repr=False, compare=False)
    asked: Request = field(repr=False, compare=False)

    @functools.cached_property
    def fits(self) -> list[Fit]:
        """Each law of the table of laws fitted to all points, heaviest first; made when they are first asked for."""
        named = [(law, points) for law, points in self.candidates if law.name in LAW_NAMES]
        fits = [estimate(law, points, self.asked, self.group) for law, points in named]
        shares = aicc_weights(fits)
        fits = [replace(one, aicc_weight=share) for one, share in zip(fits, shares, strict=True)]
        return sorted(fits, key=lambda one: -self.weights.get(one.law, 0.0))

    def predict(
        self, x: npt.ArrayLike | pd.DataFrame, interval: float | None = None, kind: Kind = "prediction"
    ) -> pd.DataFrame:
        """The average at sizes x: ``value`` and, with an interval, its ``low`` and ``high``.

        x is (m,), (k, m), or a table that has the columns. A ``prediction`` interval holds what one more run would
        measure, a ``confidence`` interval the curve; both know that no law is quite true. ``attrs["warnings"]`` of the
        table says where laws disagree, and what lies farther out than can be judged.
        """
        if interval is not None:
            check_level(interval)
        if self.average is None:
            return self.fits[0].predict(x, interval, kind)
        z = self._places(x)
        outlook = self.average.foretell(z)
        power = np.exp if self.average.logarithmic else np.asarray
        with np.errstate(over="ignore"):
            table = pd.DataFrame({"value": power(outlook.value)})
            if interval is not None:
                half = special.stdtrit(self.average.freedom, 0.5 + interval / 2) * np.sqrt(
                    self._variance(outlook, kind)
                )
                table["low"], table["high"] = power(outlook.value - half), power(outlook.value + half)
        table.attrs["warnings"] = self._cautions(z, outlook)
        return table

    def plot(self, axes: Axes) -> Axes:
        """Draw the points, the average and its bands (``analysis.figures.curve``)."""
        from analysis.figures import curve

        return curve(self, axes)

    def to_json(self) -> dict[str, Any]:
        """The choice as plain numbers, None for what does not exist."""
        return {
            "x": list(self.x),
            "y": self.y,
            "group": self.group,
            "n": self.n,
            "weights": dict(self.weights),
            "interval": self.level,
            "holdout_rmsle": self.holdout_rmsle,
            "null_rmsle": self.null_rmsle,
            "form_rate": None if self.average is None else finite(self.average.rate),
            "fits": [one.to_json() for one in self.fits],
            "warnings": list(self.warnings),
        }

    def summary(self) -> str:
        """The choice in a few lines of text."""
        group = "" if self.group is None else f" (group {self.group})"
        shares = ", ".join(f"{law} {share:.2f}" for law, share in self.weights.items() if share >= 0.005)
        lines = [f"{self.y} against {', '.join(self.x)}{group}: n = {self.n}, laws weigh {shares}"]
        if self.holdout_rmsle is not None:
            lines.append(f"  error when foretold from earlier sizes: {shown(self.holdout_rmsle)} of ln {self.y}; "
                         f"repeating the last value: {shown(self.null_rmsle)}")  # fmt: skip
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)])

    def _places(self, x: npt.ArrayLike | pd.DataFrame) -> Array:
        """Sizes of the only column as ln x (m,)."""
        return np.asarray(np.log(sizes_of(x, self.x)[0]))

    def _variance(self, outlook: Outlook, kind: Kind) -> Array:
        if kind not in ("confidence", "prediction"):
            raise UsageError("no such interval of a curve", given=kind, allowed=one_of(["confidence", "prediction"]))
        variance = outlook.own + outlook.between + outlook.form
        return variance if kind == "confidence" else variance + outlook.noise + self._seeds(outlook)

    def _seeds(self, outlook: Outlook) -> Array:
        """What averaging over seeds took away from the noise of one run, sigma^2 (1 - mean(1 / m))."""
        assert self.average is not None
        of_logs = {law.log_residuals: points for law, points in self.candidates}
        points = of_logs.get(self.average.logarithmic, self.candidates[0][1])
        lost = 0.0 if points.seed_variance is None else points.seed_variance * (1 - float((1 / points.seeds).mean()))
        if self.average.logarithmic and True not in of_logs:
            return np.asarray(lost / np.exp(2 * outlook.value))
        return np.full(len(outlook.value), lost)

    def _cautions(self, z: Array, outlook: Outlook) -> list[str]:
        """What to know of a prediction at ln x = z (m,)."""
        assert self.average is not None
        found, ahead = [], z - self.average.edge
        if (far := ahead > math.log(FAR) * (1 + 1e-9)).any():
            seen = math.exp(self.average.reach)
            found.append(f"{places_named(self.x[0], z[far])}: more than {FAR:g} times the largest size; looking back, "
                         f"errors were seen up to {seen:.2g} times ahead")  # fmt: skip
        if self.average.error is None and (ahead > 0).any():
            found.append(NO_ORIGINS)
        apart = (ahead > 0) & (outlook.between > outlook.own + outlook.noise)
        if apart.any():
            found.append(
                f"{places_named(self.x[0], z[apart])}: the laws disagree by more than they allow for themselves"
            )
        return found


def choose(
    table: pd.DataFrame, *, x: str | Sequence[str], y: str, laws: str | Sequence[str] | None = None,
    by: str | None = None, where: str | None = None, interval: float = 0.95,
) -> Choice | list[Choice]:  # fmt: skip
    """Weigh laws on columns of a table, and average them into one prediction that says how far it can be trusted.

    ``laws`` are names, or one, those of ``DEFAULT`` that apply if left out; several ``x`` columns take the ``additive``
    law alone. ``by`` treats each value of a column apart, and gives a list; ``where`` chooses rows by a condition. How
    laws are weighed and averaged: ``analysis.averaging``. Raises ``TableError`` for columns that are absent or cannot
    carry a law, ``UsageError`` for an unknown law or an impossible interval.
    """
    asked = Request(column_names(x), y, None, None, interval, "profile")
    check_level(interval)
    for name in (*asked.names, *([] if by is None else [by])):
        column(table, name)
    if len({*asked.names, by}) < len(asked.names) + 1:
        raise TableError("a column is named twice in one choice", given=", ".join(map(str, (*asked.names, by))))
    candidates = _laws(laws, len(asked.x))
    chosen = select(table, where)
    if not chosen.index.is_unique:
        chosen = chosen.reset_index(drop=True)
    choices, refused = [], {}
    for group, rows in groups_of(chosen, by):
        try:
            choices.append(_choice(points_for(rows, candidates, asked, group), asked, group))
        except TableError as error:
            refused[group] = error
    if not choices:
        raise next(iter(refused.values()))
    notes = tuple(f"group {group} is left out: {error.what}" for group, error in refused.items())
    if by is not None and (count := int(chosen[by].isna().sum())):
        notes += (left_out(count, f"{by} is missing"),)
    choices = [replace(one, warnings=(*one.warnings, *notes)) for one in choices]
    return choices[0] if by is None else choices


def aicc_weights(fits: Sequence[Fit]) -> list[float | None]:
    """exp(-AICc / 2) of fits to the same points, adding up to 1 (Burnham and Anderson 2002); None without an AICc."""
    known = [one.aicc for one in fits if one.aicc is not None]
    total = sum(math.exp((min(known) - aicc) / 2) for aicc in known)
    return [None if one.aicc is None else math.exp((min(known) - one.aicc) / 2) / total for one in fits]


def average(fits: Sequence[Fit], x: npt.ArrayLike | pd.DataFrame) -> Array:
    """The AICc-weighted mean (m,) of fits to the same points at sizes x, of ln y where all are positive.

    It takes the laws at their word on the whole curve; ``choose`` also asks what they would have foretold.
    """
    shares = np.array([share or 0.0 for share in aicc_weights(fits)])
    if not shares.any():
        raise UsageError(
            "fits cannot be weighed", given=f"{fits[0].n} points", allowed="more points than parameters + 2"
        )
    values = np.stack([one.predict(x)["value"].to_numpy() for one in fits])
    positive = bool((values > 0).all())
    mean = shares @ (np.log(values) if positive else values)
    return np.asarray(np.exp(mean) if positive else mean)


def _laws(names: str | Sequence[str] | None, columns: int) -> list[Law]:
    if names is None:
        names = DEFAULT if columns == 1 else ("additive",)
    names = column_names(names)
    if not names:
        raise UsageError("there is no law to choose", given="no name", allowed=one_of([*LAW_NAMES, FLATTENING.name]))
    return [FLATTENING if name == FLATTENING.name else law_named(name, columns) for name in dict.fromkeys(names)]


def _choice(candidates: list[tuple[Law, Points]], asked: Request, group: Any) -> Choice:
    points = candidates[0][1]
    for law, _ in candidates:
        check_carried(law, points.x, asked, group)
    laws = [law for law, _ in candidates]
    found = averaged(laws, points.x[0], points.y, points.weight) if len(points.x) == 1 else None
    shares = np.eye(1, len(laws))[0] if found is None else found.weights.sum(axis=1)
    weights = {laws[place].name: float(shares[place]) for place in np.argsort(-shares, kind="stable")}
    logarithmic = found is not None and found.logarithmic
    error, null = (found.error, found.null_error) if found is not None and logarithmic else (None, None)
    warnings = list(points.warnings)
    if (
        found is not None
        and found.error is not None
        and found.null_error is not None
        and found.error >= found.null_error
    ):
        warnings.append(f"the average of the laws foretold {asked.y} no better than repeating its last value")
    return Choice(
        asked.x, asked.y, group, len(points.y), asked.level, weights, error, null, tuple(warnings), found,
        tuple(candidates), asked,
    )  # fmt: skip
