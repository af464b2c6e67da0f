"""Figures: each is one function from data to axes; nothing here fits, reads or writes but ``plot`` and its kinds.

    panel(draw, look=, size=)                    a figure with one panel, as high as its legend or pictures need
    rendered(figure, ending, look)               its file: the same table gives the same bytes

    scaling_curve(series, axes, x=, y=)          a measure against a size: seeds, laws, bands, excluded points
    curve(fit, axes, table=)                     one ``Fit`` or ``Choice`` with its points
    residuals(fits, axes, against=)              what laws leave unexplained
    optimum(answers, axes, table=)               ``best_bottleneck``: curves, best sizes and their intervals
    frontier(answer, axes, table=, show=)        ``iso_frontier``: the best measure, or size, at each budget
    plane(table, axes, x=, y=, by=, front=)      reconstruction against generation, ``pareto_front``
    rate_distortion(table, axes, x=, y=, by=)    distortion against the rate under the probe, bottlenecks of all kinds
    heatmap(table, axes, x=, y=, z=)             a measure for every pair of sizes
    comparison(rows, axes, y=)                   groups side by side, with intervals
    losses(frame, axes, y=, size=)               training curves; ``read_progress`` gives the frame of a sweep
    pictures(images, axes, columns=, rows=)      a grid of pictures with captions
    overview(table)                              a sweep in two panels

    Series(label, points, fit, excluded), split(table, by)    the groups that ``scaling_curve`` draws

A function given nothing that it could draw writes into the axes what is missing; none draws a label over another one.
"""

from __future__ import annotations

from analysis.figures.bars import comparison
from analysis.figures.curves import Reference, curve, scaling_curve
from analysis.figures.files import FORMATS, panel, rendered
from analysis.figures.fronts import frontier
from analysis.figures.gallery import pictures
from analysis.figures.grids import heatmap
from analysis.figures.optima import optimum
from analysis.figures.overview import overview
from analysis.figures.planes import plane
from analysis.figures.progress import read_progress
from analysis.figures.rates import rate_distortion
from analysis.figures.residual import residuals
from analysis.figures.series import Series, split
from analysis.figures.training import losses

__all__ = [
    "FORMATS",
    "Reference",
    "Series",
    "comparison",
    "curve",
    "frontier",
    "heatmap",
    "losses",
    "optimum",
    "overview",
    "panel",
    "pictures",
    "plane",
    "rate_distortion",
    "read_progress",
    "rendered",
    "residuals",
    "scaling_curve",
    "split",
]
