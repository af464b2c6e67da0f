"""An average of laws that foretells better than the best of them: each is fitted to the whole curve and to upper parts.

Curves of training hardly follow one short law from the first point to the last, and a law that bends with every bend
foretells nothing. But over a factor of ten to a hundred in x short laws hold nearly, so they are also fitted to
windows: the upper 85, 70, 55 and 40 % of ln x. A law in a window weighs

    (its AICc weight among the laws in that window) / (geometric mean of its squared errors at earlier origins),

the first for what it explains, the second for what it would have foretold (``analysis.hindcast``). The mean over
origins is geometric so that one bad origin decides nothing, and the variance of one point's noise is added to each
squared error, because smaller errors are luck. Errors are of ln y, where y is positive, and so is the average.

Its variance is that of its members, inflated for residuals that follow one another, how far the members are apart
(Buckland, Burnham and Augustin 1997), and what their common form errs beyond that, which earlier origins show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.extrapolation import form_rate, within_horizon
from analysis.hindcast import Refits, origins, refit
from analysis.laws import Law
from analysis.solver import Problem, problem

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WINDOWS = (0.0, 0.15, 0.3, 0.45, 0.6)  # where each begins, as a share of the span of ln x
_LEAST_POINTS = 6  # different sizes in a window: from six on a law of three parameters has an AICc
_MOST_POINTS = 160  # more are gathered: between two of so many, any law is straight
_LEAST_SHARE = 0.1  # of the least y that was measured: a law that foretells less has left its range
_MUCH = 1e4  # a variance beyond which nothing is known, in units of that of ln y or of y
_NOTHING = 1e-24  # of a mean square: the squared error of exact data


class Outlook(NamedTuple):
    """What an average foretells at places (m,), on its own scale (ln y, or y): the mean, and parts of its variance."""

    value: Array
    own: Array
    """The members' own variances, if their laws were true."""
    between: Array
    """How far the members are apart."""
    form: Array
    """What all their forms err beyond that."""
    noise: Array
    """The variance of one more point about its curve."""


@dataclass(frozen=True)
class Member:
    """One law in some windows w: its fits to them, at the places z in ln x (w, m) each, on the average's scale."""

    fits: Refits
    inflation: Array
    logarithmic: bool
    least: float

    @classmethod
    def of(cls, task: Problem, parts: Mask, windows: int, logarithmic: bool, least: float) -> Member:
        fits = refit(task, parts, windows)
        return cls(fits, fits.inflation, logarithmic, least)

    @property
    def freedom(self) -> Array:
        """Degrees of freedom (w,), of as many independent points as tell as much."""
        return np.maximum(self.fits.rows / self.inflation - len(self.fits.task.law.parameters), 1.0)

    def first(self, count: int) -> Member:
        """The first windows only."""
        return replace(self, fits=self.fits.first(count), inflation=self.inflation[:count])

    def at(self, z: Array) -> tuple[Array, Array, Array]:
        """The curve, its variance, and the noise about it, each (w, m), at places z (m,) in ln x."""
        value, variance = self.fits.foretell(z[None])
        variance = variance * self.inflation[:, None]
        noise = np.broadcast_to(self.fits.variance[:, None], value.shape)
        if self.logarithmic and not self.fits.task.law.log_residuals:
            value = np.maximum(value, self.least)
            value, variance, noise = np.log(value), variance / value**2, noise / value**2
        return value, np.minimum(variance, _MUCH), np.minimum(noise, _MUCH)


@dataclass(frozen=True)
class Average:
    """Laws l in windows w of one curve, and what each weighs: ``weights`` (l, w), all together 1."""

    members: tuple[Member, ...]
    weights: Array
    begins: Array
    """ln of the size at which each window begins (w,)."""
    edge: float
    """ln of the largest size."""
    logarithmic: bool
    freedom: float
    """Degrees of freedom of the members' variances, in the mean."""
    rate: float
    """Standard error of the average's form for each unit of ln x beyond the largest size."""
    error: float | None
    """Root mean squared error of the average at its origins, on its scale; None without origins."""
    null_error: float | None
    """The same of the null, which repeats the last value."""
    reach: float
    """How far ahead was foretold at the origins, at most, in ln x."""

    def foretell(self, z: Array) -> Outlook:
        """The average at places z (m,) in ln x.

        Beyond the measured sizes every member counts; within them a window counts less and less towards its beginning,
        so that the average is continuous and rests on fits to the points around the place.
        """
        value, variance, noise = (np.stack(part) for part in zip(*(one.at(z) for one in self.members), strict=True))
        share = np.clip((z - self.begins[:, None]) / np.maximum(self.edge - self.begins[:, None], 1e-300), 0.0, 1.0)
        share[0] = 1.0
        form = (self.rate * np.maximum(z - self.edge, 0.0)) ** 2
        return combined(self.weights[:, :, None] * share, value, variance, noise)._replace(form=form)


