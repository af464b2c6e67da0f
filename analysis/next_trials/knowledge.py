"""How well a target is known once some trials are done, in the linear approximation about a sample of parameters.

A measure is the law, plus what the configuration strays from it, plus the run's noise. The law's parameters have a
weak normal prior, and the straying of neighbouring sizes is alike, as far as one doubts the law's form (Blight and Ott
1975). Conditioning on a trial is then one step of a Cholesky factorisation. Without doubt and prior this is the Fisher
information J'J of optimal design; with doubt, points near one another repeat themselves, and a point near the target
says more than one far away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from analysis.next_trials.belief import Belief
from analysis.next_trials.target import Target

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

_FORM = 0.1  # of the measures' spread: what a doubted law may be wrong by, however well a few points lie on it
_REACH = 0.25  # of the span of ln x: how far apart two sizes may be and still stray alike


@dataclass(frozen=True)
class Question:
    """A target, a belief, and the places z (k, m) where trials were or may be run; sizes in the belief's coordinates.

    A place is one configuration. ``doubt`` is the standard deviation of
    the law's own error in units of the residuals'.
    """

    target: Target
    belief: Belief
    z: Array
    doubt: float
    coordinates: Array
    """(s, p): the sample, or the one best fit"""

    @cached_property
    def _slopes(self) -> Array:
        """The law's derivatives at all places and the target's, in prior standard deviations (s, m + 1, p)."""
        slopes = self.belief.slopes(self.z, self.coordinates)
        target = np.nan_to_num(self.target.slopes(self.belief.task, self.coordinates), posinf=0.0, neginf=0.0)
        return np.append(slopes, target[:, None, :], axis=1) @ self.belief.root

    @cached_property
    def _places(self) -> Array:
        """The places and the target's own (k, m + 1), in units of how far apart two sizes may be and stray alike.

        What is no value has no place: it is infinitely far from all others.
        """
        span = np.maximum(np.ptp(self.z, axis=1), 1e-9)[:, None] * _REACH
        is_value = self.target.kind == "value"
        at = self.target.sizes(self.belief.task) if is_value else np.full((len(self.z), 1), np.inf)
        return np.asarray(np.append(self.z, at, axis=1) / span)

    def _alike(self, place: int) -> Array:
        """Covariance of the law's own error at a place, or at the target (-1), with that at all (m + 1,)."""
        if place == -1 and self.target.kind != "value":
            return np.zeros(self.z.shape[1] + 1)
        apart = self._places - self._places[:, [place]]
        return np.asarray(self._stray * np.exp(-0.5 * (apart**2).sum(axis=0)))

    @property
    def _stray(self) -> float:
        """Variance of the law's own error. A few points may lie on any curve: it is never less than a share of all
        that was measured."""
        noise = self.belief.noise
        return self.doubt**2 * (noise.own + noise.run + (_FORM * float(self.belief.task.target.std())) ** 2)

    @cached_property
    def answers(self) -> Array:
        """Which rows of the sample have the number that is asked for (s,), as booleans in floats.

        A curve that turns far beyond all sizes does not turn as far as these trials can tell.
        """
        values = self.target.values(self.belief.task, self.coordinates)
        slopes = self.target.slopes(self.belief.task, self.coordinates)
        found = np.isfinite(values) & np.isfinite(slopes).all(axis=1)
        if self.target.kind == "optimum":
            ends = self.z.min(), self.z.max()
            place, span = values - float(np.ravel(self.belief.task.center)[0]), ends[1] - ends[0]
            found &= (place >= ends[0] - span) & (place <= ends[1] + span)
        return found.astype(np.float64)

    def covariance(self, place: int) -> Array:
        """Prior covariance of a place's configuration with all places and the target (s, m + 1)."""
        slopes = self._slopes
        found = np.einsum("sp,smp->sm", slopes[:, place], slopes) + self._alike(place)
        found[:, place] += self.belief.noise.own
        return np.asarray(found)

    def variance(self) -> Array:
        """Prior variance of each place's configuration and of the target (s, m + 1)."""
        stray = np.full(self.z.shape[1] + 1, self._stray)
        stray[:-1] += self.belief.noise.own
        stray[-1] *= self.target.kind == "value"
        return np.asarray((self._slopes**2).sum(axis=2) + stray)

    def nothing(self) -> Knowledge:
        """What is known before any trial."""
        prior = self.variance()
        at_target = np.einsum("sp,smp->sm", self._slopes[:, -1], self._slopes) + self._alike(-1)
        return Knowledge(self, np.zeros((0, *prior.shape)), prior, at_target, np.zeros(len(prior)))


@dataclass(frozen=True)
class Knowledge:
    """Variances of the places' configurations and of the target (s, m + 1) once some trials are done.

    ``factor`` (a, s, m + 1) are the rows of the Cholesky factor of the trials so far, ``shared`` (s, m + 1) the
    covariances with the target, and ``learned`` (s,) the logarithm of how much all configurations were narrowed.
    """

    question: Question
    factor: Array
    variances: Array
    shared: Array
    learned: Array

    def after(self, place: int, runs: float = 1.0) -> Knowledge:
        """What is known after so many runs more of the configuration at a place."""
        column = self.question.covariance(place) - np.einsum("as,asm->sm", self.factor[:, :, place], self.factor)
        noise = self.question.belief.noise.run / runs
        row = column / np.sqrt(column[:, place] + noise)[:, None]
        learned = self.learned + np.log1p(np.maximum(column[:, place], 0.0) / noise)
        return replace(
            self, factor=np.append(self.factor, row[None], axis=0), variances=np.maximum(self.variances - row**2, 0.0),
            shared=self.shared - row[:, -1:] * row, learned=learned,
        )  # fmt: skip

    @property
    def width(self) -> float:
        """Logarithm of the target's standard deviation, averaged over the sample; lower is better.

        A parameter set under which the target does not exist (a curve that does not turn) asks for all parameters
        alike, in its place: D-optimality, per parameter.
        """
        return float(self._mean(0.5 * np.log(self.variances[:, -1] + 1e-300), -0.5 * self.learned))

    def widths_after(self, runs: float = 1.0) -> Array:
        """``width`` after one run more at each place (m,)."""
        variances, at_target = self.variances[:, :-1], self.shared[:, :-1]
        noise = self.question.belief.noise.run / runs
        left = self.variances[:, -1:] - at_target**2 / (variances + noise)
        learned = self.learned[:, None] + np.log1p(variances / noise)
        return np.asarray(self._mean(0.5 * np.log(np.maximum(left, 0.0) + 1e-300), -0.5 * learned))

    def deviations(self) -> Array:
        """The target's standard deviation for each row of the sample (s,)."""
        return np.asarray(np.sqrt(self.variances[:, -1]))

    def _mean(self, log_width: Array, log_all: Array) -> Array:
        answers = self.question.answers.reshape(-1, *[1] * (log_width.ndim - 1))
        per_parameter = log_all / self.question.coordinates.shape[1]
        return np.asarray(np.where(answers > 0, log_width, per_parameter).mean(axis=0))
