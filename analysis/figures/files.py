"""Figures of one panel, and figures as files."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.legends import legend_height
from analysis.style import style

FORMATS = ("png", "svg", "pdf")
_LONGEST = 2.4  # height of a figure of pictures, in its widths
_TALLEST = 2.5  # a figure grows with its legend to at most so many times its own height


def panel(draw: Callable[[Axes], Any], *, look: str = "paper", size: tuple[float, float] | None = None) -> Figure:
    """A figure with one panel, drawn in a style by a function of its axes, such as ``lambda axes: plane(table, axes)``.

    ``size`` is width and height in inches; without one the figure has the style's, and is as much higher as its legend.
    """
    with style(look):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        if size is None:
            make_room(figure)
    return figure


def make_room(figure: Figure) -> None:
    """Make a figure higher by its highest legend, so that panels keep their size, or as high as its pictures.

    A panel of pictures has a height of its own, by the pictures' shape and the figure's width.
    """
    height = figure.get_figheight()
    if any(axes.get_aspect() == 1.0 for axes in figure.axes):
        figure.set_figheight(_LONGEST * figure.get_figwidth())
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        figure.set_figheight(min(box.height + 0.06, _LONGEST * figure.get_figwidth()))
        return
    needed = max((legend_height(axes) for axes in figure.axes), default=0.0)
    figure.set_figheight(min(height + needed, _TALLEST * height))


def rendered(figure: Figure, ending: str, look: str = "paper") -> bytes:
    """A figure as the content of a png (at 300 dots an inch), svg or pdf file; no date inside.

    With the style that it was drawn in the same figure gives the same bytes.
    """
    buffer = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
    with style(look):
        figure.savefig(buffer, format=ending, metadata=undated, dpi=matplotlib.rcParams["savefig.dpi"])
    return buffer.getvalue()
