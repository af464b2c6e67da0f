"""A measure against a size, with fitted laws and their bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.series import Series, finite
from analysis.fitting import Fit
from analysis.laws import LAWS
from analysis.style import PUBLISHED_GREY, Look, axis_label, log2_axis, log10_axis, size_axis

BITS = frozenset({"ar_bits_per_image", "bottleneck_bits"})


@dataclass(frozen=True)
class Reference:
    """Published points to lay under one's own: what they are, and where they were read."""

    label: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


def scaling_curve(
    series: Sequence[Series], axes: Axes, *, x: str, y: str, references: Sequence[Reference] = (), bands: bool = True
) -> Axes:
    """Draw every trial as a point, every fit as a line with its 95 % confidence band and, lighter, its prediction band.

    Lines end where the data end: nothing is extrapolated. Where seeds repeat a size, all of them are drawn, and a short
    bar marks their mean.
    """
    drawn = [(Look.of(i), one, finite(one.points, x, y)) for i, one in enumerate(series)]
    for reference in references:
        axes.plot(reference.x, reference.y, "*", color=PUBLISHED_GREY, alpha=0.75, zorder=1, label=reference.label)
    for look, one, points in drawn:
        if one.fit is not None and len(points):
            _draw_fit(axes, one.fit, points[x], look, bands)
        _draw_points(axes, points, x, y, look, one.legend())
    _scale(axes, drawn, x, y, references)
    everything = pd.concat([one.points for one in series]) if series else None
    axes.set_xlabel(axis_label(x, everything))
    axes.set_ylabel(axis_label(y, everything))
    place_legend(axes)
    return axes


def place_legend(axes: Axes) -> None:
    """The legend below the axes, where it hides no point."""
    handles, labels = axes.get_legend_handles_labels()
    shown = [(handle, label) for handle, label in zip(handles, labels, strict=True) if label]
    if shown:
        axes.legend(
            *zip(*shown, strict=True), loc="upper center", bbox_to_anchor=(0.5, -0.19),
            ncols=1 if len(shown) < 4 else 2, handlelength=2.6, columnspacing=1.2, borderaxespad=0.2,
        )  # fmt: skip


def _draw_points(axes: Axes, points: pd.DataFrame, x: str, y: str, look: Look, label: str) -> None:
    linestyle = look.line if label else "none"
    axes.plot(points[x], points[y], look.marker, color=look.color, mec="white", mew=0.6, alpha=0.9, zorder=4)
    # An empty line carries the legend entry: marker and line style together, as the group looks.
    axes.plot([], [], marker=look.marker, color=look.color, linestyle=linestyle, mec="white", mew=0.6, label=label)
    repeated = points.groupby(x)[y].agg(["mean", "count"]).query("count > 1")
    axes.plot(repeated.index, repeated["mean"], "_", color=look.color, ms=13, mew=1.2, alpha=0.8, zorder=3)


def _draw_fit(axes: Axes, fit: Fit, x: pd.Series[float], look: Look, bands: bool) -> None:
    low, high = float(x.min()), float(x.max())
    if not 0 < low < high:
        return
    grid = np.geomspace(low, high, 80)
    line = fit.predict(grid, interval=0.95, kind="confidence")
    axes.plot(grid, line["value"], color=look.color, linestyle=look.line, zorder=3)
    if not bands:
        return
    prediction = fit.predict(grid, interval=0.95, kind="prediction")
    axes.fill_between(grid, prediction["low"], prediction["high"], color=look.color, alpha=0.07, lw=0, zorder=1)
    axes.fill_between(grid, line["low"], line["high"], color=look.color, alpha=0.18, lw=0, zorder=2)


def _scale(
    axes: Axes, drawn: Sequence[tuple[Look, Series, pd.DataFrame]], x: str, y: str, references: Sequence[Reference]
) -> None:
    xs = np.concatenate([points[x].to_numpy(float) for _, _, points in drawn] + [r.x for r in references] + [[]])
    ys = np.concatenate([points[y].to_numpy(float) for _, _, points in drawn] + [r.y for r in references] + [[]])
    if len(ys) == 0:
        return
    # A law whose residuals are logarithmic is seen as it was fitted.
    logarithmic = any(one.fit is not None and LAWS[one.fit.law].log_residuals for _, one, _ in drawn)
    logarithmic = bool((logarithmic or y in BITS) and ys.min() > 0)
    size_axis(axes.xaxis, xs)
    keep_in_view(axes, ys, logarithmic)
    if logarithmic and y in BITS:
        log2_axis(axes.yaxis, *axes.get_ylim())
    elif logarithmic:
        log10_axis(axes.yaxis, *axes.get_ylim())


def keep_in_view(axes: Axes, values: npt.NDArray[np.float64], logarithmic: bool = False) -> None:
    """Limit the y axis to the data with room around: with few points a prediction band may be a hundred times wider."""
    low, high = float(values.min()), float(values.max())
    bottom, top = axes.get_ylim()
    if logarithmic:
        room = (high / low) ** 0.3 if high > low else 1.3
        axes.set_ylim(max(bottom, low / room), min(top, high * room))
    else:
        room = 0.35 * (high - low) or abs(high) * 0.1 or 1.0
        axes.set_ylim(max(bottom, low - room), min(top, high + room))