def combined(weight: Array, value: Array, variance: Array, noise: Array) -> Outlook:
    """The mean of members (l, w, m) with weights (l, w, m), which need not add up to 1."""
    used = np.broadcast_to(weight > 0, value.shape)
    weight = np.where(used, weight, 0.0) / weight.sum(axis=(0, 1))

    def mean(part: Array) -> Array:
        return np.asarray((weight * np.where(used, part, 0.0)).sum(axis=(0, 1)))

    middle = mean(value)
    return Outlook(middle, mean(variance), mean((value - middle) ** 2), np.zeros_like(middle), mean(noise))


def averaged(
    laws: Sequence[Law], x: Array, y: Array, weight: Array | None = None, begins: Sequence[float] = WINDOWS
) -> Average | None:
    """The average of laws of one column on sizes x (n,) and measures y (n,), with weights of the points (n,) or none.

    Windows begin at these shares of the span of ln x. None where no law has an AICc: the points are too few.
    """
    logarithmic, least = bool((y > 0).all()), _LEAST_SHARE * float(y.min())
    x, y, weight = _gathered(x, y, np.ones(len(y)) if weight is None else weight, logarithmic)
    z, target = np.log(x), np.log(y) if logarithmic else y
    known = np.append(np.ones((1, len(z)), dtype=bool), origins(z), axis=0)
    parts = _parts(z, known, begins)  # (1 + o, w, n)
    windows = parts.shape[1]
    usable = np.stack([parts.sum(axis=2) > len(law.parameters) for law in laws])  # (l, 1 + o, w)
    members = []
    for law, fitted in zip(laws, usable, strict=True):
        # Parts that are too small for a law are filled up; what comes of them is never looked at.
        whole = np.where(fitted[..., None], parts, True).reshape(-1, len(z))
        members.append(Member.of(problem(law, x[None], y[None], weight), whole, windows, logarithmic, least))
    support = np.stack([_aicc(member.fits, y)[:windows] for member in members])
    support[~usable[:, 0]] = np.inf
    if not np.isfinite(support).any():
        return None
    values = [np.stack(part).reshape(*usable.shape, -1) for part in zip(*(one.at(z) for one in members), strict=True)]
    value, variance, noise = (part[:, 1:] for part in values)
    past = _Past(value, variance, noise, usable[:, 1:], known[1:], z, target)
    shares = _shares(support)
    weights = shares * past.credit()
    weights /= weights.sum()
    now = tuple(member.first(windows) for member in members)
    freedom = float((weights * np.stack([member.freedom for member in now])).sum())
    independent = 1 - float((weights * np.stack([member.fits.dependence for member in now])).sum())
    first = np.array([z[part].min() for part in parts[0]])
    return Average(now, weights, first, float(z.max()), logarithmic, freedom, *past.judged(shares, independent))


