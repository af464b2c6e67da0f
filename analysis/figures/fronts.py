"""What a budget buys: the best measure at every budget, and how the budget is best divided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.curves import CONFIDENCE_ALPHA, MANY, keep_in_view
from analysis.figures.labels import along, label_points
from analysis.figures.legends import name_axes, place_legend
from analysis.figures.series import better, finite
from analysis.figures.ticks import linear_axis, log10_axis, size_axis
from analysis.style import FAINT, Look, axis_label, short

Array = npt.NDArray[np.float64]


def frontier(
    answer: Any, axes: Axes, *, table: pd.DataFrame | None = None, show: Literal["measure", "size"] = "measure"
) -> Axes:
    """Draw an answer of ``questions.iso_frontier``: trials, the best of them at each budget, the surface's best.

    ``show="measure"`` draws the measure against the budget (iso-FLOP or iso-parameter frontier), with the two sizes
    written at the steps; ``show="size"`` draws the first of the two sizes that is best at each budget. ``table`` adds
    all trials as faint dots. The band is the interval of the surface's best.
    """
    first = answer.sizes[0]
    y = answer.y if show == "measure" else first
    if table is not None:
        cloud = finite(table, answer.budget, y)
        axes.plot(cloud[answer.budget], cloud[y], ".", color=FAINT, zorder=1, rasterized=len(cloud) > MANY,
                  label=f"trials: n = {len(cloud)}")  # fmt: skip
    budgets = np.array([step.budget for step in answer.trials])
    values = np.array([step.y if show == "measure" else step.sizes[0] for step in answer.trials])
    look = Look.of(0)
    if show == "measure" and len(budgets) > 1:
        axes.step(
            budgets, values, where="post", color=look.color, lw=0.8 * matplotlib.rcParams["lines.linewidth"], zorder=2
        )
    between = " + " if answer.form == "sum" else " \N{MULTIPLICATION SIGN} "
    told = (
        f"best so far ({between.join(axis_label(name) for name in answer.sizes)})"
        if show == "measure"
        else "best so far"
    )
    axes.plot(budgets, values, look.marker, color=look.color, mec="white", mew=0.5, zorder=4, label=told)
    drawn = _draw_surface(axes, answer.surface, show, Look.of(1))
    _scale(axes, budgets, values, drawn, table, answer.budget, y)
    if show == "measure":
        _label_steps(axes, answer, between, [(cloud[answer.budget], cloud[y])] if table is not None else [])
    name_axes(axes, answer.budget, y, table)
    place_legend(axes)
    return axes


def _label_steps(axes: Axes, answer: Any, between: str, others: Sequence[tuple[Any, Any]]) -> None:
    """The two sizes of each step, the best first, away from all lines and trials."""
    steps = answer.trials[::-1]
    budgets, values = np.array([one.budget for one in steps]), np.array([one.y for one in steps])
    taken = [along(np.repeat(budgets, 2)[:-1], np.repeat(values, 2)[1:])]
    taken += [np.column_stack([np.asarray(side, float) for side in pair]) for pair in others]
    if answer.surface:
        taken.append(along([one.budget for one in answer.surface], np.exp([one.y.value for one in answer.surface])))
    texts = [between.join(short(float(f"{size:.3g}")) for size in one.sizes) for one in steps]
    label_points(axes, budgets, values, texts, obstacles=np.concatenate(taken))


def _draw_surface(axes: Axes, levels: Sequence[Any], show: str, look: Look) -> Array:
    """The surface's best and its interval at each budget; hands back the values drawn, to keep them in view."""
    if not levels:
        return np.array([])
    x = np.array([one.budget for one in levels])
    best = [one.y if show == "measure" else one.first for one in levels]
    value, low, high = (np.array([np.nan if v is None else v for v in side], dtype=float) for side in
                        ([b.value for b in best], [b.low for b in best], [b.high for b in best]))  # fmt: skip
    if show == "measure":  # the surface is one of errors, told in logarithms
        value, low, high = np.exp(value), np.exp(low), np.exp(high)
    axes.fill_between(x, low, high, color=look.color, alpha=CONFIDENCE_ALPHA, lw=0, zorder=1)
    axes.plot(x, value, color=look.color, linestyle=look.line, zorder=3, label="best by the fitted surface")
    return value


def _scale(axes: Axes, budgets: Array, values: Array, drawn: Array, table: pd.DataFrame | None, x: str, y: str) -> None:
    places, heights = [budgets], [values, drawn]
    if table is not None:
        cloud = finite(table, x, y)
        places.append(cloud[x].to_numpy(float))
        heights.append(cloud[y].to_numpy(float))
    everything = np.concatenate(heights)
    size_axis(axes.xaxis, np.concatenate(places))
    ratios = bool(everything.min() > 0 and everything.max() > 3 * everything.min() and better(y) != "higher")
    keep_in_view(axes, everything, ratios)
    if ratios:
        log10_axis(axes.yaxis)
    if axes.get_yscale() == "linear":
        linear_axis(axes.yaxis)
