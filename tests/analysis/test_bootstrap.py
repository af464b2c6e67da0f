"""Bootstraps agree with SciPy where it has them, keep runs together, are repeatable, and cover for Huber fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.bootstrap import bca_limits, bootstrap
from analysis.intervals import curve_limits, parameter_limits
from analysis.laws import LAWS
from analysis.solver import Problem, Solution, problem, solve
from tokscale.errors import UsageError

Array = np.ndarray[Any, np.dtype[np.float64]]
X = np.geomspace(16, 16384, 12)
TRUTH = {"floor": 2.0, "scale": 40.0, "exponent": 0.5}


def _noisy(noise: float = 0.05, delta: float | None = None, seed: int = 2) -> tuple[Problem, Solution]:
    errors = np.random.default_rng(seed).standard_normal(len(X))
    y = LAWS["power_floor"].value(TRUTH, X) * np.exp(noise * errors)
    task = problem(LAWS["power_floor"], X[None], y[None], delta=delta)
    return task, solve(task)


def test_bca_limits_of_a_mean_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(1.5, size=20)
    drawn = rng.choice(values, size=(20000, 20)).mean(axis=1)
    without = (values.sum() - values) / 19
    low, high = bca_limits(drawn[:, None], np.array([values.mean()]), without[:, None], 0.9)
    known = stats.bootstrap((values,), np.mean, confidence_level=0.9, n_resamples=20000, method="BCa", rng=rng)
    spread = np.std(drawn)
    np.testing.assert_allclose([low[0], high[0]], known.confidence_interval, atol=0.06 * spread)
    low, high = bca_limits(drawn[:, None], np.array([values.mean()]), without[:, None], 0.9, stretch=1.3)
    assert low[0] < known.confidence_interval.low
    assert high[0] > known.confidence_interval.high


def test_residuals_of_a_line_give_its_student_interval() -> None:
    """For a line the distribution of refits is known: that of the exact t interval, but for Monte-Carlo error."""
    y = 1 + 2 * np.log2(X) + np.random.default_rng(1).normal(size=12)
    task = problem(LAWS["semilog"], X[None], y[None])
    solution = solve(task)
    exact = parameter_limits(task, solution, 0.9)
    for kind in ("residual", "parametric"):
        draws = bootstrap(task, solution, np.random.default_rng(0), 8000, kind)  # type: ignore[arg-type]
        found = parameter_limits(task, solution, 0.9, draws)
        width = exact.high - exact.low
        np.testing.assert_allclose((found.low - exact.low) / width, 0, atol=0.05)
        np.testing.assert_allclose((found.high - exact.high) / width, 0, atol=0.05)


def test_new_points_of_a_line_are_where_its_prediction_interval_says() -> None:
    y = 1 + 2 * np.log2(X) + np.random.default_rng(1).normal(size=12)
    task = problem(LAWS["semilog"], X[None], y[None])
    solution, places = solve(task), np.log(np.array([[100.0, 1e5]]))
    exact = curve_limits(task, solution, places, 0.9, 1.0)
    draws = bootstrap(task, solution, np.random.default_rng(0), 8000)
    found = curve_limits(task, solution, places, 0.9, 1.0, draws)
    np.testing.assert_allclose(found.high - found.low, exact.high - exact.low, rtol=0.15)


@pytest.mark.parametrize("kind", ["pairs", "residual", "wild", "parametric"])
def test_the_same_points_give_the_same_draws(kind: Any) -> None:
    task, solution = _noisy()
    first, second = (bootstrap(task, solution, np.random.default_rng(7), 50, kind) for _ in range(2))
    np.testing.assert_array_equal(first.coordinates, second.coordinates)
    assert first.coordinates.shape == (50, 3)
    assert np.isfinite(first.coordinates).all()


def test_each_refit_is_the_optimum_of_its_resample() -> None:
    task, solution = _noisy(0.2)
    draws = bootstrap(task, solution, np.random.default_rng(3), 40, "pairs")
    counts = np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), size=40)
    for place in range(10):
        if (counts[place] > 0).sum() < 3:
            continue
        alone = problem(task.law, X[None], np.exp(task.target), counts[place])
        cost = alone.cost(draws.coordinates[place : place + 1])[0]
        assert cost <= solve(alone).cost[0] * (1 + 1e-6)


def test_checkpoints_of_one_run_are_drawn_together() -> None:
    """Points that repeat those of their run bring nothing new: the interval is that of the runs alone."""
    task, solution = _noisy()
    repeated = problem(task.law, np.repeat(X, 5)[None], np.repeat(np.exp(task.target), 5, axis=1))
    runs = np.repeat(np.arange(12), 5)
    alone = bootstrap(task, solution, np.random.default_rng(0), 400, "pairs")
    together = bootstrap(repeated, solve(repeated), np.random.default_rng(0), 400, units=runs)
    assert together.kind == "pairs"
    np.testing.assert_allclose(together.coordinates, alone.coordinates, rtol=1e-4, atol=1e-5)
    assert together.freedom == alone.freedom


def test_a_wild_bootstrap_turns_a_whole_run_at_once() -> None:
    task, solution = _noisy()
    runs = np.repeat(np.arange(6), 2)
    draws = bootstrap(task, solution, np.random.default_rng(0), 200, "wild", runs)
    assert draws.freedom == 3
    for kind in ("residual", "parametric"):
        with pytest.raises(UsageError, match="independent"):
            bootstrap(task, solution, np.random.default_rng(0), 200, kind, runs)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no such bootstrap"):
        bootstrap(task, solution, np.random.default_rng(0), 200, "pair")  # type: ignore[arg-type]


def test_no_interval_without_degrees_of_freedom() -> None:
    x = X[:3]
    task = problem(LAWS["power_floor"], x[None], LAWS["power_floor"].value(TRUTH, x)[None], delta=0.01)
    assert np.isnan(parameter_limits(task, solve(task), 0.95).low).all()
    draws = bootstrap(task, solve(task), np.random.default_rng(0), 20, "pairs", np.array([0, 0, 1]))
    assert np.isnan(draws.limits(lambda at: at, 0.9)[0]).all()


@pytest.mark.parametrize("outliers", [0.0, 0.1])
def test_intervals_of_huber_fits_cover(outliers: float) -> None:
    law, rng, sets, hits = LAWS["power_floor"], np.random.default_rng(4), 48, np.zeros(4)
    true = np.array([*TRUTH.values(), np.log(law.value(TRUTH, np.array([65536.0])))[0]])
    for _ in range(sets):
        errors = 0.05 * rng.standard_normal(12) * np.where(rng.random(12) < outliers, 5, 1)
        task = problem(law, X[None], (law.value(TRUTH, X) * np.exp(errors))[None], delta=0.01)
        solution = solve(task)
        draws = bootstrap(task, solution, rng, 200)
        limits = parameter_limits(task, solution, 0.95, draws)
        ahead = curve_limits(task, solution, np.log([[65536.0]]), 0.95, draws=draws)
        low, high = np.append(limits.low[0], ahead.low), np.append(limits.high[0], ahead.high)
        hits += (low <= true) & (true <= high)
    assert (hits / sets >= 0.93 - 2 * np.sqrt(0.95 * 0.05 / sets)).all(), hits / sets


def test_an_outlier_moves_a_huber_interval_less() -> None:
    law = LAWS["power_floor"]
    y = law.value(TRUTH, X) * np.exp(0.02 * np.random.default_rng(0).standard_normal(12))
    y[-2] *= 1.6
    wide, narrow = (parameter_limits(task := problem(law, X[None], y[None], delta=delta), solve(task), 0.95)
                    for delta in (None, 0.01))  # fmt: skip
    assert narrow.low[0, 2] <= TRUTH["exponent"] <= narrow.high[0, 2]
    assert narrow.high[0, 2] - narrow.low[0, 2] < wide.high[0, 2] - wide.low[0, 2]