@dataclass(frozen=True)
class _Past:
    """What every law l in every window w would have foretold at o origins: (l, o, w, n), where it is ``usable``."""

    value: Array
    variance: Array
    noise: Array
    usable: Mask
    known: Mask
    z: Array
    target: Array

    def credit(self, left_out: int | None = None) -> Array:
        """1 / the geometric mean over origins of the squared error of each member (l, w), one origin left out if told.

        Where a member could not be fitted it counts as the worst of those that could.
        """
        told = self.usable.any(axis=(0, 2)) & (np.arange(len(self.known)) != left_out)
        if not told.any():
            return np.ones(self.usable.shape[::2])
        square = _mean((self.value - self.target) ** 2, self.ahead[:, None])[:, told]  # (l, o, w)
        usable = self.usable[:, told]
        worst = np.where(usable, square, 0.0).max(axis=(0, 2), keepdims=True)
        luck = float(np.where(self.usable, self.noise[..., -1], np.inf).min())
        luck += _NOTHING * float((self.target**2).mean())
        return np.asarray(np.exp(-np.log(np.where(usable, square, worst) + luck).mean(axis=1)))

    def judged(self, shares: Array, independent: float) -> tuple[float, float | None, float | None, float]:
        """Of the average from these AICc weights: its form's rate, its error and the null's, and how far it was looked.

        Each origin is foretold with the credit that the others give: its own would flatter the average. Errors within
        the members' variance are excused as far as their residuals are ``independent``, as in ``model_form``.
        """
        told = np.flatnonzero(self.usable.any(axis=(0, 2)))
        if not len(told):
            return 0.0, None, None, 0.0
        mean, own, between, _, noise = (
            np.stack(part) for part in zip(*map(self._look(shares), told.tolist()), strict=True)
        )
        last = np.where(self.known[told], self.z, -np.inf).max(axis=1, keepdims=True)
        ahead, distance = self.ahead[told], self.z - last
        null = np.array([[self.target[self.z == end].mean()] for end in last[:, 0]])
        errors = [float(np.sqrt(_mean((of - self.target) ** 2, ahead).mean())) for of in (mean, null)]
        rate = form_rate(mean - self.target, independent * (own + between + noise), distance, ahead)
        return rate, errors[0], errors[1], float(distance[ahead].max())

    def _look(self, shares: Array) -> Callable[[int], Outlook]:
        def look(origin: int) -> Outlook:
            weight = shares * self.credit(origin) * self.usable[:, origin]
            weight = weight if weight.sum() > 0 else self.usable[:, origin].astype(np.float64)
            parts = (part[:, origin] for part in (self.value, self.variance, self.noise))
            return combined(weight[..., None], *parts)

        return look

    @property
    def ahead(self) -> Mask:
        """The points (o, n) that are foretold from each origin."""
        return within_horizon(self.known, self.z)


def _mean(values: Array, which: Mask) -> Array:
    return np.asarray(np.where(which, values, 0.0).sum(axis=-1) / which.sum(axis=-1))


def _parts(z: Array, known: Mask, begins: Sequence[float]) -> Mask:
    """The windows of what is known at each origin, (o, w, n); of windows that are the same at the first one is kept."""
    span, last = np.ptp(z), np.where(known, z, -np.inf).max(axis=1)
    parts = np.empty((len(known), len(begins), len(z)), dtype=bool)
    for place, (points, end) in enumerate(zip(known, last, strict=True)):
        sizes = np.unique(z[points])
        enough = sizes[max(len(sizes) - _LEAST_POINTS, 0)]
        for window, share in enumerate(begins):
            begin = min(z.min() + share * (end - z.min()), enough)
            parts[place, window] = points & (z >= begin - 1e-9 * span)
    _, first = np.unique(parts[0].sum(axis=1), return_index=True)
    return parts[:, np.sort(first)]


def _shares(support: Array) -> Array:
    """AICc (l, w) as weights of the laws in each window; a window without any AICc weighs nothing."""
    least = support.min(axis=0)
    known = np.isfinite(least)
    share = np.exp(-(support[:, known] - least[known]) / 2)
    weights = np.zeros(support.shape)
    weights[:, known] = share / share.sum(axis=0)
    return weights


def _aicc(fits: Refits, y: Array) -> Array:
    """AICc (s,) of each fit, of y itself (``analysis.diagnostics.aicc``); infinite where there are too few points."""
    rows, k = fits.rows, len(fits.task.law.parameters) + 1
    left = rows - k - 1
    with np.errstate(divide="ignore"):
        deviance = rows * np.log(fits.cost / rows + _NOTHING * float((fits.task.target**2).mean()))
    if fits.task.law.log_residuals:
        deviance = deviance + 2 * np.where(fits.parts, np.log(y), 0.0).sum(axis=1)
    return np.where(left > 0, deviance + 2 * k + 2 * k * (k + 1) / np.maximum(left, 1), np.inf)


def _gathered(x: Array, y: Array, weight: Array, logarithmic: bool) -> tuple[Array, Array, Array]:
    """Sizes, measures and weights (n,) in rising order; many points become the means of narrow bins of ln x."""
    order = np.argsort(x, kind="stable")
    x, y, weight = x[order], y[order], weight[order]
    if len(x) <= _MOST_POINTS:
        return x, y, weight
    z, target = np.log(x), np.asarray(np.log(y) if logarithmic else y)
    place = np.minimum(((z - z[0]) / (z[-1] - z[0]) * _MOST_POINTS).astype(np.int64), _MOST_POINTS - 1)
    _, place = np.unique(place, return_inverse=True)
    total = np.bincount(place, weights=weight).astype(np.float64)
    z, target = (np.bincount(place, weights=weight * part) / total for part in (z, target))
    return np.exp(z), np.asarray(np.exp(target) if logarithmic else target), total
