"""The first trials of a sweep, when there are too few to fit anything: cheap ones, spread over the sizes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.next_trials.choosing import Choice, Offers

Array = npt.NDArray[np.float64]


def spread_out(sizes: Array, offers: Offers, done: Array, count: int, budget: float) -> Choice:
    """Up to ``count`` offers within a budget of hours that fill the sizes, each as far from others as its hours allow.

    Sizes ln x of the offers' trials (k, m) and of those that are done (k, n). The next trial is the one with the most
    distance to its nearest neighbour for the square root of its hours, so that a trial of four times the cost has to
    be twice as far away; the first one, without neighbours, is the cheapest.
    """
    span = np.maximum(np.ptp(np.append(sizes, done, axis=1), axis=1), 1e-9)[:, None]
    places, taken = sizes / span, done / span
    chosen: list[int] = []
    while len(chosen) < count:
        further = offers.further(chosen)
        fits = offers.cost(chosen) + further <= budget * (1 + 1e-9)
        distance = _nearest(places, np.append(taken, places[:, chosen], axis=1))
        open_ = fits & (distance > 0)
        if not open_.any():
            break
        score = np.minimum(distance, 1e6) / np.sqrt(np.maximum(further, 1e-9 * max(budget, 1e-9)))
        chosen.append(int(np.where(open_, score, -np.inf).argmax()))
    return Choice(tuple(chosen), ())


def _nearest(places: Array, others: Array) -> Array:
    """Distance of each place (k, m) to the nearest of the others (k, n), infinite where there is none (m,)."""
    if not others.shape[1]:
        return np.full(places.shape[1], np.inf)
    return np.asarray(np.sqrt(((places[:, :, None] - others[:, None, :]) ** 2).sum(axis=0)).min(axis=1))
