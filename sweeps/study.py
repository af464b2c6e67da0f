"""The Optuna side of a search: samplers that are asked for points, pruners, and a study for the dashboard.

A study here is a view and never the truth: it is made of the points that were asked and of what became of them, and
can be made again at any time. Sampling starts from a new one each time, with a seed of its own for every draw, so that
equal points and results give an equal next point, whatever was interrupted in between. What is told of a point:

    open         running: samplers keep away from it for now (the constant liar of tpe)
    done         complete, with its values
    infeasible   pruned, with its constraints: tpe stays away from it, nsga2 never breeds from it
    diverged     the same, by a constraint of its own; a failure would be forgotten, and asked for again
    pruned       pruned, with its curve up to there
    failed       failed: no word about the point
"""

from __future__ import annotations

import datetime
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeps.curves import STEP
from sweeps.outcomes import Outcome
from sweeps.search_config import SearchConfig
from sweeps.search_log import Point
from sweeps.search_space import Dimension
from tokscale import front
from tokscale.stage import canonical

Describe = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
DIVERGED = "diverged"
NAMED_CONSTRAINTS = hasattr(FrozenTrial, "set_constraint")  # since Optuna 5; before, they were a list
_REDUCTION = 3  # of Hyperband: a third goes on at each rung
STATES = {
    "open": TrialState.RUNNING,
    "done": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
    "diverged": TrialState.PRUNED,
    "pruned": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED,
}


