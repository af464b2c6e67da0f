"""Groups side by side, with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.style import Look, axis_label


def comparison(rows: pd.DataFrame, axes: Axes, *, y: str) -> Axes:
    """Draw one point a group with its interval, best readable downwards; ``rows`` has group, value, low, high and n.

    Points, not bars: a bar says that zero is the natural floor, which for PSNR or a rate it is not. A group without an
    interval (one observation) is drawn hollow.
    """
    rows = rows[pd.to_numeric(rows["value"], errors="coerce").notna()]
    places = np.arange(len(rows))
    for place, (_, row) in zip(places, rows.iterrows(), strict=True):
        look = Look.of(0)
        has_interval = bool(np.isfinite([row["low"], row["high"]]).all())
        if has_interval:
            axes.plot([row["low"], row["high"]], [place, place], color=look.color, solid_capstyle="butt", zorder=2)
        axes.plot(
            [row["value"]],
            [place],
            look.marker,
            color=look.color,
            mfc=look.color if has_interval else "white",
            zorder=3,
        )
    axes.set_yticks(places, [f"{row['group']}  (n = {int(row['n'])})" for _, row in rows.iterrows()])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(y=0.15)
    axes.set_xlabel(axis_label(y))
    return axes
