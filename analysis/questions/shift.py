"""How the best bottleneck size moves with the size of the model that generates on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from analysis.questions import wording
from analysis.questions.answers import Answer, Estimate, check_level
from analysis.questions.best_size import BestSize
from analysis.questions.regression import student
from tokscale.errors import TableError, one_of

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OptimumShift(Answer):
    """The slope of log2 best size against log2 ``against``: 1 where both double together, 0 where nothing moves.

    Of ``given`` best sizes ``known`` are resolved, and ``used`` stand beside one of another size in their stratum.
    """

    y: str
    x: str
    against: str
    slope: Estimate | None
    used: int
    known: int
    given: int
    strata: int
    level: float
    warnings: tuple[str, ...]

    @property
    def resolved(self) -> bool:
        """Whether the best size moves for certain, and in which direction."""
        return self.slope is not None and self.slope.resolved

    def sentence(self) -> str:
        sizes = f"{self.known} of {wording.plural(self.given, 'best size')} resolved, {self.used} of them comparable"
        move = f"the best {wording.label(self.x)} for {wording.label(self.y)} moves with {wording.label(self.against)}"
        if self.slope is None:
            return f"How {move} is not resolved ({sizes})."
        slope = wording.bracket(self.slope.value, self.slope.low, self.slope.high)
        if not self.resolved:
            return f"That {move} is not resolved: exponent {slope} ({sizes})."
        return f"With exponent {slope}, {move} ({sizes}, {wording.chance(self.slope.p)})."


def optimum_shift(best: Sequence[BestSize], against: str = "probe_params", *, level: float = 0.95) -> OptimumShift:
    """The exponent with which best sizes grow with ``against``, a key of their ``sizes`` or of their ``group``.

    Best sizes of one stratum (equal in all of their group but what varies with ``against``) share a line with a level
    of its own. Each brings the variance of its interval, and the slope's degrees of freedom are those of Welch and
    Satterthwaite. Where the best sizes scatter about the lines by more than their intervals allow, that scatter takes
    the place of the intervals. Raises ``TableError`` for a key that is not there.
    """
    check_level(level)
    if not best:
        raise TableError("no best size is given", allowed="the answers of best_bottleneck")
    places = [one.sizes.get(against, one.group.get(against)) for one in best]
    if all(place is None for place in places):
        raise TableError("best sizes do not know this size", given=against,
                         allowed=one_of({**best[0].sizes, **best[0].group}, against))  # fmt: skip
    warnings = []
    rows = [(one, float(place)) for one, place in zip(best, places, strict=True)
            if one.resolved and isinstance(place, (int, float)) and place > 0]  # fmt: skip
    stratum = _strata([one for one, _ in rows], [place for _, place in rows])
    octaves = np.log2([place for _, place in rows])
    used = np.array([np.ptp(octaves[stratum == one]) > 0.01 for one in stratum], dtype=bool)
    slope, strata = None, 0
    if used.any():
        chosen = [one for (one, _), keep in zip(rows, used, strict=True) if keep]
        slope, scattered = _slope(octaves[used], chosen, stratum[used], level)
        strata = len(set(stratum[used].tolist()))
        if scattered:
            warnings.append("best sizes scatter about the line by more than their intervals")
    return OptimumShift(
        best[0].y, best[0].x, against, slope, int(used.sum()), len(rows), len(best), strata, level, tuple(warnings)
    )


def _strata(best: Sequence[BestSize], places: Sequence[float]) -> npt.NDArray[np.int64]:
    """Best sizes equal in every column of their group of which the values do not each come with one place only."""
    names = []
    for name in dict.fromkeys(name for one in best for name in one.group):
        values = [str(one.group.get(name)) for one in best]
        ends = [[place for place, other in zip(places, values, strict=True) if other == value] for value in set(values)]
        if len(set(values)) > 1 and any(max(places) > 1.05 * min(places) for places in ends):
            names.append(name)
    keys = ["|".join(str(one.group.get(name)) for name in names) for one in best]
    return np.unique(keys, return_inverse=True)[1].astype(np.int64) if keys else np.zeros(0, dtype=np.int64)


def _slope(
    octaves: Array, best: Sequence[BestSize], stratum: npt.NDArray[np.int64], level: float
) -> tuple[Estimate, bool]:
    """The slope within strata, and whether scatter about the lines rather than the intervals sets its error.

    All best sizes count the same: weights from variances with two or three degrees of freedom cost coverage.
    """
    sizes, low, high = np.log2(np.array([(one.size, one.low, one.high) for one in best], dtype=np.float64)).T
    width = high - low
    freedom = np.array([one.freedom for one in best], dtype=np.float64)
    variance = (width / 2 / special.stdtrit(freedom, 0.5 + np.array([one.level for one in best]) / 2)) ** 2
    centred = octaves - _means(octaves, stratum)
    weights = centred / (centred @ centred)
    value = float(weights @ sizes)
    parts = weights**2 * variance
    error, spare = float(np.sqrt(parts.sum())), float(parts.sum() ** 2 / (parts**2 / freedom).sum())
    residual = sizes - _means(sizes, stratum) - value * centred
    left = len(sizes) - len(np.unique(stratum)) - 1
    scatter = float(residual @ residual) / left if left > 0 else 0.0
    expected = float(variance.mean())
    scattered = left > 0 and float(stats.f.sf(scatter / expected, left, freedom.sum())) < 0.05
    if scattered:
        error, spare = float(np.sqrt(scatter * (weights @ weights))), float(left)
    return student(value, error, spare, level), scattered


def _means(values: Array, stratum: npt.NDArray[np.int64]) -> Array:
    """Each row's mean of its stratum (n,)."""
    _, place = np.unique(stratum, return_inverse=True)
    means: Array = (np.bincount(place, weights=values) / np.bincount(place))[place]
    return means
