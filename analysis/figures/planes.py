"""Two measures in one plane: reconstruction against generation, with the front that nothing beats."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.figures.curves import BITS, MANY
from analysis.figures.labels import along, label_points
from analysis.figures.legends import name_axes, place_legend, say
from analysis.figures.series import averaged, better, finite, missing, ratios_matter, split
from analysis.figures.ticks import linear_axis, log2_axis, log10_axis
from analysis.style import FAINT, QUIET, Look, looks_of

Array = npt.NDArray[np.float64]
_NAMED = 40  # more names than these are clutter
_POSSIBLE_ALPHA = 0.4


def plane(
    table: pd.DataFrame, axes: Axes, *, x: str = "rfid", y: str = "gfid", by: Sequence[str] = (),
    size: str | None = None, label: str | None = None, front: Any = None,
) -> Axes:  # fmt: skip
    """Draw tokenizers by two measures, reconstruction against generation, with the front that nothing beats.

    One point a configuration, its seeds faint behind their mean. ``by`` names families, each with its own look; arrows
    lead from the smaller to the larger ``size`` within a family. ``label`` names points, those on the front first.
    ``front`` is an answer of ``questions.pareto_front`` on the same table: filled points are on the front for certain,
    light ones possibly, hollow ones not. Without it the front is that of the means, and all points are filled.
    """
    points = averaged(table, (x, y), (size,) if size else ()) if front is None else _members(table, front)
    if points.empty:
        say(axes, missing(table, x, y))
        name_axes(axes, x, y, table)
        return axes
    best = undominated(points, x, y) if front is None else points[points["on_front"]].sort_values(x)
    draw_front(axes, best, x, y)
    groups = split(points, by)
    for look, (name, rows) in zip(looks_of([name for name, _ in groups]), groups, strict=True):
        if size is not None:
            _draw_arrows(axes, rows.sort_values(size), x, y, look)
        _draw_family(axes, rows, x, y, look, f"{name}: n = {len(rows)}" if name else f"n = {len(rows)}", front)
    raw = draw_seeds(axes, finite(table, x, y), len(points), x, y)
    scale_plane(axes, raw, x, y)
    if label is not None and label in points and len(points) <= _NAMED:
        ordered = pd.concat([best, points.drop(best.index)])
        label_points(axes, ordered[x], ordered[y], [str(text) for text in ordered[label]],
                     obstacles=lines_of(points, best, x, y, by, size))  # fmt: skip
    name_axes(axes, x, y, table)
    place_legend(axes, _probability_handles(points, front))
    return axes


def undominated(points: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The rows that no other row beats in both measures, in the order of ``x``; less is better where no name tells."""
    signs = [-1.0 if better(name) == "higher" else 1.0 for name in (x, y)]
    ordered = points.assign(_x=signs[0] * points[x], _y=signs[1] * points[y]).sort_values(["_x", "_y"])
    before = ordered["_y"].cummin().shift(fill_value=np.inf)
    return ordered[ordered["_y"] < before].drop(columns=["_x", "_y"]).sort_values(x)


def draw_front(axes: Axes, best: pd.DataFrame, x: str, y: str) -> None:
    """A staircase: between two configurations nothing is measured, and the step goes through what both reach."""
    if len(best) > 1:
        axes.plot(*stairs(best, x, y), color=FAINT, lw=2.0 * matplotlib.rcParams["lines.linewidth"], zorder=1,
                  solid_joinstyle="miter", label="best trade-off measured", gid="front")  # fmt: skip


def stairs(best: pd.DataFrame, x: str, y: str) -> tuple[Array, Array]:
    """The corners of the staircase through a front in the order of ``x``."""
    xs, ys = (np.repeat(best[name].to_numpy(float), 2) for name in (x, y))
    return (xs[1:], ys[:-1]) if better(x) != "higher" else (xs[:-1], ys[1:])


def draw_seeds(axes: Axes, raw: pd.DataFrame, means: int, x: str, y: str) -> pd.DataFrame:
    """Single seeds behind the means, where there are more of them; hands back what is in view."""
    if len(raw) > means:
        many = len(raw) > MANY
        axes.plot(raw[x], raw[y], ".", color=FAINT, ms=0.6 * matplotlib.rcParams["lines.markersize"], zorder=2,
                  rasterized=many, label="single seeds", gid="seeds")  # fmt: skip
    return raw


