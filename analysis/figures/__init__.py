"""Figures: each is one function from data to axes; nothing here fits, reads or writes.

Series, split      trials of one group, with their fit if there is one
scaling_curve      a measure against a size, with fitted law, confidence band and prediction band
rate_distortion    distortion against the rate under the probe, bottlenecks of all kinds in one plane
comparison         groups side by side, with intervals
overview           the two figures of a sweep in one: reconstruction against size, and the plane
"""

from analysis.figures.bars import comparison
from analysis.figures.curve import Reference, scaling_curve
from analysis.figures.overview import overview
from analysis.figures.plane import rate_distortion
from analysis.figures.series import Series, split

__all__ = ["Reference", "Series", "comparison", "overview", "rate_distortion", "scaling_curve", "split"]
