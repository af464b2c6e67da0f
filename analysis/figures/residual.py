"""What a law leaves unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.figures.curves import MANY
from analysis.figures.legends import place_legend
from analysis.figures.series import value_label
from analysis.figures.ticks import linear_axis, log10_axis, size_axis
from analysis.style import QUIET, Look, axis_label
from tokscale.record import COLUMNS


def residuals(fits: Any | Sequence[Any], axes: Axes, *, against: str | None = None, names: Sequence[str] = ()) -> Axes:
    """Draw the residuals of one or several fits against a size, or the fitted ``value``; by default the first size.

    Residuals are on the scale of the law: ``ln(measured / fitted)`` for laws of ratios, else the plain difference. The
    dotted lines are one standard deviation of the residuals, by their degrees of freedom. ``names`` are those of the
    fits in the legend, by default their groups.
    """
    several = list(fits) if isinstance(fits, Sequence) else [fits]
    first = several[0]
    column = against if against is not None else first.x[0]
    squares, freedom, places = 0.0, 0, []
    for index, one in enumerate(several):
        rows, look = one.residuals, Look.of(index)
        many = len(rows) > MANY
        name = names[index] if names else "" if one.group is None else value_label(one.group)
        label = f"{name}: n = {one.n}" if name else f"n = {one.n}"
        axes.plot(rows[column], rows["residual"], look.marker, color=look.color, mec="none" if many else "white",
                  mew=0.5, ms=2 if many else None, zorder=3, label=label, rasterized=many)  # fmt: skip
        squares += float((rows["residual"] ** 2).sum())
        freedom += max(one.n - len(one.parameters), 0)
        places.append(rows[column].to_numpy(float))
    axes.axhline(0, color=QUIET, lw=0.8, zorder=2)
    if freedom:
        spread = float(np.sqrt(squares / freedom))
        for side in (-spread, spread):
            axes.axhline(side, color=QUIET, lw=0.8, ls=(0, (1, 1.5)), zorder=2,
                         label=f"± {spread:.2g}" if side > 0 else None)  # fmt: skip
    if column == "value":
        log10_axis(axes.xaxis, np.concatenate(places))
    else:
        size_axis(axes.xaxis, np.concatenate(places))
    linear_axis(axes.yaxis)
    suffix = ", log scale" if axes.get_xscale() == "log" else ""
    y = COLUMNS[first.y].axis if first.y in COLUMNS else first.y
    axes.set_xlabel((f"fitted {y}" if column == "value" else axis_label(column)) + suffix)
    minus = "\N{MINUS SIGN}"
    axes.set_ylabel(f"ln(measured / fitted {y})" if first.task.law.log_residuals else f"measured {minus} fitted {y}")
    place_legend(axes)
    return axes
