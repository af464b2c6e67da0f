"""What stands around the data: legends that cover none of it, labels that say when an axis is logarithmic, notes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from analysis.style import QUIET, axis_label

MOST_NAMED = 28  # four looks of each colour; nobody finds one of more again
_MOST_COLUMNS = 5


def name_axes(axes: Axes, x: str, y: str, table: pd.DataFrame | None = None) -> None:
    """Write what the axes show, and that they are logarithmic where they are: plain tick labels do not tell."""
    for setter, column, scale in (
        (axes.set_xlabel, x, axes.get_xscale()),
        (axes.set_ylabel, y, axes.get_yscale()),
    ):
        label = axis_label(column, table)
        setter(f"{label}, log scale" if scale == "log" else label)


def place_legend(axes: Axes, extra: Sequence[tuple[Artist, str]] = ()) -> None:
    """One legend for everything below the axes, in as many columns as the panel is wide: it covers no point."""
    handles, labels = axes.get_legend_handles_labels()
    shown = [(handle, label) for handle, label in zip(handles, labels, strict=True) if label] + list(extra)
    if not shown:
        return
    if len(handles) > MOST_NAMED:
        more = f"and {len(handles) - MOST_NAMED + 1} more, not named"
        shown = [*shown[: MOST_NAMED - 1], (Line2D([], [], linestyle="none"), more), *extra]
    first, last = _columns(axes)
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes that are drawn on have a figure"
    below = axes.transAxes + ScaledTranslation(0, -_label_height(axes) / 72, figure.dpi_scale_trans)
    anchor = blended_transform_factory(figure.transFigure, below)
    widest = (last - first) * figure.bbox.width * 0.97
    for columns in range(min(_MOST_COLUMNS, len(shown)), 0, -1):
        legend = axes.legend(
            *zip(*shown, strict=True), loc="upper center", bbox_to_anchor=((first + last) / 2, 0.0),
            bbox_transform=anchor, ncols=columns, handlelength=2.1, columnspacing=0.9, handletextpad=0.5,
        )  # fmt: skip
        if columns == 1 or legend.get_window_extent().width <= widest:
            return


def legend_height(axes: Axes) -> float:
    """The height of the legend in inches; 0 without one."""
    legend, figure = axes.get_legend(), axes.get_figure(root=True)
    return 0.0 if legend is None or figure is None else float(legend.get_window_extent().height / figure.dpi)


def say(axes: Axes, text: str) -> None:
    """Write in the middle of empty axes why they are empty."""
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=QUIET, wrap=True,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


def _columns(axes: Axes) -> tuple[float, float]:
    """The panel's left and right end, as shares of the figure's width."""
    place = axes.get_subplotspec()
    if place is None:
        return 0.0, 1.0
    place = place.get_topmost_subplotspec()
    columns = place.get_gridspec().ncols
    return place.colspan.start / columns, place.colspan.stop / columns


def _label_height(axes: Axes) -> float:
    """Points from the axes down to below the axis label."""
    ticks = float(axes.xaxis.get_major_ticks(1)[0].label1.get_fontsize()) + matplotlib.rcParams["xtick.major.size"]
    label = axes.xaxis.label.get_fontsize() if axes.get_xlabel() else 0.0
    lines = axes.get_xlabel().count("\n") + 1
    return float(
        1.25 * ticks + 1.35 * float(label) * lines + axes.xaxis.labelpad + matplotlib.rcParams["xtick.major.pad"]
    )
