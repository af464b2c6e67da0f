"""Is a measure better or worse at larger size, and by how much per doubling?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.questions import wording
from analysis.questions.answers import Alternative, Answer, Better, Estimate, Verdict, check_level, direction, verdict
from analysis.questions.configurations import chosen, configurations, each_group
from analysis.questions.measures import better_of, on_log_scale, unit_of
from analysis.questions.regression import within as regress_within
from analysis.questions.settings import SPAN, equal_for, strata, varied
from tokscale.errors import TableError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SizeEffect(Answer):
    """The change of a measure with every doubling of a size, over ``n`` configurations in ``strata`` of equal settings.

    ``per_doubling`` is in natural logarithms of the measure if ``relative``, else in its unit. ``held`` were equal
    within every stratum; ``along`` changed with the size and may be what the effect is of.
    """

    y: str
    size: str
    group: Mapping[str, Any]
    n: int
    strata: int
    per_doubling: Estimate
    relative: bool
    better: Better
    alternative: str
    level: float
    verdict: Verdict
    smallest: float
    largest: float
    held: tuple[str, ...]
    along: tuple[str, ...]
    warnings: tuple[str, ...]

    def sentence(self) -> str:
        change = wording.effect(self.per_doubling, self.relative, unit_of(self.y))
        evidence = f"n = {self.n}" + (f" in {self.strata} strata" if self.strata > 1 else "")
        evidence += f", {wording.chance(self.per_doubling.p, self.alternative)}"
        if self.held:
            evidence += f", at equal {wording.listed(self.held)}"
        start = f"{wording.of_group(self.group)}with each doubling of {wording.label(self.size)}"
        y = wording.label(self.y)
        if self.per_doubling.p is None:
            return f"{start}, {y} changes by {change} ({evidence}): too few configurations to resolve it."
        if self.verdict == "unresolved":
            return f"{start}, a change of {y} is not resolved: {change} ({evidence})."
        return f"{start}, {y} gets {self.verdict}: {change} ({evidence})."


def size_effect(
    table: pd.DataFrame, y: str, size: str = "tokenizer_params", by: str | Sequence[str] | None = None, *,
    within: Sequence[str] | None = None, where: str | None = None, level: float = 0.95,
    alternative: Alternative = "two-sided", better: str | None = None, relative: bool | None = None,
) -> SizeEffect | list[SizeEffect]:  # fmt: skip
    """The change of ``y`` per doubling of ``size``: a line in log2 size, with Student's interval over configurations.

    Seeds are averaged first. Every other setting that varies is held equal: strata of rows that share all of them have
    a level each and one slope in common (``within`` names the columns instead; an empty one pools all rows). Errors,
    rates and Fréchet distances change by a share, other measures by their unit. The verdict is "better" or "worse" if
    the p value of the stated ``alternative`` is below 1 - level, else "unresolved". ``by`` asks each of its values
    apart and gives a list. Raises ``TableError`` for columns that cannot be asked.
    """
    check_level(level)
    way, relative = better_of(y, better), on_log_scale(y, relative)
    sign = direction(alternative, way)
    groups = (by,) if isinstance(by, str) else tuple(by or ())

    def ask(rows: pd.DataFrame, group: Mapping[str, Any]) -> SizeEffect:
        found = configurations(rows, (size,), y, relative=relative)
        held, along = (list(within), []) if within is not None else equal_for(found.table, size, (y, *groups))
        if along and not varied(found.table, size):
            raise TableError(
                f"{size} changes only because {wording.listed(along)} does", given=f"{y} against {size}",
                allowed=f"rows that differ in {size} of their own accord, or columns named within",
            )  # fmt: skip
        slope = slope_of(found.x[0], found.y, strata(found.table, held), size, level, sign)
        notes = [f"{wording.listed(along)} changes along with {size}"] if along else []
        return SizeEffect(
            y, size, group, slope.n, slope.strata, slope.estimate, relative, way, alternative, level,
            verdict(slope.estimate, way, level), slope.smallest, slope.largest, tuple(held), tuple(along),
            (*found.warnings, *slope.notes, *notes),
        )  # fmt: skip

    answers, refused = each_group(chosen(table, where, (size, y)), groups, ask)
    answers = [replace(one, warnings=(*one.warnings, *refused)) for one in answers]
    return answers if groups else answers[0]


@dataclass(frozen=True)
class Slope:
    """A slope per doubling, and the configurations that it stands on."""

    estimate: Estimate
    n: int
    strata: int
    smallest: float
    largest: float
    notes: tuple[str, ...]


def slope_of(sizes: Array, y: Array, stratum: npt.NDArray[np.int64], name: str, level: float, sign: int = 0) -> Slope:
    """The slope of y (n,) per doubling of sizes (n,) within strata (n,) that span 5 % of size or more."""
    octaves = np.log2(sizes)
    _, place = np.unique(stratum, return_inverse=True)
    ends = np.full((2, place.max() + 1), -np.inf)
    for side, values in zip(ends, (octaves, -octaves), strict=True):
        np.maximum.at(side, place, values)
    used = ends.sum(axis=0)[place] > np.log2(SPAN)
    if not used.any():
        raise TableError(
            "no two rows that are equal otherwise differ in size", given=f"{name} in {len(y)} configurations",
            allowed="two sizes or more; name the columns to hold equal with within, none of them to pool all rows",
        )  # fmt: skip
    line = regress_within(octaves[None, used], y[used], stratum[used])
    assert line is not None, "sizes differ within a stratum"
    notes = [] if used.all() else [f"{int((~used).sum())} configurations have no counterpart of another size"]
    return Slope(
        line.contrast([1.0], level, sign), int(used.sum()), len(np.unique(stratum[used])),
        float(sizes[used].min()), float(sizes[used].max()), tuple(notes),
    )  # fmt: skip
