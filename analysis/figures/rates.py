"""What a tokenizer loses against what its tokens cost to model: bottlenecks of all kinds in one plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.curves import CONFIDENCE_ALPHA, MANY
from analysis.figures.labels import label_points
from analysis.figures.legends import name_axes, place_legend, say
from analysis.figures.planes import draw_front, draw_seeds, lines_of, scale_plane, undominated
from analysis.figures.series import averaged, better, finite, missing, split
from analysis.questions.bjontegaard import lower_hull
from analysis.style import QUIET, Look, looks_of


def rate_distortion(
    table: pd.DataFrame, axes: Axes, *, x: str = "ar_bits_per_image", y: str = "psnr",
    by: Sequence[str] = ("bottleneck",), hull: bool = False, level: float = 0.95,
) -> Axes:  # fmt: skip
    """Draw distortion ``y`` against rate ``x`` for every configuration, one look a group, joined in the order of rate.

    The grey staircase is the best trade-off reached: nothing measured is better at its rate. With ``hull`` the lower
    convex hull takes its place, which mixtures of two tokenizers reach. Where seeds repeat configurations, a band shows
    the interval of their mean by the variance of seeds, pooled within a group.
    """
    usable = table[(pd.to_numeric(table[x], errors="coerce") > 0).to_numpy(bool)] if x in table else table
    points = averaged(usable, (x, y), level=level)
    if points.empty:
        say(axes, missing(table, x, y))
        name_axes(axes, x, y, table)
        return axes
    best = undominated(points, x, y)
    if hull:
        _draw_hull(axes, points, x, y)
    else:
        draw_front(axes, best, x, y)
    present = [name for name in by if name in points]
    groups = split(points, present)
    for look, (name, rows) in zip(looks_of([name for name, _ in groups]), groups, strict=True):
        _draw_kind(axes, rows.sort_values(x), x, y, look, name)
    scale_plane(axes, draw_seeds(axes, finite(usable, x, y), len(points), x, y), x, y)
    sizes = best.assign(size=[_size(row) for _, row in best.iterrows()]).drop_duplicates("size")
    label_points(axes, sizes[x], sizes[y], list(sizes["size"]), obstacles=lines_of(points, best, x, y, present, x))
    name_axes(axes, x, y, table)
    place_legend(axes)
    return axes


def _draw_kind(axes: Axes, rows: pd.DataFrame, x: str, y: str, look: Look, name: str) -> None:
    low, high = rows[f"low of {y}"], rows[f"high of {y}"]
    if low.notna().any():
        axes.fill_between(rows[x], low, high, color=look.color, alpha=CONFIDENCE_ALPHA, lw=0, zorder=1)
    many = len(rows) > MANY
    axes.plot(rows[x], rows[y], marker=look.marker, linestyle="none" if many else look.line, color=look.color,
              mec="none" if many else "white", mew=0.5, ms=2 if many else None, rasterized=many,
              lw=0.75 * matplotlib.rcParams["lines.linewidth"], zorder=3,
              label=f"{name}: n = {len(rows)}" if name else f"n = {len(rows)}")  # fmt: skip


def _draw_hull(axes: Axes, points: pd.DataFrame, x: str, y: str) -> None:
    sign = -1.0 if better(y) == "higher" else 1.0
    corners = points.iloc[lower_hull(points[x].to_numpy(float), sign * points[y].to_numpy(float))].sort_values(x)
    axes.plot(corners[x], corners[y], color=QUIET, lw=0.75 * matplotlib.rcParams["lines.linewidth"], zorder=2,
              label="lower hull" if sign > 0 else "upper hull", gid="hull")  # fmt: skip


def _size(row: pd.Series[Any]) -> str:
    if pd.notna(row.get("bottleneck_bits")):
        return f"{row['bottleneck_bits']:.0f} bits"
    return f"E {row['bottleneck_floats']:.0f}" if pd.notna(row.get("bottleneck_floats")) else ""