def lines_of(
    points: pd.DataFrame, best: pd.DataFrame, x: str, y: str, by: Sequence[str], order: str | None
) -> Array:  # fmt: skip
    """Places (m, 2) that no label may cover: all points, the front, and the lines within each family."""
    places = [points[[x, y]].to_numpy(float), along(*stairs(best, x, y))]
    if order is not None:
        places += [along(*rows.sort_values(order)[[x, y]].to_numpy(float).T) for _, rows in split(points, by)]
    return np.concatenate(places)


def scale_plane(axes: Axes, points: pd.DataFrame, x: str, y: str) -> None:
    """Logarithmic axes for rates, and for errors and distances that span more than a factor of three."""
    for axis, column in ((axes.xaxis, x), (axes.yaxis, y)):
        values = points[column].to_numpy(float)
        low, high = float(values.min()), float(values.max())
        logarithmic = low > 0 and (column in BITS or (high > 3 * low and ratios_matter(column)))
        if logarithmic:
            room = (high / low) ** 0.08 if high > low else 2.0
            axis.set_view_interval(low / room, high * room, ignore=True)
            (log2_axis if column in BITS else log10_axis)(axis)
        if axis.get_scale() == "linear":
            room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
            axis.set_view_interval(low - room, high + room, ignore=True)
            linear_axis(axis)


def _members(table: pd.DataFrame, front: Any) -> pd.DataFrame:
    """The configurations of an answer with all columns of their first row, and with what the answer says of them."""
    members = front.members
    rows = table.loc[[one.row for one in members]].copy()
    rows[[front.x, front.y]] = np.array([[one.x, one.y] for one in members])
    rows["on_front"] = [one.on_front for one in members]
    rows["probability"] = np.array([one.probability for one in members], dtype=float)
    return rows.reset_index(drop=True)


def _draw_family(axes: Axes, rows: pd.DataFrame, x: str, y: str, look: Look, label: str, front: Any) -> None:
    many = len(rows) > MANY
    shape: dict[str, Any] = {"marker": look.marker, "ls": "none", "zorder": 4, "rasterized": many}
    if many:
        shape |= {"ms": 2.0}
    if front is None or rows["probability"].isna().all():
        edge = "none" if many else "white"
        axes.plot(
            rows[x], rows[y], color=look.color, mec=edge, mew=0.5, alpha=0.4 if many else None, label=label, **shape
        )
        return
    chance = rows["probability"]
    sure, never = chance >= front.level, chance <= 1 - front.level
    for chosen, face in ((never, "white"), (~sure & ~never, (look.color, _POSSIBLE_ALPHA)), (sure, look.color)):
        axes.plot(rows[x][chosen], rows[y][chosen], color=look.color, mfc=face, mec=look.color, mew=0.9, **shape)
    axes.plot([], [], marker=look.marker, ls="none", color=look.color, label=label)


def _probability_handles(points: pd.DataFrame, front: Any) -> list[tuple[Any, str]]:
    if front is None or points["probability"].isna().all():
        return []
    share = f"{100 * front.level:.4g} %"
    faces = (
        (QUIET, f"on the front with {share}"),
        ((QUIET, _POSSIBLE_ALPHA), "possibly on it"),
        ("white", "not on it"),
    )
    return [(Line2D([], [], marker="o", ls="none", mec=QUIET, mfc=face, mew=0.9), text) for face, text in faces]


def _draw_arrows(axes: Axes, rows: pd.DataFrame, x: str, y: str, look: Look) -> None:
    places = rows[[x, y]].to_numpy(float)
    style = {"arrowstyle": "-|>,head_width=0.16,head_length=0.35", "color": look.color, "linestyle": look.line,
             "lw": 0.65 * matplotlib.rcParams["lines.linewidth"], "shrinkA": 2.5, "shrinkB": 3.0}  # fmt: skip
    for start, end in itertools.pairwise(places):
        axes.annotate("", end, start, arrowprops=style, zorder=3)
