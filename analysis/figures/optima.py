"""The best size: curves with a turning point, where it is, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from analysis.figures.curves import scaling_curve
from analysis.figures.legends import place_legend, say
from analysis.figures.series import Series, group_label, value_label
from analysis.style import QUIET, Look, looks_of, short


@dataclass(frozen=True)
class _Valley:
    """What is drawn of one answer or fit: its points and curve, and where it turns, if that is resolved."""

    name: str
    points: pd.DataFrame
    curve: Any
    logarithmic: bool
    best: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class _Exponential:
    """A fit of the logarithm of a measure, seen in the measure itself."""

    fit: Any

    @property
    def n(self) -> int:
        """The number of configurations behind the fit."""
        return int(self.fit.n)

    def predict(self, x: npt.ArrayLike, interval: float | None = None, kind: Any = "confidence") -> pd.DataFrame:
        """As the fit's, with exponentials of all values."""
        with np.errstate(over="ignore"):
            return np.exp(self.fit.predict(x, interval=interval, kind=kind))


def optimum(
    found: Sequence[Any], axes: Axes, *, table: pd.DataFrame | None = None, level: float = 0.95, most: int = 8
) -> Axes:
    """Draw curves that turn, one a group, each with its best size and, above the panel, the interval of that as a bar.

    ``found`` holds answers of ``questions.best_bottleneck`` or plain ``Fit``; ``table`` the trials behind the answers,
    so that single seeds are seen. A bar that ends in a triangle goes on beyond the panel; where no best size is
    resolved there is no bar, and the legend says so. At most ``most`` groups are drawn, the first ones, and the legend
    says how many are not.
    """
    valleys = [_of_answer(one, table) if hasattr(one, "best_measured") else _of_fit(one) for one in _by_size(found)]
    if not valleys:
        say(axes, "no curve to draw")
        return axes
    x = found[0].x if isinstance(found[0].x, str) else found[0].x[0]
    series = [Series(one.name, one.points, one.curve, logarithmic=one.logarithmic) for one in valleys[:most]]
    scaling_curve(series, axes, x=x, y=found[0].y, level=level, legend=False)
    left, right = sorted(axes.get_xlim())
    for place, (one, look) in enumerate(zip(valleys[:most], looks_of([one.label for one in series]), strict=True)):
        if one.best is not None:
            _draw_best(axes, one.best, look, place, left, right)
    axes.set_xlim(left, right)
    if len(valleys) > most:
        axes.plot([], [], " ", label=f"{len(valleys) - most} more not drawn")
    bar = Line2D([], [], color=QUIET, lw=1.8, marker="|", ms=5)
    resolved = any(one.best is not None for one in valleys)
    place_legend(axes, [(bar, f"{100 * level:.4g} % interval of the best size")] if resolved else [])
    return axes


def _of_answer(one: Any, table: pd.DataFrame | None) -> _Valley:
    best = None
    if one.resolved and one.at is not None:
        best = (float(one.size), float(one.low), float(one.high), float(one.at))
    in_logs = one.relative and one.fit is not None and not one.fit.task.law.log_residuals
    curve = _Exponential(one.fit) if in_logs else one.fit
    points = _rows(table, one.group) if table is not None else _fitted(one.fit, one.x, one.y, in_logs)
    return _Valley(_said(group_label(dict(one.group)), best), points, curve, bool(one.relative), best)


def _of_fit(one: Any) -> _Valley:
    turn = one.optimum
    best = None if turn is None else (turn["x"], turn["low"], turn["high"], turn["y"])
    name = "" if one.group is None else value_label(one.group)
    return _Valley(_said(name, best), _fitted(one, one.x[0], one.y, False), one, one.task.law.log_residuals, best)


def _by_size(found: Sequence[Any]) -> list[Any]:
    """Groups in the order of their parameters, where answers know them: a size's letter sorts badly."""
    known = [dict(one.sizes) if hasattr(one, "best_measured") else {} for one in found]
    names = sorted(set.intersection(*(set(sizes) for sizes in known))) if known else []
    order = sorted(range(len(found)), key=lambda i: [known[i][name] for name in names])
    return [found[i] for i in order]


def _rows(table: pd.DataFrame, group: Any) -> pd.DataFrame:
    """The rows of a group, absence being a value."""
    chosen = np.ones(len(table), dtype=bool)
    for name, value in group.items():
        chosen &= (table[name].isna() if value is None else table[name] == value).to_numpy(dtype=bool)
    return table[chosen]


def _fitted(fit: Any, x: str, y: str, in_logs: bool) -> pd.DataFrame:
    if fit is None:
        return pd.DataFrame({x: [], y: []}, dtype=float)
    return pd.DataFrame({x: fit.points.x[0], y: np.exp(fit.points.y) if in_logs else fit.points.y})


def _said(name: str, best: tuple[float, float, float, float] | None) -> str:
    """The group and its best size in words."""
    if best is None:
        return f"{name}, best size not resolved" if name else "best size not resolved"
    size, low, high = (short(float(f"{value:.2g}")) for value in best[:3])
    return f"{name}, best {size} [{low}, {high}]".removeprefix(", ")


def _draw_best(
    axes: Axes, best: tuple[float, float, float, float], look: Look, place: int, left: float, right: float
) -> None:
    """A hollow marker on the curve, and above the panel, a row a group, the size with the bar of its interval."""
    size, low, high, value = best
    height = 1.035 + 0.045 * place
    above = blended_transform_factory(axes.transData, axes.transAxes)
    axes.plot([size], [value], look.marker, mfc="white", mec=look.color, mew=1.2, zorder=6, gid="best")
    axes.plot([max(low, left), min(high, right)], [height, height], color=look.color, lw=1.8, transform=above,
              clip_on=False, zorder=5, solid_capstyle="butt", gid="interval")  # fmt: skip
    axes.plot([size], [height], look.marker, color=look.color, mec="white", mew=0.5, transform=above, clip_on=False,
              zorder=6)  # fmt: skip
    for end, cut, mark in ((max(low, left), low < left, "<"), (min(high, right), high > right, ">")):
        axes.plot([end], [height], mark if cut else "|", color=look.color, ms=4 if cut else 5, mew=1.1,
                  transform=above, clip_on=False, zorder=5)  # fmt: skip
