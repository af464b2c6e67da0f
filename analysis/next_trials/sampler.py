"""An Optuna sampler that asks for what narrows a stated prediction the most for its cost.

    sampler = InformationSampler("gfid at bottleneck_floats=8192", sizes=sizes, hours=hours)
    study = optuna.create_study(sampler=sampler)

It does not look for the best value, as other samplers do: it looks for what the fit does not know yet.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from analysis.next_trials.answer import DOUBT, next_trials
from analysis.next_trials.target import Target, read_target
from tokscale.errors import TableError

Sizes = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
Hours = Callable[[Mapping[str, Any]], float]

MOST = 256
"""points of a space that are looked at; of a larger one, as many at random"""
_AHEAD = 4  # trials that are planned for the sake of the first
_BAD = (TrialState.FAIL, TrialState.PRUNED)


class InformationSampler(optuna.samplers.BaseSampler):
    """Asks for the point of the space whose trial is expected to tell the most about a target per hour.

    ``target`` is a ``Target`` or its words; ``sizes`` gives the law's columns for the parameters of a trial (the
    parameters themselves, if left out), or None where they do not go together; ``hours`` what a trial costs (all the
    same, if left out). ``space`` is needed where the study does not state it when it asks. ``objective`` is the number
    of the value that the target speaks of. Trials under way count as known in advance. No point is asked for twice.
    """

    def __init__(
        self, target: Target | str, *, law: str | None = None, x: Sequence[str] = (), sizes: Sizes | None = None,
        hours: Hours | None = None, space: Mapping[str, BaseDistribution] | None = None, objective: int = 0,
        doubt: float = DOUBT, seed: int | None = None,
    ) -> None:  # fmt: skip
        self.target = target if isinstance(target, Target) else read_target(target, x)
        self.law, self.objective, self.doubt = law, objective, doubt
        self._sizes: Sizes = dict if sizes is None else sizes
        self._hours: Hours = _one if hours is None else hours
        self._space = None if space is None else dict(space)
        self._rng = np.random.default_rng(seed)
        self._by_chance = optuna.samplers.RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The space that was given, else that of the trials so far."""
        if self._space is not None:
            return self._space
        found = optuna.search_space.intersection_search_space(study.get_trials(deepcopy=False))
        return {name: one for name, one in found.items() if not one.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters to try next; empty where nothing new is left to learn, so that they are drawn at random."""
        if not search_space:
            return {}
        trials = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        points = self._points(search_space, [one.params for one in trials])
        if not points:
            return {}
        candidates = pd.DataFrame([{"trial": str(number), "status": "new", "gpu_hours": self._hours(point), **sizes}
                                   for number, (point, sizes) in enumerate(points)])  # fmt: skip
        results, under_way = self._known(trials)
        offered = pd.concat([candidates, under_way], ignore_index=True) if len(under_way) else candidates
        budget = float(candidates["gpu_hours"].max()) * 2
        try:
            found = next_trials(results, offered, self.target, budget=budget, law=self.law, doubt=self.doubt,
                                most=_AHEAD, seed=int(self._rng.integers(2**31)))  # fmt: skip
        except TableError:  # measures that no law takes, such as a constant: look elsewhere at random
            return {}
        return dict(points[int(found.steps[0].trial)][0]) if found.steps else {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value, of a parameter that is not in the space."""
        return self._by_chance.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self._rng = np.random.default_rng()
        self._by_chance.reseed_rng()

    def _points(
        self, space: Mapping[str, BaseDistribution], taken: Sequence[Mapping[str, Any]]
    ) -> list[tuple[dict[str, Any], Mapping[str, Any]]]:
        """Points of the space with the sizes of their trials, without those that were tried."""
        found: list[tuple[dict[str, Any], Mapping[str, Any]]] = []
        for point in self._grid(space):
            if any(point == {name: one.get(name) for name in point} for one in taken):
                continue
            sizes = self._sizes(point)
            if sizes is not None:
                found.append((point, {name: float(sizes[name]) for name in self.target.x}))
        return found

    def _grid(self, space: Mapping[str, BaseDistribution]) -> list[dict[str, Any]]:
        """All points of a small space, else some at random and the corners of all ranges."""
        values = [listed for one in space.values() if (listed := _values(one)) is not None]
        if len(values) == len(space) and math.prod(map(len, values)) <= MOST:
            return [dict(zip(space, point, strict=True)) for point in itertools.product(*values)]
        drawn = [{name: _at(one, float(self._rng.random())) for name, one in space.items()} for _ in range(MOST)]
        ends = itertools.islice(itertools.product((0.0, 1.0), repeat=len(space)), MOST)
        return [*({name: _at(one, share) for (name, one), share in zip(space.items(), corner, strict=True)}
                  for corner in ends), *drawn]  # fmt: skip

    def _known(self, trials: Sequence[FrozenTrial]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Finished trials as a results table, and those under way as candidates that need no further hours."""
        done, under_way = [], []
        for one in trials:
            sizes = self._sizes(one.params) if one.state not in _BAD else None
            if sizes is None or any(name not in sizes for name in self.target.x):
                continue
            row = {name: float(sizes[name]) for name in self.target.x}
            if one.state is TrialState.COMPLETE and one.values:
                done.append({**row, self.target.y: one.values[self.objective]})
            elif one.state is TrialState.RUNNING:
                under_way.append({**row, "trial": f"under way {one.number}", "status": "running", "gpu_hours": 0.0})
        columns = [*self.target.x, self.target.y]
        return pd.DataFrame(done, columns=columns), pd.DataFrame(under_way)


def _one(_: Mapping[str, Any]) -> float:
    return 1.0


def _values(distribution: BaseDistribution) -> Sequence[Any] | None:
    """All values of a distribution that has few, else None."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution):
        count = (distribution.high - distribution.low) // distribution.step + 1
        return range(distribution.low, distribution.high + 1, distribution.step) if count <= MOST else None
    assert isinstance(distribution, FloatDistribution)
    if distribution.step is None:
        return None
    count = round((distribution.high - distribution.low) / distribution.step) + 1
    return [distribution.low + number * distribution.step for number in range(count)] if count <= MOST else None


def _at(distribution: BaseDistribution, share: float) -> Any:
    """The value of a distribution at a share of it, from 0 to 1."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[min(int(share * len(distribution.choices)), len(distribution.choices) - 1)]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = float(distribution.low), float(distribution.high)
    value = math.exp(math.log(low) + share * math.log(high / low)) if distribution.log else low + share * (high - low)
    if distribution.step is not None:
        value = low + round((value - low) / distribution.step) * distribution.step
    value = min(max(value, low), high)
    return round(value) if isinstance(distribution, IntDistribution) else value
