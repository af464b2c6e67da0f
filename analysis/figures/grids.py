"""Two sizes against each other: a heat map with its numbers in the cells."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from analysis.figures.legends import say
from analysis.figures.series import better, finite, levels, missing
from analysis.figures.ticks import LogLocator, RoomyFormatter
from analysis.questions.settings import settings
from analysis.style import SEQUENTIAL, axis_label, ink_on, plain, short

Array = npt.NDArray[np.float64]
_NAMES = {"encoder_params": ("encoder",), "decoder_params": ("decoder",), "enc_params_M": ("encoder",),
          "dec_params_M": ("decoder",)}  # fmt: skip
_SMALLEST = 4.5  # points: smaller numbers cannot be read, and are not drawn
_WRAP = 38  # letters beside a colour bar
_LOG_SPAN = 30.0


@dataclass(frozen=True)
class Cells:
    """Means (rows of y, columns of x) with NaN where nothing was measured, rows behind each, and the sides' names."""

    mean: Array
    count: npt.NDArray[np.int64]
    x_names: list[str]
    y_names: list[str]
    mixed: tuple[str, ...]


def heatmap(
    table: pd.DataFrame, axes: Axes, *, x: str = "encoder_params", y: str = "decoder_params", z: str, bar: bool = True
) -> Axes:
    """Draw the mean of measure ``z`` for every pair of sizes: colour and number in each cell, the best one framed.

    Cells average over seeds; when rows of one cell differ in more than their seed, the colour bar says in what. Pairs
    that nobody measured are hatched. Sizes within 5 % of each other are one column.
    """
    cells = cells_of(table, x, y, z)
    axes.set_xlabel(axis_label(x, table))
    axes.set_ylabel(axis_label(y, table))
    if cells is None:
        say(axes, missing(table, x, y, z))
        return axes
    known = cells.mean[np.isfinite(cells.mean)]
    logarithmic = bool(known.min() > 0 and known.max() > _LOG_SPAN * known.min())
    norm = (LogNorm if logarithmic else Normalize)(float(known.min()), float(known.max()))
    colors = matplotlib.colormaps[SEQUENTIAL]
    image = axes.imshow(np.ma.masked_invalid(cells.mean), cmap=colors, norm=norm, origin="lower", aspect="auto",
                        interpolation="nearest")  # fmt: skip
    _write_cells(axes, cells, lambda value: ink_on(colors(norm(value))))
    best = _frame_best(axes, cells, z)
    _name_sides(axes, cells)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if bar:
        _draw_bar(axes, image, _bar_label(table, cells, z, best, logarithmic), logarithmic)
    return axes


def cells_of(table: pd.DataFrame, x: str, y: str, z: str) -> Cells | None:
    """The mean of z for every pair of levels of x and y; None where no row has all three."""
    points = finite(table, x, y, z)
    if points.empty:
        return None
    (columns, x_names), (rows, y_names) = _side(points, x), _side(points, y)
    place = rows * len(x_names) + columns
    count = np.bincount(place, minlength=len(x_names) * len(y_names))
    total = np.bincount(place, weights=points[z].to_numpy(float), minlength=len(count))
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    shape = (len(y_names), len(x_names))
    return Cells(mean.reshape(shape), count.reshape(shape), x_names, y_names, _mixed(points, place, x, y, z))


