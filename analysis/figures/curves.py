"""A measure against a size, with fitted laws and their bands."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import blended_transform_factory

from analysis.figures.legends import name_axes, place_legend, say
from analysis.figures.series import Series, averaged, finite, missing
from analysis.figures.ticks import linear_axis, log2_axis, log10_axis, size_axis
from analysis.style import PUBLISHED_GREY, QUIET, Look, looks_of

Array = npt.NDArray[np.float64]
BITS = frozenset({"ar_bits_per_image", "bottleneck_bits"})
MANY = 1500  # points beyond this many are drawn small, and as one picture inside a vector file
_STEPS, _BAND_STEPS = 120, 60
_PUBLISHED = ("*", "P", "X", "D")  # markers of published curves, which are all grey
_BANDS_OF = 6  # fits with confidence bands in one panel; more of them are a fog
_PREDICTIONS_OF = 2
_ROOM, _PAD = 0.18, 0.05  # beyond the data, at most and at least, as shares of their span
CONFIDENCE_ALPHA, PREDICTION_ALPHA = 0.22, 0.09


@dataclass(frozen=True)
class Reference:
    """Published points to lay under one's own: what they are, and where they were read."""

    label: str
    x: Array
    y: Array


def scaling_curve(
    series: Sequence[Series], axes: Axes, *, x: str, y: str, references: Sequence[Reference] = (), bands: bool = True,
    level: float = 0.95, legend: bool = True,
) -> Axes:  # fmt: skip
    """Draw every trial as a point, every fit as a line with its confidence band and, lighter, its prediction band.

    Lines end where the data end: nothing is extrapolated. Where seeds repeat a configuration, all of them are drawn and
    a short bar marks their mean. Rows that a series excludes are hollow crosses, at the axis where a logarithm cannot
    show them; the legend says how many and why. Prediction bands are drawn for up to two fits, confidence bands for up
    to six.
    """
    looks = looks_of([one.label for one in series])
    drawn = [(look, one, finite(one.points, x, y)) for look, one in zip(looks, series, strict=True)]
    everything = pd.concat([one.points for one in series], ignore_index=True) if series else pd.DataFrame()
    if not any(len(points) for _, _, points in drawn) and not references:
        say(axes, missing(everything, x, y))
        name_axes(axes, x, y, everything)
        return axes
    for reference, marker in zip(references, itertools.cycle(_PUBLISHED)):
        axes.plot(reference.x, reference.y, marker, color=PUBLISHED_GREY, alpha=0.75, zorder=1, label=reference.label)
    fitted = [(look, one.fit, points) for look, one, points in drawn if one.fit is not None and len(points)]
    for look, found, points in fitted:
        _draw_fit(axes, found, points[x], look, level, bands and len(fitted) <= _BANDS_OF,
                  bands and len(fitted) <= _PREDICTIONS_OF)  # fmt: skip
    for look, one, points in drawn:
        _draw_points(axes, points, x, y, look, one.legend(), one.fit is not None)
    _scale(axes, drawn, x, y, references)
    _draw_excluded(axes, series, x, y)
    name_axes(axes, x, y, everything)
    if legend:
        place_legend(axes, _band_handles(len(fitted), level) if bands else ())
    return axes


def curve(
    found: Any, axes: Axes, *, table: pd.DataFrame | None = None, label: str = "", level: float | None = None
) -> Axes:
    """Draw one fit or averaged choice with its points: those of ``table``, else the ones that it was fitted to.

    Bands are at the fit's own level if no other is given. A law of several columns has no single size axis: its
    measurements are drawn against its fitted values.
    """
    first = found.fits[0] if hasattr(found, "fits") else found
    if len(first.x) > 1:
        return _parity(first, axes)
    (x,), y = first.x, first.y
    points = table if table is not None else pd.DataFrame({x: first.points.x[0], y: first.points.y})
    return scaling_curve([Series(label, points, found)], axes, x=x, y=y, level=level or first.level)


def _parity(found: Any, axes: Axes) -> Axes:
    rows = found.residuals
    look = Look.of(0)
    both = rows[["value", found.y]].to_numpy(float)
    ends = [both.min(), both.max()]
    axes.plot(ends, ends, color=QUIET, lw=0.8, label="measured = fitted")
    axes.plot(rows["value"], rows[found.y], look.marker, color=look.color, mec="white", mew=0.5,
              label=Series("", rows, found).legend())  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        if found.task.law.log_residuals:
            log10_axis(axis, both)
        if axis.get_scale() == "linear":
            linear_axis(axis)
    name_axes(axes, found.y, found.y)
    scale = ", log scale" if axes.get_xscale() == "log" else ""
    axes.set_xlabel(f"fitted from {', '.join(found.x)}{scale}")
    place_legend(axes)
    return axes


def _draw_points(axes: Axes, points: pd.DataFrame, x: str, y: str, look: Look, label: str, fitted: bool) -> None:
    many = len(points) > MANY
    size: dict[str, Any] = {"ms": 2.0, "mec": "none", "alpha": 0.35} if many else {"mec": "white", "mew": 0.5}
    axes.plot(points[x], points[y], look.marker, color=look.color, zorder=4, rasterized=many, **size)
    # An empty line carries the legend entry: the marker, and with it the line of the fit.
    axes.plot([], [], marker=look.marker, color=look.color, linestyle=look.line if fitted else "none", mec="white",
              mew=0.5, label=label)  # fmt: skip
    means = averaged(points, (y,), (x,)).query("seeds > 1")
    if len(means) and not many:
        axes.plot(means[x], means[y], "_", color=look.color, ms=11, mew=1.1, zorder=3, gid="means")


