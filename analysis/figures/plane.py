"""The rate-distortion plane: what a tokenizer loses against what its tokens cost to model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.curve import place_legend
from analysis.figures.series import finite, split
from analysis.style import Look, axis_label, log2_axis, log10_axis
from tokscale.record import COLUMNS


def rate_distortion(
    table: pd.DataFrame,
    axes: Axes,
    *,
    x: str = "ar_bits_per_image",
    y: str = "psnr",
    by: Sequence[str] = ("bottleneck",),
) -> Axes:
    """Draw distortion ``y`` against rate ``x`` for every trial, one look a group, joined in the order of rate.

    The grey staircase is the best trade-off reached by any trial: nothing measured is better at its rate.
    """
    points = finite(table, x, y)
    points = points[points[x] > 0]
    _draw_frontier(axes, points, x, y)
    for index, (label, rows) in enumerate(split(points, by) if len(points) else []):
        look, rows = Look.of(index), rows.sort_values(x)
        axes.plot(
            rows[x], rows[y], marker=look.marker, linestyle=look.line, color=look.color, mec="white", mew=0.6,
            lw=0.9, zorder=3, label=f"{label}: n = {len(rows)}" if label else f"n = {len(rows)}",
        )  # fmt: skip
    axes.set_xlabel(axis_label(x, table))
    axes.set_ylabel(axis_label(y, table))
    if len(points):
        axes.margins(x=0.12, y=0.1)  # room for the sizes beside the front
        log2_axis(axes.xaxis, points[x].min() / 1.1, points[x].max() * 1.1)
        if y in ("mse", "lpips", "rfid", "rfd") and points[y].min() > 0:
            log10_axis(axes.yaxis, *axes.get_ylim())
    place_legend(axes)
    return axes


def frontier(points: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The trials that no other trial beats in both rate ``x`` and distortion ``y``, in the order of rate."""
    sign = 1.0 if _lower_is_better(y) else -1.0
    ordered = points.assign(_loss=sign * points[y]).sort_values([x, "_loss"])
    before = ordered["_loss"].cummin().shift(fill_value=np.inf)
    return ordered[ordered["_loss"] < before].drop(columns="_loss")


def _draw_frontier(axes: Axes, points: pd.DataFrame, x: str, y: str) -> None:
    best = frontier(points, x, y)
    if len(best) < 2:
        return
    axes.step(best[x], best[y], where="post", color="#c4c4c4", lw=2.5, zorder=1, label="best trade-off reached")
    below, said = _lower_is_better(y), ""
    for _, row in best.iterrows():
        if (size := _size(row)) != said:
            axes.annotate(
                size, (row[x], row[y]), xytext=(-5, -5 if below else 5), textcoords="offset points", ha="right",
                va="top" if below else "bottom", fontsize="x-small", color="#404040",
            )  # fmt: skip
        said = size


def _lower_is_better(y: str) -> bool:
    return y in COLUMNS and COLUMNS[y].better == "lower"


def _size(row: pd.Series[Any]) -> str:
    if pd.notna(row.get("bottleneck_bits")):
        return f"{row['bottleneck_bits']:.0f} bits"
    return f"E {row['bottleneck_floats']:.0f}" if pd.notna(row.get("bottleneck_floats")) else ""
