"""An interval from several laws: each with its weight and its own Student tails."""

from __future__ import annotations

import math
from collections.abc import Mapping

from scipy import optimize, special


def average_limits(
    ends: Mapping[str, tuple[float, float, float, int]], weights: Mapping[str, float], level: float
) -> tuple[float, float, float]:
    """Value and limits from ``ends``: for each law a positive value, its limits and its degrees of freedom.

    The value is the weighted geometric mean. A limit is where the weighted mean of the laws' tails is half of 1 - level
    (Turek and Fletcher 2012), each law having Student tails in the logarithm that reach from its value to its limit.
    """
    if len(ends) == 1:
        value, low, high, _ = next(iter(ends.values()))
        return value, low, high
    total = sum(weights[name] for name in ends)
    share = {name: weights[name] / total for name in ends}
    value = math.exp(sum(share[name] * math.log(one[0]) for name, one in ends.items()))
    return value, _limit(ends, share, level, -1), _limit(ends, share, level, +1)


def _limit(
    ends: Mapping[str, tuple[float, float, float, int]], share: Mapping[str, float], level: float, side: int
) -> float:
    laws = []
    for name, (value, low, high, freedom) in ends.items():
        reach = abs(math.log((high if side > 0 else low) / value))
        laws.append((share[name], math.log(value), reach / special.stdtrit(freedom, 0.5 + level / 2), freedom))

    def excess(place: float) -> float:
        tails = [weight * special.stdtr(freedom, -side * (place - value) / max(unit, 1e-12))
                 for weight, value, unit, freedom in laws]  # fmt: skip
        return float(sum(tails)) - (1 - level) / 2

    limits = [math.log(one[2] if side > 0 else one[1]) for one in ends.values()]
    low, high = min(limits) - 1e-9, max(limits) + 1e-9
    return math.exp(optimize.brentq(excess, low, high))
