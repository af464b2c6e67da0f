"""The bottleneck size at which a measure is best: too small cannot reconstruct, too large cannot be modelled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.fitting import Fit, fit
from analysis.questions import wording
from analysis.questions.answers import Answer, Better, check_level
from analysis.questions.averaging import average_limits
from analysis.questions.configurations import Configurations, chosen, configurations, each_group
from analysis.questions.criteria import LEAST, Score, asked, scores
from analysis.questions.measures import better_of, on_log_scale
from analysis.questions.settings import varies
from tokscale.errors import TableError, UsageError, one_of

Array = npt.NDArray[np.float64]
LAWS = ("quadratic", "valley")
_APART = ("dataset", "data.resolution", "data.frames", "bottleneck", "encoder", "decoder", "training.images",
          "probe.kind", "probe.size.width", "probe.size.depth", "probe.training.images")  # fmt: skip
_SIZES = ("encoder_params", "decoder_params", "tokenizer_params", "probe_params")
# Units of AICc. Burnham and Anderson (2002): a law less than four behind is not ruled out. Noisy curves that flatten
# are then taken for valleys in 0 to 7 % of simulations; without this rule, in up to all of them at twelve sizes.
_MARGIN = 4.0
# Of a law's weight: below it, that the law's own turn is not certain is no evidence against the turn of the other. Its
# interval, where it has one, still widens the answer's: at few points AICc punishes a true valley's five parameters.
_SLIGHT = 0.05
_ONE_FORM = "the interval of the best size takes a parabola in log x for true: it knows of no other shape"


@dataclass(frozen=True)
class BestSize(Answer):
    """The size x at which y is best in one group, with its interval; None, and the ``reason``, where unresolved.

    ``weights`` are those of the laws with an optimum by AICc; ``best_measured`` is the size of the best configuration
    as it was measured, noise included; ``sizes`` are the group's mean parameters, for ``optimum_shift``.
    """

    y: str
    x: str
    group: Mapping[str, Any]
    n: int
    law: str | None
    size: float | None
    low: float | None
    high: float | None
    at: float | None
    freedom: int
    level: float
    better: Better
    resolved: bool
    reason: str | None
    best_measured: float
    smallest: float
    largest: float
    weights: Mapping[str, float]
    sizes: Mapping[str, float]
    warnings: tuple[str, ...]
    relative: bool = field(repr=False)
    fit: Fit | None = field(repr=False, compare=False, default=None)

    def curve(self, sizes: npt.ArrayLike) -> Array:
        """The fitted measure (m,) at sizes (m,), in its own unit; ``UsageError`` where there is no fit."""
        if self.fit is None:
            raise UsageError("no law could be fitted to this group", given=self.reason)
        value = self.fit.predict(np.asarray(sizes, dtype=np.float64))["value"].to_numpy(dtype=np.float64)
        return np.asarray(np.exp(value) if self.relative and self.fit.law == "quadratic" else value)

    def sentence(self) -> str:
        start = f"{wording.of_group(self.group)}{wording.label(self.y)}"
        x, evidence = wording.label(self.x), f"n = {self.n}"
        if not self.resolved:
            where = f"the best measured is {x} = {wording.count(self.best_measured)}"
            return f"{start}: no interior optimum is resolved ({self.reason}; {where}, {evidence})."
        assert self.size is not None
        assert self.low is not None
        assert self.high is not None
        assert self.at is not None
        ends = f"[{wording.count(self.low)}, {wording.count(self.high)}]"
        return (
            f"{start} is best, {wording.number(self.at)}, at {x} = {wording.count(self.size)} {ends} "
            f"({'a parabola in log x taken for true' if self.law == 'quadratic' else self.law}, {evidence})."
        )


def best_bottleneck(
    table: pd.DataFrame, y: str, x: str = "bottleneck_floats", by: Sequence[str] | None = None, *,
    law: str | None = None, average: bool = False, where: str | None = None, level: float = 0.95,
    better: str | None = None, relative: bool | None = None,
) -> list[BestSize]:  # fmt: skip
    """The best size of each group, by a parabola in log x and, of eight points or more, by a ``valley``.

    Errors, rates and Fréchet distances are fitted in their logarithm; other measures by a parabola alone. The size is
    that of the law that AICc prefers, and the interval holds those of both laws where they turn (``average`` takes the
    weighted mean of both instead, ``law`` only one). Groups are told by the columns ``by``: if not given, by the data,
    the kind of bottleneck, encoder, decoder, and the probe's size, where they vary. An optimum is resolved only if its
    interval lies between the smallest and the largest size, and if a curve that merely flattens (a power law with a
    floor, or a ceiling) describes the points clearly worse. Raises ``TableError`` for columns that cannot be asked.
    """
    check_level(level)
    if law is not None and law not in LAWS:
        raise UsageError("no law with an optimum", given=law, allowed=one_of(LAWS, law))
    way = better_of(y, better)
    relative = on_log_scale(y, relative)
    if law == "valley" and (way == "higher" or relative is False):
        raise UsageError("a valley is a law of errors, of their logarithm", given=y, allowed="law='quadratic'")
    rows = chosen(table, where, (x, y))
    groups = [name for name in _APART if name in rows and varies(rows[name])] if by is None else list(by)
    laws = (law,) if law is not None else LAWS

    def ask(part: pd.DataFrame, group: Mapping[str, Any]) -> BestSize:
        found = configurations(part, (x,), y, relative=relative)
        return _best(found, laws, x, y, group, way, level, average)

    answers, refused = each_group(rows, groups, ask)
    return [replace(one, warnings=(*one.warnings, *refused)) for one in answers]


def _best(
    found: Configurations, laws: Sequence[str], x: str, y: str, group: Mapping[str, Any], way: Better, level: float,
    average: bool,
) -> BestSize:  # fmt: skip
    sizes = found.x[0]
    places = {name: float(numbers.mean()) for name in _SIZES if name in found.table
              and (numbers := pd.to_numeric(found.table[name], errors="coerce").dropna()).size}  # fmt: skip
    measured = float(sizes[found.y.argmin() if way == "lower" else found.y.argmax()])
    open_ = BestSize(y, x, group, len(sizes), None, None, None, None, None, 0, level, way, False, None, measured,
                     float(sizes.min()), float(sizes.max()), {}, places, found.warnings, found.relative)  # fmt: skip
    if len(np.unique(sizes)) < 4:
        return replace(open_, reason=f"{wording.plural(len(np.unique(sizes)), 'size')}, four are needed")
    if tuple(laws) == ("valley",) and len(sizes) < LEAST["valley"]:
        return replace(open_, reason=f"a valley of five parameters needs {LEAST['valley']} points")
    several = {name: _fit(found, name, x, y, level) for name in asked(laws, len(sizes), found.relative)}
    turning, flat = scores(found.x, found.y, found.relative, way, {name: float(one.solution.cost[0])
                                                                   for name, one in several.items()})  # fmt: skip
    weights = _weights(turning)
    fits = {name: several[name] for name in weights}
    first = fits[next(iter(weights))]
    notes = [_ONE_FORM] if list(fits) == ["quadratic"] else []
    answer = replace(
        open_, law=first.law, weights=weights, fit=first, freedom=min(one.task.freedom for one in fits.values()),
        warnings=tuple(dict.fromkeys((*found.warnings, *first.warnings, *notes))),
    )  # fmt: skip
    if flat.score <= turning[first.law].score + _MARGIN:
        return replace(answer, reason=f"a curve that flattens and does not turn, {flat.law}, is not ruled out")
    return _resolved(answer, fits, average)


def _resolved(answer: BestSize, fits: Mapping[str, Fit], average: bool) -> BestSize:
    """The answer with its size and interval, or with the reason why there is none."""
    kind = "minimum" if answer.better == "lower" else "maximum"
    ends, notes = {}, []
    for name, one in fits.items():
        if one.optimum is None or one.optimum["kind"] != kind:
            said = f"by the {name} law, no turn between the sizes measured is certain"
            if answer.weights[name] >= _SLIGHT:
                return replace(answer, reason=said)
            notes.append(f"{said}; of weight {answer.weights[name]:.2g} by AICc, it has no say")
            continue
        ends[name] = (one.optimum["x"], one.optimum["low"], one.optimum["high"], one.task.freedom)
    size, low, high = average_limits(ends, answer.weights, answer.level) if average else _widest(ends)
    if not (low > answer.smallest and high < answer.largest):
        return replace(answer, reason="the interval of the best size reaches beyond the sizes measured")
    notes += [_ONE_FORM] if notes and list(ends) == ["quadratic"] else []
    answer = replace(answer, size=size, low=low, high=high, resolved=True, law=" and ".join(ends),
                     warnings=(*answer.warnings, *notes))  # fmt: skip
    return replace(answer, at=float(answer.curve([size])[0]))


def _widest(ends: Mapping[str, tuple[float, float, float, int]]) -> tuple[float, float, float]:
    """The first law's value, within limits that hold the intervals of all laws.

    Where a valley is true, eight to twelve points let AICc prefer a parabola, whose interval may then miss the minimum
    every time; where a parabola is true, the valley's interval still covers it.
    """
    return next(iter(ends.values()))[0], min(one[1] for one in ends.values()), max(one[2] for one in ends.values())


def _weights(turning: Mapping[str, Score]) -> dict[str, float]:
    """Akaike weights, the largest first."""
    least = min(one.score for one in turning.values())
    raw = {name: math.exp(-(one.score - least) / 2) for name, one in turning.items()}
    return {name: raw[name] / sum(raw.values()) for name in sorted(raw, key=lambda name: -raw[name])}


def _fit(found: Configurations, law: str, x: str, y: str, level: float) -> Fit:
    """The law fitted to the configurations as they are; a parabola of a relative measure is one of its logarithm."""
    logarithm = found.relative and law == "quadratic"
    name = f"ln {y}" if logarithm else y
    values = np.exp(found.y) if found.relative and not logarithm else found.y
    one = fit(pd.DataFrame({x: found.x[0], name: values}), law=law, x=x, y=name, interval=level)
    assert isinstance(one, Fit)
    if one.n < len(found.y):
        raise TableError("configurations are equal in every number", given=f"{x} and {y}")
    return one