class Translation:
    """Points of a search as Optuna's trials, and back."""

    def __init__(self, config: SearchConfig, dimensions: Mapping[str, Dimension]) -> None:
        self.config, self.dimensions = config, dimensions
        self.directions = [objective.direction for objective in config.objectives]
        self.distributions = {path: _distribution(dimension) for path, dimension in dimensions.items()}
        # Optuna compares what a pruner reads in the direction of the objective; a loss is better when it is lower.
        self.sign = -1.0 if self.directions[0] == "maximize" else 1.0

    def study(self, storage: optuna.storages.BaseStorage | None = None, name: str | None = None) -> optuna.Study:
        """A new study; in memory without a storage."""
        with quiet():
            sampler, pruner = optuna.samplers.RandomSampler(), _pruner(self.config)
            return optuna.create_study(
                storage=storage, study_name=name, directions=self.directions, sampler=sampler, pruner=pruner
            )

    def params(self, point: Point) -> dict[str, Any]:
        """A point's settings as Optuna has them."""
        return {path: _label(value, self.dimensions[path]) for path, value in point.params.items()}

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What Optuna chose as settings of a trial."""
        settings = {}
        for path, dimension in self.dimensions.items():
            labels = [_label(choice, dimension) for choice in dimension.choices]
            chosen = dimension.choices[labels.index(params[path])] if labels else params[path]
            settings[path] = dimension.tidy(chosen)
        return settings

    def attributes(self, point: Point) -> dict[str, Any]:
        """What a dashboard shows of a point beside its parameters: the trials that judge it, by id."""
        return {"point": point.number, "trials": list(point.trials)}

    def curve(self, outcome: Outcome) -> dict[int, float]:
        """A curve in the direction of the objective."""
        return {step: self.sign * value for step, value in outcome.curve.items()}

    def frozen(self, point: Point, outcome: Outcome) -> FrozenTrial:
        """A point with what became of it."""
        curve, constraints = self.curve(outcome), constraints_of(point, outcome)
        values = list(outcome.values) or None
        if STATES[outcome.state] is TrialState.PRUNED and curve:
            values = [curve[max(curve)]]  # as Optuna's own `tell` does
        named: dict[str, Any] = {"constraints": constraints} if NAMED_CONSTRAINTS else {}
        listed = {} if NAMED_CONSTRAINTS else {"constraints": [sum(max(0.0, one) for one in constraints.values())]}
        trial = optuna.trial.create_trial(
            state=STATES[outcome.state], values=values, params=self.params(point), distributions=self.distributions,
            user_attrs=self.attributes(point), system_attrs={**point.sampler, **listed}, intermediate_values=curve,
            **named,
        )  # fmt: skip
        trial.datetime_start = _moment(point.when)
        if trial.state.is_finished():
            trial.datetime_complete = _moment(outcome.ended or point.when)
        return trial


class Sampling:
    """One round of asking, from everything that is known at its beginning and from the points it gives out.

    ``describe`` tells the information sampler about settings: the sizes of their trial with its ``gpu_hours``, or None
    where they do not go together.
    """

    def __init__(
        self, translation: Translation, points: Iterable[tuple[Point, Outcome]], describe: Describe | None = None
    ) -> None:
        self.translation, self.config, self._describe = translation, translation.config, describe
        self._described: dict[str, Mapping[str, Any] | None] = {}
        self._study = translation.study()
        for point, outcome in points:
            self._add(point, outcome)
        if self.config.sampler == "nsga2":
            self.draw(0)  # Optuna sorts a generation's parents in another way when it looks at them again

    def note(self, point: Point) -> None:
        """Take a point that was asked just now into account."""
        self._add(point, Outcome("open" if point.feasible else "infeasible"))

    def _add(self, point: Point, outcome: Outcome) -> None:
        if self.config.sampler != "random":  # which learns nothing
            self._study.add_trial(self.translation.frozen(point, outcome))

    def draw(self, seed: int, *, at_random: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
        """Settings that the sampler proposes, and what it wants to know of them later."""
        with quiet():
            self._study.sampler = self._sampler(seed, at_random=at_random)
            asked = self._study.ask(self.translation.distributions)
            # What is asked for is noted when it is known whether it can be tried; until then it counts as failed, and
            # samplers look at no failures.
            trial = self._study.tell(asked, state=TrialState.FAIL)
        notes = {name: value for name, value in trial.system_attrs.items() if not name.startswith("tpe:")}
        return self.translation.settings(trial.params), notes

    def _sampler(self, seed: int, *, at_random: bool) -> optuna.samplers.BaseSampler:
        if at_random or self.config.sampler != "information":
            return _sampler(self.config, seed, at_random=at_random)
        assert self._describe is not None
        known: dict[str, Mapping[str, Any] | None] = self._described

        def described(params: Mapping[str, Any]) -> Mapping[str, Any] | None:
            settings = self.translation.settings(params)
            name = canonical(settings)
            if name not in known:
                known[name] = self._describe(settings) if self._describe is not None else None
            return known[name]

        # analysis is not imported here: whoever is installed offers the sampler
        made: optuna.samplers.BaseSampler = front.service("information_sampler")(
            self.config.target, law=self.config.law, sizes=described, seed=seed,
            hours=lambda params: (described(params) or {})["gpu_hours"], space=self.translation.distributions,
        )  # fmt: skip
        return made


def _sampler(config: SearchConfig, seed: int, *, at_random: bool) -> optuna.samplers.BaseSampler:
    if at_random or config.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    old: dict[str, Any] = {} if NAMED_CONSTRAINTS else {"constraints_func": _listed_constraints}
    if config.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=config.population_size, seed=seed, **old)
    return optuna.samplers.TPESampler(n_startup_trials=config.startup_points, constant_liar=True,
                                      multivariate=len(config.objectives) == 1, seed=seed, **old)  # fmt: skip


def _pruner(config: SearchConfig) -> optuna.pruners.BasePruner:
    if config.pruner is None:
        return optuna.pruners.NopPruner()
    warmup = math.ceil(100 * config.pruner.warmup / STEP) * STEP
    if config.pruner.kind == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warmup)
    return optuna.pruners.HyperbandPruner(min_resource=max(STEP, warmup), max_resource=100, reduction_factor=_REDUCTION)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution([_label(choice, dimension) for choice in dimension.choices])
    if dimension.whole:
        return IntDistribution(
            int(dimension.low), int(dimension.high), log=dimension.log, step=int(dimension.step or 1)
        )
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _label(value: Any, dimension: Dimension) -> Any:
    """A value as Optuna takes it: a choice that is no number and no word is written out (and true is not 1)."""
    plain = value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))
    return value if plain or not dimension.choices else canonical(value)


def constraints_of(point: Point, outcome: Outcome) -> dict[str, float]:
    """The constraints of a point; to have diverged is one more that it breaks."""
    return {**point.constraints, DIVERGED: 1.0} if outcome.state == "diverged" else dict(point.constraints)


def _listed_constraints(trial: FrozenTrial) -> Sequence[float]:
    listed: Sequence[float] = trial.system_attrs.get("constraints", [0.0])
    return listed


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's word on every study, and on options that it once called experimental."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
