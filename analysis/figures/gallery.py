"""Pictures in a grid, side by side at every bottleneck size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from PIL import Image

from analysis.figures.legends import say
from analysis.style import QUIET
from tokscale.errors import UsageError

Picture = str | Path | npt.NDArray[Any]
_GAP = 0.04  # between pictures, as a share of their width


def pictures(
    images: Sequence[Sequence[Picture | None]], axes: Axes, *, columns: Sequence[str] = (), rows: Sequence[str] = ()
) -> Axes:
    """Draw pictures in a grid, ``images[row][column]``, with a caption above each column and beside each row.

    A picture is a path or an array (h, w, 3) or (h, w), 8-bit or floats from 0 to 1; None leaves a hatched place. All
    are shown at the size of the first, without smoothing. Raises ``UsageError`` for what is no picture.
    """
    loaded = [[None if one is None else _pixels(one) for one in line] for line in images]
    first = next((one for line in loaded for one in line if one is not None), None)
    if first is None:
        say(axes, "no pictures")
        return axes
    height = first.shape[0] / first.shape[1]
    across = max(len(line) for line in loaded)
    for down, line in enumerate(loaded):
        for place in range(across):
            one = line[place] if place < len(line) else None
            left, top = place * (1 + _GAP), down * (height + _GAP)
            box = (left, left + 1, top + height, top)
            if one is None:
                axes.fill_between([left, left + 1], top, top + height, fc="white", ec=QUIET, hatch="////", lw=0)
            else:
                axes.imshow(one, extent=box, interpolation="none", cmap="gray", vmin=0, vmax=255, zorder=2)
    axes.set_xlim(-0.005, across * (1 + _GAP) - _GAP + 0.005)
    axes.set_ylim(len(loaded) * (height + _GAP) - _GAP + 0.005, -0.005)
    axes.set_aspect("equal", anchor="N")
    _caption(axes, columns, rows, height)
    return axes


def _caption(axes: Axes, columns: Sequence[str], rows: Sequence[str], height: float) -> None:
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    axes.set_xticks([0.5 + i * (1 + _GAP) for i in range(len(columns))], columns, linespacing=1.1)
    axes.set_yticks([0.5 * height + i * (height + _GAP) for i in range(len(rows))], rows)


def _pixels(picture: Picture) -> npt.NDArray[np.uint8]:
    """A picture as 8-bit values (h, w, 3) or (h, w)."""
    if isinstance(picture, (str, Path)):
        try:
            with Image.open(picture) as image:
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise UsageError("cannot read a picture", where=str(picture), given=str(error)) from error
    values = np.asarray(picture)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise UsageError("an array is no picture", given=f"shape {values.shape}", allowed="(h, w) or (h, w, 3)")
    if values.dtype == np.uint8:
        return values[..., :3] if values.ndim == 3 else values
    return np.asarray(np.clip(np.round(values * 255.0), 0, 255), dtype=np.uint8)
