"""The questions of the field as functions of a results table; each answer says itself in one honest sentence.

    best_bottleneck   the bottleneck size at which a measure is best
    optimum_shift     how that size moves with the size of the probe
    size_effect       better, worse or unresolved with every doubling of a size
    paired_effect     what one setting changes, between rows equal in everything else
    cure              larger is worse: is it so, and does a setting mend it
    where_to_spend    the next parameters: encoder or decoder
    iso_frontier      the best measure and the best allocation at each budget
    pareto_front      which trials are on the front of two measures, and how certainly
    rate_distortion   kinds of bottleneck in one plane of rate and distortion

A number that the rows do not carry is "unresolved"; a table that cannot be asked raises ``TableError``.
"""

from __future__ import annotations

from analysis.questions.allocation import Level
from analysis.questions.answers import Answer, Estimate
from analysis.questions.best_size import BestSize, best_bottleneck
from analysis.questions.dilemma import Cure, cure
from analysis.questions.frontier import IsoFrontier, Step, iso_frontier
from analysis.questions.pairs import PairedEffect, paired_effect
from analysis.questions.pareto import Member, ParetoFront, pareto_front
from analysis.questions.rates import RateCurve, RateDifference, RateDistortion, rate_distortion
from analysis.questions.shift import OptimumShift, optimum_shift
from analysis.questions.size import SizeEffect, size_effect
from analysis.questions.spending import Spending, where_to_spend

__all__ = [
    "Answer",
    "BestSize",
    "Cure",
    "Estimate",
    "IsoFrontier",
    "Level",
    "Member",
    "OptimumShift",
    "PairedEffect",
    "ParetoFront",
    "RateCurve",
    "RateDifference",
    "RateDistortion",
    "SizeEffect",
    "Spending",
    "Step",
    "best_bottleneck",
    "cure",
    "iso_frontier",
    "optimum_shift",
    "paired_effect",
    "pareto_front",
    "rate_distortion",
    "size_effect",
    "where_to_spend",
]
