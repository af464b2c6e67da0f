"""The sampler in Optuna's own studies: it goes where the target is not known, and avoids what is taken."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from analysis.next_trials.sampler import InformationSampler

SPACE = {"width": IntDistribution(1, 32), "depth": IntDistribution(1, 4)}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def sizes(params: dict[str, int]) -> dict[str, float] | None:
    return None if params["depth"] == 3 else {"params": float(params["width"] * params["depth"])}


def loss(params: dict[str, int], rng: np.random.Generator) -> float:
    return float(5 - np.log2(params["width"] * params["depth"]) + 0.05 * rng.standard_normal())


def sampler(seed: int = 0) -> InformationSampler:
    return InformationSampler("loss at params=1024", law="semilog", sizes=sizes, space=SPACE, seed=seed)


def asked(count: int, seed: int = 0) -> list[dict[str, int]]:
    study, rng = optuna.create_study(sampler=sampler(seed)), np.random.default_rng(0)
    for _ in range(count):
        trial = study.ask(SPACE)
        study.tell(trial, loss(trial.params, rng))
    return [trial.params for trial in study.trials]


def test_it_goes_to_the_sizes_that_tell_the_most_and_never_twice() -> None:
    points = asked(9)
    assert len({(one["width"], one["depth"]) for one in points}) == 9
    assert all(one["depth"] != 3 for one in points)  # whose sizes do not go together
    later = [one["width"] * one["depth"] for one in points[4:]]
    assert np.median(later) >= 64  # a prediction far above all sizes is best made from the largest


def test_an_equal_seed_asks_for_equal_points() -> None:
    assert asked(6) == asked(6)


def test_points_under_way_and_failed_ones_are_not_asked_for_again() -> None:
    study = optuna.create_study(sampler=sampler())
    trials = [study.ask(SPACE) for _ in range(8)]
    study.tell(trials[0], state=optuna.trial.TrialState.FAIL)
    study.tell(trials[1], state=optuna.trial.TrialState.PRUNED)
    further = [study.ask(SPACE) for _ in range(4)]
    assert len({tuple(trial.params.values()) for trial in [*trials, *further]}) == 12


def test_a_space_of_ranges_is_sampled_within_it() -> None:
    study = optuna.create_study(sampler=InformationSampler(
        "loss at x=100", law="semilog", space={"x": FloatDistribution(0.1, 10, log=True)}, seed=1))  # fmt: skip
    rng = np.random.default_rng(0)

    def objective(trial: optuna.Trial) -> float:
        return float(np.log2(trial.suggest_float("x", 0.1, 10, log=True)) + 0.1 * rng.standard_normal())

    study.optimize(objective, n_trials=7)
    drawn = [trial.params["x"] for trial in study.trials]
    assert max(drawn) == pytest.approx(10)
    assert all(0.1 <= x <= 10 for x in drawn)


def test_without_a_stated_space_the_first_points_are_random() -> None:
    study = optuna.create_study(sampler=InformationSampler("loss at x=100", law="semilog", seed=1))
    study.optimize(lambda trial: trial.suggest_float("x", 1, 2), n_trials=3)
    assert len(study.trials) == 3


def test_measures_that_no_law_takes_end_nothing() -> None:
    study = optuna.create_study(sampler=sampler())
    for _ in range(6):
        study.tell(study.ask(SPACE), 1.0)
    assert len(study.trials) == 6
