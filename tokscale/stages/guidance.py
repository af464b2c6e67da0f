"""Which scale of classifier-free guidance gives the lowest Fréchet distance: a search without gradients."""

from __future__ import annotations

from collections.abc import Callable

from tokscale.config import CfgSearch

_DIGITS = 6  # of a scale: sums of steps would differ from one another in the last bits


def search_scale(
    begin: float, search: CfgSearch, measure: Callable[[float], float]
) -> tuple[float, dict[float, float]]:
    """The scale at which ``measure`` is lowest as far as steps lead down, and all that was measured, in order.

    From ``begin`` to the lower of two neighbours, one step apart, until neither is lower (ties stay); never below 1,
    which is no guidance, nor beyond the highest. No scale is measured twice. It ends in a valley, the deepest one where
    there is one only, as of a Fréchet distance over scales.
    """
    measured: dict[float, float] = {}

    def at(number: int) -> float:
        scale = round(begin + number * search.step, _DIGITS)
        if not 1 <= scale <= search.highest:
            return float("inf")
        if scale not in measured:
            measured[scale] = measure(scale)
        return measured[scale]

    here = 0
    at(here)
    while (best := min((here, here + 1, here - 1), key=at)) != here:
        here = best
    return round(begin + here * search.step, _DIGITS), measured
