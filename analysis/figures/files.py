"""Figures as files."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from analysis.style import style

FORMATS = ("png", "svg", "pdf")


def rendered(figure: Figure, ending: str, look: str = "paper") -> bytes:
    """A figure as the content of a png (at twice the screen's resolution), svg or pdf file; no date inside."""
    buffer = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
    with style(look):
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once; every further format draws the same
        figure.savefig(buffer, format=ending, metadata=undated)
    return buffer.getvalue()
