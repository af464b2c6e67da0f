"""Prediction intervals hold the next run: not more than they say where the law is true, and more than plain ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.intervals import Limits, curve_limits
from analysis.laws import LAWS, Law
from analysis.prediction import prediction_limits, run_variance
from analysis.solver import problem, solve
from analysis.table import Points

Array = np.ndarray[Any, np.dtype[np.float64]]
X = np.geomspace(16, 4096, 12)
AHEAD = 4.0


def _fit(law: Law, x: Array, y: Array, **seeds: Any) -> Any:
    task = problem(law, x[None], y[None])
    points = Points(x[None], y, np.arange(len(x)), (), seeds.pop("seeds", np.ones(len(x), dtype=np.int64)), **seeds)
    return SimpleNamespace(task=task, solution=solve(task), points=points)


def _share(limits: list[Limits], new: Array) -> float:
    inside = [float(one.low[0]) <= value <= float(one.high[0]) for one, value in zip(limits, new, strict=True)]
    return float(np.mean(inside))


def _covered(law: Law, truth: Array, noise: float, sets: int) -> tuple[float, float]:
    """Shares of prediction intervals and of plain ones that hold a new run at the last size of the truth."""
    errors = noise * np.random.default_rng(len(law.name)).standard_normal((sets, len(X) + 1))
    y, place = truth * np.exp(errors), np.log([[AHEAD * X[-1]]])
    fits = [_fit(law, X, row[:-1]) for row in y]
    wide = [prediction_limits(fit, place, 0.95) for fit in fits]
    plain = [curve_limits(fit.task, fit.solution, place, 0.95, 1.0) for fit in fits]
    return _share(wide, np.log(y[:, -1])), _share(plain, np.log(y[:, -1]))


@pytest.mark.parametrize(("name", "sets"), [("power", 300), ("power_floor", 40)])
def test_a_true_law_is_not_widened(name: str, sets: int) -> None:
    law = LAWS[name]
    truth = law.value({"floor": 1.0, "scale": 40.0, "exponent": 0.4}, np.append(X, AHEAD * X[-1]))
    share, _ = _covered(law, truth, 0.05, sets)
    error = 2 * np.sqrt(0.95 * 0.05 / sets)
    assert 0.93 - error <= share <= 0.97 + error


def test_a_wrong_law_is_widened() -> None:
    """A power law through a curve that flattens."""
    truth = LAWS["power_floor"].value({"floor": 1.0, "scale": 40.0, "exponent": 0.5}, np.append(X, AHEAD * X[-1]))
    share, plain = _covered(LAWS["power"], truth, 0.03, 200)
    assert plain < 0.6
    assert share > plain + 0.2


def test_the_next_run_is_a_single_seed() -> None:
    """Points are means of four seeds; runs differ by more than their means, and the interval knows."""
    rng, sets = np.random.default_rng(3), 400
    law, hits, plain = LAWS["semilog"], 0, 0
    place = np.log([[100.0]])
    for _ in range(sets):
        runs = 3 * np.log2(X)[:, None] + 0.2 * rng.normal(size=(12, 1)) + rng.normal(size=(12, 4))
        fit = _fit(law, X, runs.mean(axis=1), seeds=np.full(12, 4), seed_freedom=36,
                   seed_variance=float(runs.var(axis=1, ddof=1).mean()))  # fmt: skip
        new = 3 * np.log2(100.0) + 0.2 * rng.normal() + rng.normal()
        limits = prediction_limits(fit, place, 0.95)
        hits += limits.low[0] <= new <= limits.high[0]
        limits = curve_limits(fit.task, fit.solution, place, 0.95, 1.0)
        plain += limits.low[0] <= new <= limits.high[0]
    assert 0.93 - 0.022 <= hits / sets <= 0.97 + 0.022
    assert plain / sets < 0.88


def test_variances_of_runs_add_up() -> None:
    y = 3 * np.log2(X) + np.random.default_rng(0).normal(size=12)
    alone = _fit(LAWS["semilog"], X, y)
    assert run_variance(alone.task, alone.solution, alone.points, 0.95) == 1
    seeds = np.array([1, 2] * 6)
    several = _fit(LAWS["semilog"], X, y, seeds=seeds, seed_variance=0.5, seed_freedom=6)
    variance = several.solution.cost[0] / 10
    lost = 0.5 * 0.25 / variance
    freedom = (1 + lost) ** 2 / (1 / 10 + lost**2 / 6)
    run = (1 + lost) * (stats.t.ppf(0.975, freedom) / stats.t.ppf(0.975, 10)) ** 2
    found = run_variance(several.task, several.solution, several.points, 0.95, np.array([0.0, 0.3]))
    np.testing.assert_allclose(found, [run, run + 0.09 / variance])


def test_exact_points_predict_themselves() -> None:
    fit = _fit(LAWS["power"], X, 30 * X**-0.5)
    limits = prediction_limits(fit, np.log([[16384.0]]), 0.95)
    np.testing.assert_allclose(np.exp([limits.low[0], limits.high[0]]), 30 * 16384**-0.5, rtol=1e-6)
    few = _fit(LAWS["power"], X[:2], 30 * X[:2] ** -0.5)
    assert np.isnan(prediction_limits(few, np.log([[16384.0]]), 0.95).low).all()
