"""Training curves: losses against images seen, raw and smoothed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize

from analysis.figures.legends import name_axes, place_legend, say
from analysis.figures.series import finite, group_label, missing
from analysis.figures.ticks import RoomyFormatter, linear_axis, log10_axis
from analysis.style import Look, axis_label

Array = npt.NDArray[np.float64]
_LOOKS = 7  # so many trials have a look of their own; more are coloured in the order of their size
_SEQUENCE = "viridis"
_LIGHTEST = 0.88  # of the sequence; beyond, lines vanish on white paper


def losses(
    frame: pd.DataFrame, axes: Axes, *, y: str = "loss", x: str = "images", by: str = "trial", size: str | None = None,
    half_life: float = 0.02, logarithmic: bool = True,
) -> Axes:  # fmt: skip
    """Draw one loss of every trial against images (or steps): what was logged faint, its moving average over it.

    ``frame`` holds rows of progress files with columns ``trial``, ``images`` and one for each loss; ``size`` is a
    column by which many trials are coloured. The average forgets by half over ``half_life`` of a trial's length, and is
    not biased towards its first value; ``half_life=0`` draws the raw values alone.
    """
    rows = finite(frame, x, y)
    if rows.empty:
        say(axes, missing(frame, x, y))
        name_axes(axes, x, y)
        return axes
    trials = [(key, one.sort_values(x)) for key, one in rows.groupby(by, sort=True)] if by in rows else [("", rows)]
    if size is not None and size in rows:
        trials.sort(key=lambda trial: trial[1][size].iloc[0])
    sequence = _sequence(trials, size)
    for index, (key, one) in enumerate(trials):
        look = Look.of(index)
        color, line = (look.color, look.line) if sequence is None else (sequence[index], "-")
        xs, ys = one[x].to_numpy(float), one[y].to_numpy(float)
        smooth = smoothed(xs, ys, half_life)
        name = str(key) if by == "trial" else group_label({by: key})
        label = name if sequence is None else None
        if half_life > 0 and len(xs) > 3:
            axes.plot(xs, ys, color=color, alpha=0.25, lw=0.5 * matplotlib.rcParams["lines.linewidth"], zorder=2)
        marker = look.marker if sequence is None else ""
        axes.plot(xs, smooth, color=color, linestyle=line, zorder=3, label=label, marker=marker, mec="white", mew=0.4,
                  markevery=(0.04 + 0.02 * index, 0.2) if len(xs) > 12 else None, gid="smooth")  # fmt: skip
    _scale_losses(axes, rows[y].to_numpy(float), logarithmic)
    name_axes(axes, x, y)
    axes.set_xlabel({"images": "images seen", "step": "optimiser steps"}.get(x, axis_label(x)))
    if sequence is not None and size is not None:
        _size_bar(axes, rows, size)
    place_legend(axes)
    return axes


def smoothed(x: npt.ArrayLike, y: npt.ArrayLike, half_life: float) -> Array:
    """The exponential moving average of y (n,) in x: weights halve over ``half_life`` of the whole length of x.

    Rows need not be evenly spaced. The first values are averages of what there is, without a bias towards any start.
    """
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    span = float(xs[-1] - xs[0]) if len(xs) else 0.0
    if half_life <= 0 or span <= 0:
        return np.array(ys)
    keep = 0.5 ** (np.diff(xs, prepend=xs[0]) / (half_life * span))
    total = weight = 0.0
    result: Array = np.empty_like(ys)
    for i, (value, share) in enumerate(zip(ys, keep, strict=True)):
        total, weight = share * total + value, share * weight + 1.0
        result[i] = total / weight
    return result


def _sequence(trials: Sequence[tuple[Any, pd.DataFrame]], size: str | None) -> list[str] | None:
    """A colour for each trial in the order of its size, dark to light; None where each has a look of its own."""
    if len(trials) <= _LOOKS:
        return None
    if size is None or size not in trials[0][1]:
        places = np.linspace(0, 1, len(trials))
    else:
        values = np.array([one[size].iloc[0] for _, one in trials], dtype=float)
        places = np.asarray(_norm(values)(values), dtype=float)
    colors = matplotlib.colormaps[_SEQUENCE](_LIGHTEST * places)
    return [matplotlib.colors.to_hex(color) for color in colors]


def _norm(values: Array) -> Normalize:
    low, high = float(values.min()), float(values.max())
    return LogNorm(low, high) if low > 0 and high > 2 * low else Normalize(low, high if high > low else low + 1)


def _size_bar(axes: Axes, rows: pd.DataFrame, size: str) -> None:
    figure = axes.get_figure(root=True)
    if figure is None or size not in rows:
        return
    colors = matplotlib.colormaps[_SEQUENCE](np.linspace(0, _LIGHTEST, 256))
    shown = ScalarMappable(_norm(rows[size].to_numpy(float)), matplotlib.colors.ListedColormap(colors))
    bar = figure.colorbar(shown, ax=axes, pad=0.02, aspect=25, label=axis_label(size))
    if isinstance(shown.norm, LogNorm):
        bar.set_label(f"{axis_label(size)}, log scale")
    bar.outline.set_visible(False)
    bar.minorticks_off()
    values = sorted(rows[size].unique())
    if len(values) <= 9 and math.isfinite(values[0]):
        bar.set_ticks(values)
    bar.ax.yaxis.set_major_formatter(RoomyFormatter())


def _scale_losses(axes: Axes, values: Array, logarithmic: bool) -> None:
    """Limits from the bulk: the first steps of a training may be a hundred times higher than all that follows."""
    axes.margins(x=0.01)
    linear_axis(axes.xaxis)
    if logarithmic and values.min() > 0:
        log10_axis(axes.yaxis, values)
    if axes.get_yscale() == "linear":
        linear_axis(axes.yaxis)
