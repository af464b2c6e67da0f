"""The trials of a budget that narrow a target's interval the most.

Greedy by gain per hour and greedy by gain (either alone can be arbitrarily bad under a budget, the better of both
cannot: Leskovec et al. 2007), then exchanges as in optimal design (Fedorov 1972): a trial for another one, while that
narrows the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.next_trials.knowledge import Knowledge

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LEAST_GAIN = 0.002
"""a trial that narrows the interval by less than this share is not worth its job"""
_EXCHANGES = 2  # rounds over the chosen
_MOST_EXCHANGED = 40  # of more trials each single one matters little, and exchanging them takes long


@dataclass(frozen=True)
class Offers:
    """Trials that may be run: their place (m,), and the stages that each still needs with the hours of each.

    ``needs`` (m, stages) says which stages a trial stands on, ``hours`` (stages,) what each takes; trials that share a
    stage pay for it once.
    """

    place: Places
    needs: Flags
    hours: Array

    @classmethod
    def apart(cls, place: npt.ArrayLike, hours: npt.ArrayLike) -> Offers:
        """Trials that share nothing."""
        cost = np.asarray(hours, dtype=np.float64)
        return cls(np.asarray(place, dtype=np.int64), np.eye(len(cost), dtype=np.bool_), cost)

    def cost(self, chosen: Sequence[int]) -> float:
        """Hours of a set of trials."""
        return float(self.hours @ self.needs[list(chosen)].any(axis=0))

    def further(self, chosen: Sequence[int]) -> Array:
        """What each trial adds to the hours of a set (m,)."""
        paid = self.needs[list(chosen)].any(axis=0)
        return np.asarray(self.needs[:, ~paid] @ self.hours[~paid])


@dataclass(frozen=True)
class Freedom:
    """Degrees of freedom of the interval, which a new configuration adds to and a further seed does not."""

    known: frozenset[int]
    """places that have a run"""
    parameters: int
    level: float

    def factor(self, places: Sequence[int]) -> float:
        """Logarithm of the t quantile once these places have runs too."""
        return float(self._log_quantile(np.array(len(self.known.union(places)))))

    def factors(self, places: Sequence[int], offers: Places) -> Array:
        """The same after one of the offers more (m,)."""
        known = self.known.union(places)
        new = np.array([place not in known for place in offers])
        return self._log_quantile(len(known) + new)

    def _log_quantile(self, count: npt.NDArray[np.integer]) -> Array:
        # The noise has a prior worth one point: a curve through all points has an interval, a wide one.
        freedom = np.maximum(count - self.parameters, 0) + 1.0
        return np.asarray(np.log(special.stdtrit(freedom, 0.5 + self.level / 2)))


@dataclass(frozen=True)
class Choice:
    """Numbers of the chosen offers in the order in which to run them, and the log half-width before and after each."""

    trials: tuple[int, ...]
    widths: tuple[float, ...]


def choose(
    now: Knowledge, offers: Offers, budget: float, freedom: Freedom, *, most: int | None = None
) -> Choice:  # fmt: skip
    """The offers, within a budget of hours and up to ``most``, that narrow the interval the most; deterministic."""
    search = _Search(now, offers, budget, freedom, len(offers.place) if most is None else most)
    chosen = min((search.greedy(per_hour) for per_hour in (True, False)), key=search.width)
    for _ in range(_EXCHANGES if len(chosen) <= _MOST_EXCHANGED else 0):
        better = search.exchanged(chosen)
        if better == chosen:
            break
        chosen = better
    return search.in_order(chosen)


@dataclass(frozen=True)
class _Search:
    now: Knowledge
    offers: Offers
    budget: float
    freedom: Freedom
    most: int

    def greedy(self, per_hour: bool, chosen: Sequence[int] = ()) -> list[int]:
        """Add offers one by one, the best first, until none fits or helps."""
        chosen, known = list(chosen), self.known(chosen)
        while len(chosen) < self.most and (best := self._best(known, chosen, per_hour)) is not None:
            chosen.append(best)
            known = known.after(int(self.offers.place[best]))
        return chosen

    def _best(self, known: Knowledge, chosen: Sequence[int], per_hour: bool) -> int | None:
        further = self.offers.further(chosen)
        places = self.offers.place[list(chosen)].tolist()
        gain = known.width + self.freedom.factor(places) - self._widths(known, places)
        fits = self.offers.cost(chosen) + further <= self.budget * (1 + 1e-9)
        fits[list(chosen)] = False
        worth = np.where(fits & (gain > LEAST_GAIN), gain, -np.inf)
        score = worth / np.maximum(further, 1e-9 * max(self.budget, 1e-9)) if per_hour else worth
        best = int(score.argmax())
        return best if np.isfinite(score[best]) else None

    def exchanged(self, chosen: list[int]) -> list[int]:
        """Each trial in turn for the best one that fits in its stead, or for whatever its hours buy elsewhere."""
        for trial in list(chosen):
            rest = [one for one in chosen if one != trial]
            width = self._widths(self.known(rest), self.offers.place[rest].tolist())
            fits = self.offers.cost(rest) + self.offers.further(rest) <= self.budget * (1 + 1e-9)
            fits[chosen] = False
            swapped = [[*rest, int(np.where(fits, width, np.inf).argmin())]] if fits.any() else []
            found = min((self.greedy(True, one) for one in [*swapped, rest]), key=self.width)
            if self.width(found) < self.width(chosen) - 1e-9:
                chosen = found
        return chosen

    def in_order(self, chosen: Sequence[int]) -> Choice:
        """The chosen, most gain per hour first, with the widths on the way."""
        ordered: list[int] = []
        known = self.now
        widths = [self.width([])]
        while len(ordered) < len(chosen):
            left = [one for one in chosen if one not in ordered]
            further = np.maximum(self.offers.further(ordered)[left], 1e-12)
            after = self._widths(known, self.offers.place[ordered].tolist())[left]
            best = left[int(((widths[-1] - after) / further).argmax())]
            ordered.append(best)
            known = known.after(int(self.offers.place[best]))
            widths.append(self.width(ordered))
        return Choice(tuple(ordered), tuple(widths))

    def known(self, chosen: Sequence[int]) -> Knowledge:
        known = self.now
        for one in chosen:
            known = known.after(int(self.offers.place[one]))
        return known

    def width(self, chosen: Sequence[int]) -> float:
        """Log half-width of the interval after some trials."""
        return self.known(chosen).width + self.freedom.factor(self.offers.place[list(chosen)].tolist())

    def _widths(self, known: Knowledge, places: Sequence[int]) -> Array:
        """Log half-width after each offer more (m,)."""
        return known.widths_after()[self.offers.place] + self.freedom.factors(places, self.offers.place)
