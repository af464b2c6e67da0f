"""Chosen designs against those that are known in closed form, and what every choice promises."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.laws import law_named
from analysis.next_trials.belief import Belief, Noise, believe
from analysis.next_trials.choosing import Freedom, Offers, choose
from analysis.next_trials.knowledge import Knowledge, Question
from analysis.next_trials.target import read_target

SIZES = np.exp2(np.linspace(-1, 1, 9))  # log2 x from -1 to 1: the interval on which designs are printed


def belief(name: str, own: float = 0.0, run: float = 1.0) -> Belief:
    """A belief in a law with nearly no prior and stated noise."""
    law, rng = law_named(name), np.random.default_rng(0)
    y = 10 + np.log2(SIZES) + 0.1 * rng.standard_normal(9)
    made = believe(law, SIZES[None], y, rng, sample=2)
    p = len(law.parameters)
    return dataclasses.replace(made, noise=Noise(own, run), root=1e4 * np.eye(p))


def nothing_known(words: str, known: Belief, doubt: float = 0.0) -> Knowledge:
    z = np.log(SIZES)[None] - known.task.center
    return Question(read_target(words), known, z, doubt, known.sample).nothing()


def runs_at(words: str, law: str, runs: int) -> list[int]:
    """How many of so many runs are made at each size, when a run costs the same everywhere and noise is all."""
    now = nothing_known(words, belief(law))
    offers = Offers.apart(np.repeat(np.arange(9), runs), np.ones(9 * runs))
    everywhere = Freedom(frozenset(range(9)), 2, 0.95)  # no new degrees of freedom anywhere
    choice = choose(now, offers, runs, everywhere)
    return np.bincount(offers.place[list(choice.trials)], minlength=9).tolist()


def test_a_slope_is_measured_at_the_ends() -> None:
    assert runs_at("slope of y over x", "semilog", 12) == [6, 0, 0, 0, 0, 0, 0, 0, 6]


def test_extrapolating_a_line_weighs_the_ends_as_hoel_and_levine_do() -> None:
    # (t - 1) / 2t and (t + 1) / 2t of the runs for a prediction at t = 3 (Hoel and Levine 1964)
    assert runs_at("y at x=8", "semilog", 12) == [4, 0, 0, 0, 0, 0, 0, 0, 8]


def test_extrapolating_a_parabola_is_done_from_chebyshev_points() -> None:
    # |L_i(2)| = 1, 3, 3 at -1, 0, 1
    assert runs_at("y at x=4", "quadratic", 14) == [2, 0, 0, 0, 6, 0, 0, 0, 6]


def test_a_target_that_does_not_exist_asks_for_all_parameters_alike() -> None:
    # D-optimal for a parabola: a third of the runs at each end and in the middle
    flat = belief("quadratic")
    flat = dataclasses.replace(flat, sample=np.array([[10.0, 1.0, 0.0]]))
    now = nothing_known("optimum of y over x", flat)
    offers = Offers.apart(np.repeat(np.arange(9), 9), np.ones(81))
    choice = choose(now, offers, 9, Freedom(frozenset(range(9)), 3, 0.95))
    assert np.bincount(offers.place[list(choice.trials)], minlength=9).tolist() == [3, 0, 0, 0, 3, 0, 0, 0, 3]


def test_without_doubt_and_prior_the_variance_is_that_of_least_squares() -> None:
    known = nothing_known("y at x=16", belief("quadratic", run=0.25))
    places = [0, 2, 4, 4, 7, 8]
    for place in places:
        known = known.after(place)
    basis = np.stack([np.log2(SIZES[places]) ** degree for degree in range(3)], axis=1)
    at = np.array([1.0, 4.0, 16.0])
    expected = np.sqrt(0.25 * at @ np.linalg.inv(basis.T @ basis) @ at)
    assert known.deviations() == pytest.approx(expected, rel=1e-4)


def test_a_look_ahead_is_what_comes_true() -> None:
    known = nothing_known("y at x=16", belief("quadratic", own=0.1), doubt=0.7).after(1).after(4).after(8)
    ahead = known.widths_after()
    assert [known.after(place).width for place in range(9)] == pytest.approx(ahead.tolist(), rel=1e-9)
    assert (ahead <= known.width + 1e-12).all()


def test_a_further_seed_takes_off_the_run_noise_and_nothing_else() -> None:
    known = nothing_known("y at x=2", belief("semilog", own=1.0, run=0.25))
    many = known
    for _ in range(100):
        many = many.after(8)
    once = known.after(8, runs=1e9)
    assert many.deviations() == pytest.approx(once.deviations(), rel=2e-3)
    assert many.deviations().min() > 0.99  # the configuration's own straying stays


def test_the_gain_of_a_trial_falls_with_its_noise() -> None:
    gains = []
    for run in (0.01, 0.1, 1.0, 10.0):
        now = nothing_known("y at x=8", dataclasses.replace(belief("semilog"), noise=Noise(0.0, run), root=np.eye(2)))
        gains.append(now.width - now.widths_after())
    assert (np.diff(gains, axis=0) < 0).all()


def test_a_doubted_law_is_measured_nearer_to_the_target() -> None:
    def mean_place(doubt: float) -> float:
        now = nothing_known("y at x=2", belief("semilog", run=0.05), doubt=doubt)
        offers = Offers.apart(np.arange(9), np.geomspace(1, 4, 9))
        choice = choose(now, offers, 8.0, Freedom(frozenset(range(9)), 2, 0.95))
        return float(np.mean(offers.place[list(choice.trials)]))

    assert mean_place(5.0) > mean_place(0.0)


@settings(deadline=None, max_examples=12)
@given(hours=st.lists(st.floats(0.01, 50), min_size=9, max_size=9), shared=st.floats(0, 20), budget=st.floats(0.1, 60))
def test_no_choice_costs_more_than_the_budget(hours: list[float], shared: float, budget: float) -> None:
    # odd trials stand on one stage together
    needs = np.append(np.eye(9, dtype=bool), (np.arange(9) % 2 == 1)[:, None], axis=1)
    offers = Offers(np.arange(9), needs, np.array([*hours, shared]))
    now = nothing_known("y at x=8", belief("semilog", own=0.3), doubt=1.0)
    freedom = Freedom(frozenset(), 2, 0.95)
    choice = choose(now, offers, budget, freedom)
    spent = sum(hours[trial] for trial in choice.trials) + shared * any(trial % 2 for trial in choice.trials)
    assert spent <= budget * (1 + 1e-6)
    assert len(set(choice.trials)) == len(choice.trials)
    assert list(choice.widths) == sorted(choice.widths, reverse=True)
    assert choose(now, offers, budget, freedom) == choice


def test_exchanges_find_the_best_pair() -> None:
    # every pair of nine sizes, by enumeration
    now = nothing_known("y at x=8", belief("semilog", own=0.2))
    offers, freedom = Offers.apart(np.arange(9), np.ones(9)), Freedom(frozenset(), 2, 0.95)
    choice = choose(now, offers, 2, freedom)
    pairs = {(one, two): now.after(one).after(two).width for one in range(9) for two in range(one)}
    assert tuple(sorted(choice.trials, reverse=True)) == min(pairs, key=pairs.__getitem__)


def test_trials_that_share_a_stage_pay_for_it_once() -> None:
    offers = Offers(np.arange(2), np.array([[True, False, True], [False, True, True]]), np.array([1.0, 2.0, 10.0]))
    assert offers.cost([]) == 0
    assert offers.cost([0]) == 11
    assert offers.cost([0, 1]) == 13
    assert offers.further([0]).tolist() == [0, 2]
