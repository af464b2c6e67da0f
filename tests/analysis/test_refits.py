"""Refits of resampled points are the optima of the resamples, whichever code finds them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis import refits
from analysis.laws import LAWS, group_law, law_named
from analysis.refits import refit
from analysis.solver import Problem, problem, solve

Array = np.ndarray[Any, np.dtype[np.float64]]
LOSSES = [None, 0.05, 1e-3]


def _joint(rng: np.random.Generator, delta: float | None, n: int = 120) -> Problem:
    x = 10 ** rng.uniform(0, 3, (2, n))
    y = (1 + 5 * x[0] ** -0.4 + 3 * x[1] ** -0.5) * np.exp(0.03 * rng.standard_t(3, n))
    return problem(law_named("additive", 2), x, y[None], weight=rng.uniform(0.5, 2, n), delta=delta)


def _one_column(name: str, rng: np.random.Generator, delta: float | None, n: int = 40) -> Problem:
    x = np.geomspace(1, 1e3, n)[None]
    y = 10 - 6 * x[0] ** -0.4 if name == "saturating" else 1 + 5 * x[0] ** -0.5
    return problem(LAWS[name], x, (y * np.exp(0.03 * rng.standard_normal(n)))[None], delta=delta)


def _drawn(rng: np.random.Generator, task: Problem, b: int) -> Array:
    n = len(task.weight)
    return rng.multinomial(n, np.ones(n) / n, b).astype(float)


@pytest.mark.parametrize("delta", LOSSES)
def test_compiled_and_numpy_agree(delta: float | None) -> None:
    rng = np.random.default_rng(1)
    for task in (_joint(rng, delta), _one_column("power_floor", rng, delta), _one_column("quadratic", rng, delta)):
        counts = _drawn(rng, task, 60)
        fast = refit(task, counts, use_compiled=True)
        plain = refit(task, counts, use_compiled=False)
        np.testing.assert_allclose(fast.cost, plain.cost, rtol=1e-9)
        np.testing.assert_allclose(fast.coordinates, plain.coordinates, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("delta", LOSSES)
def test_each_is_the_global_optimum_of_its_resample(delta: float | None) -> None:
    rng = np.random.default_rng(2)
    for task in (_joint(rng, delta), _one_column("saturating", rng, delta)):
        counts = _drawn(rng, task, 5)
        found = refit(task, counts, use_compiled=True)
        for row, cost in zip(counts, found.cost, strict=True):
            assert cost <= solve(replace(task, weight=row * task.weight)).cost[0] * (1 + 1e-9)


@pytest.mark.parametrize("use_compiled", [False, True])
def test_counts_are_repeated_rows_and_zero_is_none(use_compiled: bool) -> None:
    rng = np.random.default_rng(3)
    task = _one_column("power_floor", rng, 0.02)
    counts = _drawn(rng, task, 1)
    rows = np.repeat(np.arange(40), counts[0].astype(int))
    drawn = replace(task, z=task.z[:, :, rows], target=task.target[:, rows], weight=task.weight[rows])
    assert refit(task, counts, use_compiled=use_compiled).cost[0] == pytest.approx(solve(drawn).cost[0], rel=1e-9)


@pytest.mark.parametrize("delta", LOSSES)
def test_one_of_each_point_is_the_fit_itself(delta: float | None) -> None:
    task = _joint(np.random.default_rng(4), delta)
    whole = solve(task)
    for start in (None, whole.coordinates[0]):
        found = refit(task, np.ones((1, 120)), start)
        np.testing.assert_allclose(found.cost, whole.cost, rtol=1e-9)
        np.testing.assert_allclose(task.cost(found.coordinates), found.cost, rtol=1e-12)


@pytest.mark.parametrize("use_compiled", [False, True])
def test_other_measures_at_the_same_points(use_compiled: bool) -> None:
    rng = np.random.default_rng(5)
    task = _one_column("power_floor", rng, None)
    best = solve(task).coordinates[0]
    many = replace(task, target=task.target + 0.02 * rng.standard_normal((4, 40)), scatter=np.zeros(4))
    found = refit(many, np.ones((1, 40)), best, use_compiled=use_compiled)
    np.testing.assert_allclose(found.cost, solve(many).cost, rtol=1e-9)


def test_laws_without_terms_and_laws_of_groups() -> None:
    rng = np.random.default_rng(6)
    broken = replace(_one_column("power_floor", rng, None), law=LAWS["broken_power"])
    x = np.vstack([np.geomspace(1, 1e3, 40), np.arange(40) % 2])
    y = (1 + (5 + 2 * x[1]) * x[0] ** -0.5) * np.exp(0.03 * rng.standard_normal(40))
    grouped = problem(group_law(LAWS["power_floor"], 2, ("exponent",)), x, y[None], delta=0.02)
    for task in (broken, grouped):
        counts = _drawn(rng, task, 3)
        found = refit(task, counts, use_compiled=True)
        for row, cost in zip(counts, found.cost, strict=True):
            assert cost <= solve(replace(task, weight=row * task.weight)).cost[0] * (1 + 1e-6)


def test_limits_hold() -> None:
    """Points that fall as a plain power put the floor at its limit in most of the resamples, not in all."""
    rng = np.random.default_rng(7)
    x = np.geomspace(1, 1e3, 20)[None]
    task = problem(LAWS["power_floor"], x, 5 * x**-0.5 * np.exp(0.05 * rng.standard_normal((1, 20))))
    floors = refit(task, _drawn(rng, task, 100), use_compiled=True).coordinates[:, 0]
    assert (floors >= 0).all()
    assert 50 < (floors == 0).sum() < 100


def test_a_resample_takes_the_other_minimum_when_that_is_lower() -> None:
    """Started at the wrong one of two minima, the refit of all points still ends at the right one."""
    task = _joint(np.random.default_rng(8), 1e-3)
    best = solve(task)
    wrong = np.array([best.coordinates[0, 0], -30.0, 0.5, best.coordinates[0, 3], best.coordinates[0, 4]])
    found = refit(task, np.ones((1, 120)), np.stack([wrong, best.coordinates[0]]), use_compiled=False)
    assert found.cost[0] <= best.cost[0] * (1 + 1e-9)


def test_without_numba_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    task = _joint(rng, 0.02)
    counts = _drawn(rng, task, 10)
    fast = refit(task, counts, use_compiled=True).cost
    monkeypatch.setattr(refits, "_compiled", lambda: None)
    np.testing.assert_allclose(refit(task, counts, use_compiled=True).cost, fast, rtol=1e-9)