def _side(points: pd.DataFrame, column: str) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Which level each row is of, and what the levels are called: ``S`` above ``43.3M``, or the number alone."""
    name = next((n for n in _NAMES.get(column, ()) if n in points and points[n].notna().all()), None)
    if name is not None:
        means = points.groupby(points[name].astype(str))[column].mean().sort_values()
        place = points[name].astype(str).map({n: i for i, n in enumerate(means.index)}).to_numpy(np.int64)
        unit = "M" if column.endswith("_M") else ""
        return place, [f"{n}\n{short(float(f'{v:.3g}'))}{unit}" for n, v in means.items()]
    place = levels(points[column])
    means = points.groupby(place)[column].mean()
    return place, [short(float(f"{v:.6g}")) for v in means]


def _mixed(points: pd.DataFrame, place: npt.NDArray[np.int64], x: str, y: str, z: str) -> tuple[str, ...]:
    """The settings, other than the seed, in which rows of one cell differ."""
    taken = (x, y, z, *_NAMES.get(x, ()), *_NAMES.get(y, ()))
    sides = tuple(f"tokenizer.{part}" for part in ("encoder", "decoder"))
    names = [name for name in settings(points, taken) if not name.startswith(sides) and name != "seed"]
    return tuple(name for name in names if (points.groupby(place)[name].nunique(dropna=False) > 1).any())


def _write_cells(axes: Axes, cells: Cells, ink: Any) -> None:
    rows, columns = cells.mean.shape
    uneven = len(set(cells.count[cells.count > 0].tolist())) > 1
    known = cells.mean[np.isfinite(cells.mean)]
    digits = _digits(known)
    size = _text_size(axes, rows, columns, 6 if digits is None else digits + 2 + int(np.log10(known.max(initial=1.0))))
    for row, column in np.ndindex(rows, columns):
        value = cells.mean[row, column]
        if not np.isfinite(value):
            hatched = Rectangle((column - 0.5, row - 0.5), 1, 1, hatch="////", fc="white", ec="#a0a0a0", lw=0,
                                gid="missing")  # fmt: skip
            axes.add_patch(hatched)
        elif size >= _SMALLEST:
            text = f"{value:.{digits}f}" if digits is not None else plain(float(value))
            text = text.replace("-", "\N{MINUS SIGN}")
            text += f"\n(n {cells.count[row, column]})" if uneven else ""
            axes.text(column, row, text, ha="center", va="center", color=ink(value), fontsize=size)


def _text_size(axes: Axes, rows: int, columns: int, letters: int) -> float:
    """The size of text in points that fits cells of a panel which takes two thirds of the figure."""
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes that are drawn on have a figure"
    width, height = (0.62 * side * 72 for side in figure.get_size_inches())
    return float(min(matplotlib.rcParams["font.size"], 0.88 * width / columns / (0.68 * letters), height / rows / 2.6))


def _digits(values: Array) -> int | None:
    """Decimals that tell the cells apart, the same in all; None where the values are too different for that."""
    spread = float(values.max() - values.min()) or abs(float(values[0])) or 1.0
    if values.min() > 0 and values.max() > 20 * values.min():
        return None
    return max(0, min(5, 1 - int(np.floor(np.log10(spread)))))


def _frame_best(axes: Axes, cells: Cells, z: str) -> str:
    """Frame the best cell and say so in words; without a direction or a choice, nothing is best."""
    way = better(z)
    if way is None or np.isfinite(cells.mean).sum() < 2:
        return ""
    row, column = np.unravel_index(
        np.nanargmin(cells.mean) if way == "lower" else np.nanargmax(cells.mean), cells.mean.shape
    )
    line = matplotlib.rcParams["lines.linewidth"]
    for width, color in ((2.6 * line, "white"), (1.2 * line, "black")):
        frame = Rectangle((float(column) - 0.47, float(row) - 0.47), 0.94, 0.94, fill=False, ec=color, lw=width,
                          zorder=4, gid="best")  # fmt: skip
        axes.add_patch(frame)
    return f"framed: {'lowest' if way == 'lower' else 'highest'}"


def _name_sides(axes: Axes, cells: Cells) -> None:
    """Names of all levels, slanted where they would touch; with many levels every second, third, ... is named."""
    for axis, names in ((axes.xaxis, cells.x_names), (axes.yaxis, cells.y_names)):
        step = -(-len(names) // 12)
        axis.set_ticks(range(0, len(names), step), names[::step])
    size = float(axes.xaxis.get_major_ticks(1)[0].label1.get_fontsize())
    width = axes.bbox.width * 72 / axes.figure.dpi / min(len(cells.x_names), 12)
    widest = max(len(line) for name in cells.x_names for line in name.split("\n"))
    if (widest + 1) * 0.64 * size > 0.85 * width:
        axes.tick_params(axis="x", labelrotation=45)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")


def _draw_bar(axes: Axes, image: AxesImage, label: str, logarithmic: bool) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes that are drawn on have a figure"
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=25, label=label)
    bar.outline.set_visible(False)
    bar.minorticks_off()
    if logarithmic:
        bar.ax.yaxis.set_major_locator(LogLocator(10))
    bar.ax.yaxis.set_major_formatter(RoomyFormatter())


def _bar_label(table: pd.DataFrame, cells: Cells, z: str, best: str, logarithmic: bool) -> str:
    counts = sorted(set(cells.count[cells.count > 0].tolist()))
    notes = [best] if best else []
    if counts[-1] > 1 and cells.mixed:
        names = [name.rsplit(".", 1)[-1].replace("_", " ") for name in cells.mixed]
        notes.append(f"means over {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else ""))
    elif counts[-1] > 1:
        notes.append(f"means of {counts[0]} seeds" if len(counts) == 1 else "means over seeds")
    lines = [axis_label(z, table) + (", log scale" if logarithmic else ""), *notes]
    return "\n".join(part for line in lines for part in textwrap.wrap(line, _WRAP))
