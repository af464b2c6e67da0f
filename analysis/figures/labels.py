"""Names beside points that never overlap each other, a point, or the frame: placed when the figure is laid out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from analysis.style import QUIET

Array = npt.NDArray[np.float64]
_GAP = 3.5  # points from the middle of a marker to its label
_SIDES: tuple[tuple[float, float], ...] = (
    (1, 0.5), (1, -0.5), (-1, 0.5), (-1, -0.5), (0, 1), (0, -1), (1, 0), (-1, 0),
)  # fmt: skip
_REACH = (1.0, 2.2, 3.6)


def label_points(
    axes: Axes, x: npt.ArrayLike, y: npt.ArrayLike, texts: Sequence[str], *, colors: Sequence[str] | None = None,
    obstacles: npt.ArrayLike = (), size: str | float = "x-small",
) -> list[Annotation]:  # fmt: skip
    """Write texts beside points at (x, y); a text for which there is no room at any side is not drawn.

    ``obstacles`` (m, 2) are more places, in data coordinates, that no text may cover, such as points of other series
    and points along lines. Texts come in the order of importance: an earlier one takes the better place.
    """
    points = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
    inks = colors if colors is not None else [QUIET] * len(texts)
    notes = [
        axes.annotate(text, (px, py), xytext=(0, 0), textcoords="offset points", fontsize=size, color=ink, zorder=6,
                      annotation_clip=False, linespacing=1.0)
        for text, (px, py), ink in zip(texts, points, inks, strict=True)
    ]  # fmt: skip
    for note in notes:
        note.set_in_layout(False)
    others = np.asarray(obstacles, float).reshape(-1, 2)
    axes.add_artist(_Placer(notes, np.concatenate([points, others])))
    return notes


class _Placer(Artist):
    """Draws nothing: before the labels are drawn, it moves each to a free place.

    Only then is the panel's final size known, and only then do text extents mean anything.
    """

    def __init__(self, notes: Sequence[Annotation], points: Array) -> None:
        super().__init__()
        self._notes, self._points = notes, points
        self.set_zorder(-10)
        self.set_in_layout(False)

    def draw(self, renderer: RendererBase) -> None:
        axes: Any = self.axes
        inside = axes.bbox
        unit = float(renderer.points_to_pixels(1.0))  # type: ignore[arg-type]
        dots = axes.transData.transform(self._points)
        half = 2.2 * unit
        taken = np.column_stack([dots - half, dots + half])
        for place, note in enumerate(self._notes):
            box = self._free(note, place, renderer, taken, inside, unit)
            note.set_visible(box is not None)
            if box is not None:
                taken = np.vstack([taken, [box.x0, box.y0, box.x1, box.y1]])

    def _free(
        self, note: Annotation, place: int, renderer: RendererBase, taken: Array, inside: Bbox, unit: float
    ) -> Bbox | None:
        """Move a label to its first free place, and give that place; None where there is none."""
        note.set_visible(True)
        for reach, (right, up) in itertools.product(_REACH, _SIDES):
            note.set_horizontalalignment("left" if right > 0 else "right" if right < 0 else "center")
            note.set_verticalalignment("bottom" if up > 0 else "top" if up < 0 else "center")
            note.set_position((right * _GAP * reach, up * _GAP * reach))
            box = note.get_window_extent(renderer).padded(0.5 * unit)
            if not (inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1):
                continue
            covered = (taken[:, 0] < box.x1) & (taken[:, 2] > box.x0) & (taken[:, 1] < box.y1) & (taken[:, 3] > box.y0)
            covered[place] = False  # its own point is as near as the gap says
            if not covered.any():
                return box
        return None


def along(x: npt.ArrayLike, y: npt.ArrayLike, steps: int = 20) -> Array:
    """Places (m, 2) along a line through points, for labels to keep away from."""
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    if len(xs) < 2:
        return np.column_stack([xs, ys])
    share = np.linspace(0, len(xs) - 1, (len(xs) - 1) * steps + 1)
    places = np.arange(len(xs))
    return np.column_stack([np.interp(share, places, xs), np.interp(share, places, ys)])