def _draw_fit(
    axes: Axes, found: Any, x: pd.Series[float], look: Look, level: float, confidence: bool, prediction: bool
) -> None:
    low, high = float(x.min()), float(x.max())
    if not 0 < low < high:
        return
    grid = np.geomspace(low, high, _STEPS)
    axes.plot(grid, found.predict(grid)["value"], color=look.color, linestyle=look.line, zorder=3)
    # A limit costs hundreds of times what a value does, and its edge is only shaded.
    places = np.geomspace(low, high, _BAND_STEPS)
    for drawn, kind, alpha, order in (
        (prediction, "prediction", PREDICTION_ALPHA, 1), (confidence, "confidence", CONFIDENCE_ALPHA, 2),
    ):  # fmt: skip
        if drawn:
            band = found.predict(places, interval=level, kind=kind)
            axes.fill_between(places, band["low"], band["high"], color=look.color, alpha=alpha, lw=0, zorder=order)


def _band_handles(fits: int, level: float) -> list[tuple[Any, str]]:
    share = f"{100 * level:.4g} %"
    handles = []
    if 0 < fits <= _BANDS_OF:
        handles.append((Patch(color=QUIET, alpha=2 * CONFIDENCE_ALPHA, lw=0), f"{share} confidence"))
    if 0 < fits <= _PREDICTIONS_OF:
        handles.append((Patch(color=QUIET, alpha=2 * PREDICTION_ALPHA, lw=0), f"{share} prediction"))
    return handles


def _draw_excluded(axes: Axes, series: Sequence[Series], x: str, y: str) -> None:
    """Hollow crosses, one legend entry a reason; what a logarithm cannot show lies on the axis, half outside."""
    by_reason: dict[str, list[tuple[str, pd.DataFrame]]] = {}
    for look, one in zip(looks_of([one.label for one in series]), series, strict=True):
        for why, rows in one.excluded.items():
            by_reason.setdefault(why, []).append((look.color, rows))
    for why, parts in by_reason.items():
        count = 0
        for color, rows in parts:
            shown = finite(rows, x, y)
            count += len(shown)
            _crosses(axes, shown[x].to_numpy(float), shown[y].to_numpy(float), color)
        unseen = sum(len(rows) for _, rows in parts) - count
        text = f"{count} left out: {why}" + (f" (and {unseen} without a number)" if unseen else "")
        edge = parts[0][0] if len(parts) == 1 else QUIET
        axes.plot([], [], "X", mfc="white", mec=edge, mew=0.9, ms=6, linestyle="none", label=text)


def _crosses(axes: Axes, x: Array, y: Array, color: str) -> None:
    off_x = (axes.get_xscale() == "log") & (x <= 0)
    off_y = (axes.get_yscale() == "log") & (y <= 0)
    places = (
        (~off_x & ~off_y, axes.transData, x, y),
        (off_x & ~off_y, blended_transform_factory(axes.transAxes, axes.transData), np.zeros_like(x), y),
        (~off_x & off_y, blended_transform_factory(axes.transData, axes.transAxes), x, np.zeros_like(y)),
        (off_x & off_y, axes.transAxes, np.zeros_like(x), np.zeros_like(y)),
    )
    for chosen, transform, xs, ys in places:
        if chosen.any():
            cross = Line2D(xs[chosen], ys[chosen], marker="X", mfc="white", mec=color, mew=0.9, ms=6, ls="none",
                           transform=transform, zorder=5, clip_on=False, gid="excluded")  # fmt: skip
            axes.add_line(cross)


def _scale(
    axes: Axes, drawn: Sequence[tuple[Look, Series, pd.DataFrame]], x: str, y: str, references: Sequence[Reference]
) -> None:
    """Scales by what was fitted, limits by what was measured, excluded rows included where they can be seen."""
    kept = [points for _, _, points in drawn]
    away = [finite(rows, x, y) for _, one, _ in drawn for rows in one.excluded.values()]
    xs = np.concatenate([points[x].to_numpy(float) for points in kept] + [r.x for r in references])
    ys = np.concatenate([points[y].to_numpy(float) for points in kept] + [r.y for r in references])
    logarithmic = bool((any(_ratios(one) for _, one, _ in drawn) or y in BITS) and ys.min() > 0)
    far_x, far_y = (np.concatenate([rows[c].to_numpy(float) for rows in away] or [xs[:0]]) for c in (x, y))
    size_axis(axes.xaxis, np.concatenate([xs, far_x[far_x > 0] if (xs > 0).all() else far_x]))
    keep_in_view(axes, np.concatenate([ys, far_y[far_y > 0] if logarithmic else far_y]), logarithmic)
    if logarithmic and y in BITS:
        log2_axis(axes.yaxis)
    elif logarithmic:
        log10_axis(axes.yaxis)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "linear":
            linear_axis(axis)


def _ratios(one: Series) -> bool:
    """A law whose residuals are logarithmic is seen as it was fitted."""
    if one.logarithmic is not None or one.fit is None:
        return bool(one.logarithmic)
    first = one.fit.fits[0] if hasattr(one.fit, "fits") else one.fit
    return bool(first.task.law.log_residuals)


def keep_in_view(axes: Axes, values: Array, logarithmic: bool = False) -> None:
    """Limit the y axis to the data with room around: with few points a prediction band may be a hundred times wider."""
    low, high = float(values.min()), float(values.max())
    bottom, top = axes.get_ylim()
    if logarithmic:
        ratio = high / low if high > low else 6.0
        room, pad = ratio**_ROOM, ratio**_PAD
        axes.set_ylim(min(max(bottom, low / room), low / pad), max(min(top, high * room), high * pad))
    else:
        span = high - low or abs(high) or 1.0
        room, pad = _ROOM * span, _PAD * span
        axes.set_ylim(min(max(bottom, low - room), low - pad), max(min(top, high + room), high + pad))
