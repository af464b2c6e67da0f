"""Groups side by side, with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.legends import say
from analysis.figures.series import finite, missing
from analysis.figures.ticks import linear_axis
from analysis.style import Look, axis_label

_LEAST_SIZE = 4.5  # points; with more groups than fit in this size, not all are named


def comparison(rows: pd.DataFrame, axes: Axes, *, y: str) -> Axes:
    """Draw one point a group with its interval, the first group on top; ``rows`` has group, value, low, high and n.

    Points, not bars: a bar says that zero is the natural floor, which for PSNR or a rate it is not. A group without an
    interval (one observation) is drawn hollow.
    """
    axes.set_xlabel(axis_label(y))
    known = finite(rows, "value")
    if known.empty:
        say(axes, missing(rows, "value").replace("value", y))
        return axes
    look = Look.of(0)
    for place, (_, row) in enumerate(known.iterrows()):
        has_interval = bool(np.isfinite([row["low"], row["high"]]).all())
        if has_interval:
            axes.plot([row["low"], row["high"]], [place, place], color=look.color, solid_capstyle="butt", zorder=2)
        face = look.color if has_interval else "white"
        axes.plot([row["value"]], [place], look.marker, color=look.color, mfc=face, zorder=3)
    _name_groups(axes, [f"{row['group']}  (n = {int(row['n'])})" for _, row in known.iterrows()])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    linear_axis(axes.xaxis)
    return axes


def _name_groups(axes: Axes, names: list[str]) -> None:
    """Names in the size that fits between two groups."""
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes that are drawn on have a figure"
    room = 0.75 * figure.get_figheight() * 72 / len(names)
    size = min(float(axes.yaxis.get_major_ticks(1)[0].label1.get_fontsize()), max(room / 1.3, _LEAST_SIZE))
    step = max(1, int(np.ceil(1.3 * size / room)))
    axes.set_yticks(range(0, len(names), step), names[::step], fontsize=size)
    axes.set_ylim(-0.6, len(names) - 0.4)
