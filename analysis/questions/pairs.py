"""What one setting changes: differences between rows that are equal in everything else, seeds included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.points import without_repeats
from analysis.questions import wording
from analysis.questions.answers import Alternative, Answer, Better, Estimate, Verdict, check_level, direction, verdict
from analysis.questions.configurations import chosen
from analysis.questions.measures import better_of, comparable, on_log_scale, unit_of
from analysis.questions.regression import student
from analysis.questions.settings import needed, same, settings, strata, varies
from analysis.table import numeric_points
from tokscale.errors import TableError, UsageError, one_of

Array = npt.NDArray[np.float64]
_OVER = ("configurations", "seeds")


@dataclass(frozen=True)
class Pairs:
    """Second less first, pair by pair: ``differences`` (n,), the configuration each is of (n,), one row of each (n)."""

    differences: Array
    configuration: npt.NDArray[np.int64]
    table: pd.DataFrame
    equal: tuple[str, ...]
    along: tuple[str, ...]
    warnings: tuple[str, ...]

    def means(self) -> tuple[Array, pd.DataFrame]:
        """The mean difference of every configuration, and one row of each."""
        place = pd.Series(self.configuration)
        means = pd.Series(self.differences).groupby(place, sort=True).mean().to_numpy()
        return means, self.table.iloc[place.drop_duplicates().sort_values().index]


@dataclass(frozen=True)
class PairedEffect(Answer):
    """What ``second`` instead of ``first`` changes: the mean of ``n`` differences, over configurations or over seeds.

    ``effect`` is in natural logarithms of the measure if ``relative``, else in its unit. Pairs were equal in ``equal``;
    what differs between the two sides throughout stands in ``along``.
    """

    y: str
    setting: str
    first: Any
    second: Any
    n: int
    over: str
    pairs: int
    effect: Estimate
    relative: bool
    better: Better
    alternative: str
    level: float
    verdict: Verdict
    differences: tuple[float, ...]
    equal: tuple[str, ...]
    along: tuple[str, ...]
    warnings: tuple[str, ...]

    def sentence(self) -> str:
        change = wording.effect(self.effect, self.relative, unit_of(self.y))
        unit = wording.plural(self.n, {"configurations": "configuration", "seeds": "pair of seeds"}[self.over])
        evidence = f"mean over {unit.replace('pair of seedss', 'pairs of seeds')}"
        evidence += f", {wording.chance(self.effect.p, self.alternative)}"
        evidence += f"; along with it changes {wording.listed(self.along)}" if self.along else ""
        start = f"{self.setting} {self.second} instead of {self.first}"
        y = wording.label(self.y)
        if self.effect.p is None:
            return f"{start} changes {y} by {change} ({evidence}): one pair resolves nothing."
        if self.verdict == "unresolved":
            return f"No effect of {start} on {y} is resolved: {change} ({evidence})."
        return f"{start} makes {y} {self.verdict}: {change} ({evidence})."


def paired_effect(
    table: pd.DataFrame, y: str, setting: str, first: Any, second: Any, *, match: Sequence[str] | None = None,
    over: Literal["configurations", "seeds"] | None = None, where: str | None = None, level: float = 0.95,
    alternative: Alternative = "two-sided", better: str | None = None, relative: bool | None = None,
) -> PairedEffect:  # fmt: skip
    """The mean of y(second) - y(first) over pairs that differ in nothing but ``setting``, with Student's interval.

    Pairs are equal in every other setting (or in the columns of ``match``) and in their seed. Seeds of one
    configuration are averaged, and the interval is over configurations: it speaks of configurations like these. With
    ``over="seeds"``, or where there is but one configuration, it is over pairs of seeds and speaks of these alone.
    Raises ``TableError`` when no pair is left.
    """
    check_level(level)
    if over is not None and over not in _OVER:
        raise UsageError("no such unit", given=over, allowed=one_of(_OVER, over))
    way, relative = better_of(y, better), on_log_scale(y, relative)
    sign = direction(alternative, way)
    pairs = pair_up(table, y, setting, first, second, match=match, where=where, relative=relative)
    means, _ = pairs.means()
    over = over or ("configurations" if len(means) > 1 else "seeds")
    values = means if over == "configurations" else pairs.differences
    spread = float(values.std(ddof=1)) if len(values) > 1 else np.nan
    size = float(np.abs(values).max())
    effect = student(float(values.mean()), spread / np.sqrt(len(values)), len(values) - 1, level, sign, size)
    return PairedEffect(
        y, setting, first, second, len(values), over, len(pairs.differences), effect, relative, way, alternative,
        level, verdict(effect, way, level), tuple(values.tolist()), pairs.equal, pairs.along, pairs.warnings,
    )  # fmt: skip


def pair_up(
    table: pd.DataFrame, y: str, setting: str, first: Any, second: Any, *, match: Sequence[str] | None = None,
    also: Sequence[str] = (), where: str | None = None, relative: bool = False,
) -> Pairs:  # fmt: skip
    """The pairs of a table: rows with ``first`` and ``second``, equal in ``also``, every other setting and the seed.

    Rows that are equal in all of that are averaged. Where the two sides of a configuration share no seed, their means
    are compared. A setting that has one value on the first side and another one on the second goes along with it.
    """
    rows, repeats = without_repeats(chosen(table, where, (setting, y, *also, *(match or ()))))
    points = numeric_points(rows, (), y, positive=(y,) if relative else ())
    sides = [_side(rows.loc[points.rows, setting], value) for value in (first, second)]
    either = sides[0] | sides[1]
    used, second_side = rows.loc[points.rows][either], sides[1][either]
    values = np.log(points.y[either]) if relative else points.y[either]
    names = list(match) if match is not None else [*also, *settings(used, (setting, y, *also))]
    along = [] if match is not None else [name for name in names if _goes_along(used[name], second_side)]
    equal = names if match is not None else needed(used, [name for name in names if name not in along])
    mixed = comparable(used, (y,))
    frame = pd.DataFrame({"configuration": strata(used, equal), "seed": _seeds(used), "second": second_side,
                          "value": values, "row": np.arange(len(used))})  # fmt: skip
    differences = _differences(frame)
    if differences.empty:
        raise TableError(
            f"no two rows differ in {setting} alone", given=f"{first!r} and {second!r}, with different "
            f"{wording.listed(name for name in equal if varies(used[name]))}",
            allowed="the columns that pairs must share, named with match",
        )  # fmt: skip
    alone = frame["configuration"].nunique() - differences["configuration"].nunique()
    notes = [f"{wording.plural(alone, 'configuration')} without a counterpart"] if alone else []
    return Pairs(
        differences["value"].to_numpy(dtype=np.float64), differences["configuration"].to_numpy(dtype=np.int64),
        used.iloc[differences["row"]], tuple(equal), tuple(along),
        tuple(dict.fromkeys((*points.warnings, *repeats, *mixed, *notes))),
    )  # fmt: skip


def _side(values: pd.Series[Any], value: Any) -> npt.NDArray[np.bool_]:
    """The rows of one side; ``TableError`` with the values there are where there is none."""
    side = same(values, value)
    if not side.any():
        shown = list(dict.fromkeys(str(cell) for cell in values))
        raise TableError(
            f"no row has this value of {values.name}", given=repr(value), allowed=one_of(shown, str(value))
        )
    return side


def _goes_along(values: pd.Series[Any], second: npt.NDArray[np.bool_]) -> bool:
    """Whether a column has one value on the first side and another one on the second."""
    cells = values.astype("string").fillna("")
    sides = [set(cells[~second]), set(cells[second])]
    return all(len(side) == 1 for side in sides) and sides[0] != sides[1]


def _seeds(table: pd.DataFrame) -> npt.NDArray[Any]:
    if "seed" not in table:
        return np.full(len(table), "", dtype=object)
    return np.asarray(table["seed"].astype("string").fillna(""), dtype=object)


def _differences(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns configuration, value and row: one line per pair of seeds, or per configuration that shares no seed."""

    def compare(keys: list[str], rows: pd.DataFrame) -> pd.DataFrame:
        means = rows.groupby([*keys, "second"], sort=False)["value"].mean().unstack("second")
        if means.shape[1] < 2:
            return pd.DataFrame({"configuration": [], "value": [], "row": []})
        first_row = rows.groupby(keys, sort=False)["row"].min()
        both = means.dropna().index
        found = pd.DataFrame({"value": means.loc[both, True] - means.loc[both, False], "row": first_row[both]})
        return found.reset_index()[["configuration", "value", "row"]]

    seeded = compare(["configuration", "seed"], frame)
    rest = compare(["configuration"], frame[~frame["configuration"].isin(seeded["configuration"])])
    found = pd.concat([one for one in (seeded, rest) if len(one)] or [seeded], ignore_index=True)
    return found.astype({"configuration": np.int64, "row": np.int64})
