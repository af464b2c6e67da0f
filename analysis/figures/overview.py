"""The sweep in one figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.curves import scaling_curve
from analysis.figures.rates import rate_distortion
from analysis.figures.series import Series, finite, split
from analysis.fitting import Fit, fit
from analysis.style import style
from tokscale.errors import TableError


def overview(table: pd.DataFrame, *, by: str = "decoder", look: str = "paper") -> Figure:
    """Two panels: PSNR against the floats of continuous bottlenecks with its law, and PSNR against the AR rate for all.

    A panel without data says so. Save it inside ``style(look)``, so that fonts are embedded as the style says.
    """
    with style(look):
        figure = Figure(figsize=(7.0, 2.9) if look == "paper" else (16.0, 7.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        points = finite(table, "bottleneck_floats", "psnr")
        if "bottleneck_bits" in points:
            points = points[points["bottleneck_bits"].isna()]
        columns = [by] if by in points and points[by].nunique() > 1 else []
        series = [Series(label, rows, _law(rows)) for label, rows in split(points, columns)] if len(points) else []
        scaling_curve(series or [Series("", table)], left, x="bottleneck_floats", y="psnr")
        left.set_title("Reconstruction against bottleneck size", loc="left")
        kinds = [c for c in ("bottleneck", by) if c in table and table[c].nunique() > 1]
        rate_distortion(table, right, by=kinds)
        right.set_title("Reconstruction against the rate under a probe", loc="left")
    return figure


def _law(rows: pd.DataFrame) -> Fit | None:
    if rows["bottleneck_floats"].nunique() < 3:
        return None  # a line through two points says nothing
    try:
        found = fit(rows, law="semilog", x="bottleneck_floats", y="psnr")
    except TableError:
        return None
    assert isinstance(found, Fit), "one law of one group gives one fit"
    return found
