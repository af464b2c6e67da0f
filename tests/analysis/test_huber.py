"""Huber's loss is at its global minimum: closed forms, its two limits, and SciPy from many starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from analysis.curves import FreeCurve, SumCurve, curve_of
from analysis.huber import minimise_huber
from analysis.laws import LAWS, group_law, law_named
from analysis.newton import descent, loss, solve_definite
from analysis.solver import Problem, problem, solve

Array = np.ndarray[Any, np.dtype[np.float64]]
NAMES = [*LAWS, "additive"]


def _curve(name: str, x: Array) -> Array:
    if name == "additive":
        return 1 + 5 * x[0] ** -0.4 + 3 * x[1] ** -0.5
    if name == "saturating":
        return 10 - 6 * x[0] ** -0.4
    rise = 0.02 * x[0] ** 0.7 if name == "valley" else 0.0
    floor = 0.0 if name.startswith("broken") else 1.0
    bend = (1 + (x[0] / 30) ** 2) ** 0.15 if name.startswith("broken") else 1.0
    return floor + 5 * x[0] ** -0.5 * bend + rise


def _task(name: str, rng: np.random.Generator, n: int = 24, delta: float | None = 0.02, tail: float = 3.0) -> Problem:
    law = law_named(name, 2 if name == "additive" else 1)
    x = 10 ** rng.uniform(0, 3, (law.x_columns, n))
    y = _curve(name, x) * np.exp(0.05 * rng.standard_t(tail, n))
    return problem(law, x, y[None], delta=delta)


def test_location_in_closed_form() -> None:
    """With two sizes a line is two locations; where one value is outside, its pull is delta whatever it is."""
    values = np.array([-1.0, 0.0, 1.0, 50.0])
    x = np.repeat([1.0, 2.0], 4)[None]
    task = problem(LAWS["semilog"], x, np.concatenate([values, 5 - values])[None], delta=2.0)
    intercept, slope = minimise_huber(task).coordinates[0]
    assert intercept == pytest.approx(2 / 3, abs=1e-12)
    assert intercept + slope == pytest.approx(5 - 2 / 3, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_wide_threshold_is_least_squares(name: str) -> None:
    task = _task(name, np.random.default_rng(1))
    squares = solve(replace(task, delta=None)).cost[0]
    assert minimise_huber(replace(task, delta=1e6)).cost[0] <= squares * (1 + 1e-9)


@pytest.mark.parametrize("name", ["semilog", "quadratic"])
def test_a_narrow_threshold_is_least_absolute_deviations(name: str) -> None:
    rng = np.random.default_rng(2)
    for n in (9, 40):
        task = _task(name, rng, n, delta=1e-9)
        basis = task.model(np.zeros((1, len(task.law.parameters))))[1][0]
        p = basis.shape[1]
        equal = np.hstack([basis, np.eye(n), -np.eye(n)])
        price = np.concatenate([np.zeros(p), np.ones(2 * n)])
        bounds = [(None, None)] * p + [(0, None)] * (2 * n)
        found = optimize.linprog(price, A_eq=equal, b_eq=task.target[0], bounds=bounds)
        assert minimise_huber(task).cost[0] / 2e-9 == pytest.approx(found.fun, rel=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_sums_are_the_derivatives_of_the_cost(name: str) -> None:
    rng = np.random.default_rng(3)
    task = _task(name, rng)
    at = solve(replace(task, delta=None)).coordinates + 0.01 * rng.standard_normal(len(task.law.parameters))
    curve, weight = curve_of(task), rng.uniform(0.5, 2, (1, 24))
    assert isinstance(curve, FreeCurve if name.startswith("broken") else SumCurve)

    def gradient(at: Array) -> Array:
        value, parts = curve.at(at)
        return curve.slopes(parts, weight * np.clip(task.target - value, -0.02, 0.02))

    def cost(at: Array) -> float:
        return float(loss(task.target - curve.at(at)[0], weight, np.array([0.02]))[0])

    value, parts = curve.at(at)
    residual = task.target - value
    pull = weight * np.clip(residual, -0.02, 0.02)
    hessian = curve.curvature(at, parts, weight * (abs(residual) <= 0.02), -pull)[0]
    for place in range(at.shape[1]):
        step = np.zeros_like(at)
        step[0, place] = 1e-6
        slope = (cost(at + step) - cost(at - step)) / 2e-6
        np.testing.assert_allclose(-2 * gradient(at)[0, place], slope, rtol=1e-5, atol=1e-7)
        bend = -(gradient(at + step) - gradient(at - step))[0] / 2e-6
        np.testing.assert_allclose(hessian[place], bend, rtol=1e-4, atol=1e-5 * abs(hessian).max())


@pytest.mark.parametrize("name", ["power", "semilog", "quadratic", "power_floor", "saturating", "valley", "additive"])
def test_sums_of_terms_are_those_of_the_curve(name: str) -> None:
    rng = np.random.default_rng(4)
    task = _task(name, rng)
    at = solve(replace(task, delta=None)).coordinates + 0.1 * rng.standard_normal((3, len(task.law.parameters)))
    square, bend = rng.standard_normal((2, 3, 24))
    for one, other in zip(
        _sums(curve_of(task), at, square, bend), _sums(FreeCurve(task), at, square, bend), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def _sums(curve: SumCurve | FreeCurve, at: Array, square: Array, bend: Array) -> tuple[Array, Array, Array]:
    value, parts = curve.at(at)
    return value, curve.slopes(parts, square), curve.curvature(at, parts, square, bend)


def _least_by_scipy(task: Problem, starts: Array) -> float:
    """The least cost that SciPy's robust trust-region solver reaches, with the exact Jacobian."""
    assert task.delta is not None
    low, high = task.law.limits()
    costs = []
    for start in starts:
        inside = np.clip(start, low + 1e-6, high - 1e-6)
        found = optimize.least_squares(
            lambda at: task.model(at[None])[0][0] - task.target[0], inside, lambda at: task.model(at[None])[1][0],
            bounds=(low, high), loss="huber", f_scale=task.delta, x_scale="jac", xtol=1e-12, ftol=1e-12, gtol=1e-12,
        )  # fmt: skip
        costs.append(2 * found.cost)
    return min(costs)


@pytest.mark.parametrize("name", ["power_floor", "saturating", "valley", "additive", "broken_power"])
def test_never_worse_than_scipy_from_many_starts(name: str) -> None:
    rng = np.random.default_rng([7, len(name)])
    for n, delta, tail in ((12, 0.05, 1.5), (30, 1e-2, 3.0), (80, 1e-3, 1.5)):
        task = _task(name, rng, n, delta, tail)
        starts = task.starts()[0][:4] + 0.1 * rng.standard_normal((4, len(task.law.parameters)))
        assert minimise_huber(task).cost[0] <= _least_by_scipy(task, starts) * (1 + 1e-9)


def test_every_start_of_the_joint_law_reaches_the_same_minimum() -> None:
    rng = np.random.default_rng(8)
    x = 10 ** rng.uniform(0, 3, (2, 240))
    noise = 0.02 * rng.standard_normal(240) + (rng.random(240) < 0.08) * rng.exponential(0.4, 240)
    task = problem(law_named("additive", 2), x, (_curve("additive", x) * np.exp(noise))[None], delta=1e-3)
    starts = task.starts()[0]
    _, cost = descent(task, curve_of(task))(task.target, task.weight[None], starts, np.full(len(starts), np.inf))
    np.testing.assert_allclose(cost, minimise_huber(task).cost[0], rtol=1e-9)


def test_weights_are_repeated_rows() -> None:
    rng = np.random.default_rng(9)
    for name in ("saturating", "additive"):
        task = _task(name, rng)
        weight = rng.integers(1, 4, 24).astype(float)
        law, repeats = task.law, weight.astype(int)
        x = np.exp(task.z[:, 0] + task.center)
        y = np.exp(task.target) if law.log_residuals else task.target
        weighted = minimise_huber(problem(law, x, y, weight=weight, delta=0.02))
        rows = problem(law, np.repeat(x, repeats, axis=1), np.repeat(y, repeats, axis=1), delta=0.02)
        assert weighted.cost[0] == pytest.approx(minimise_huber(rows).cost[0], rel=1e-9)


def test_groups_that_share_nothing_are_fits_of_their_own() -> None:
    rng = np.random.default_rng(10)
    tasks = [_task("power_floor", rng, 12) for _ in range(2)]
    alone = sum(minimise_huber(task).cost[0] for task in tasks)
    x = np.hstack([np.vstack([np.exp(task.z[:, 0] + task.center), np.full((1, 12), group)])
                   for group, task in enumerate(tasks)])  # fmt: skip
    y = np.exp(np.hstack([task.target for task in tasks]))
    both = problem(group_law(LAWS["power_floor"], 2, ()), x, y, delta=0.02)
    assert minimise_huber(both).cost[0] == pytest.approx(alone, rel=1e-9)


def test_many_data_sets_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(11)
    task = _task("power_floor", rng)
    target = task.target + 0.05 * rng.standard_normal((3, 24))
    together = minimise_huber(replace(task, target=target, scatter=np.zeros(3)))
    for place in range(3):
        alone = minimise_huber(replace(task, target=target[place : place + 1]))
        assert together.cost[place] == pytest.approx(alone.cost[0], rel=1e-9)
        assert task.cost(together.coordinates[place : place + 1])[0] >= 0


def test_points_on_the_curve_are_met() -> None:
    x = np.geomspace(1, 1e3, 12)[None]
    task = problem(LAWS["power_floor"], x, _curve("power_floor", x)[None], delta=1e-3)
    level, scale, exponent = minimise_huber(task).coordinates[0] @ task.law.from_unit(task.center).T
    np.testing.assert_allclose([level, np.exp(scale), exponent], [1, 5, 0.5], rtol=1e-9)


def test_cholesky_solves_and_knows_what_it_cannot() -> None:
    rng = np.random.default_rng(12)
    root = rng.standard_normal((5, 4, 4))
    matrix, right = root @ np.swapaxes(root, 1, 2), rng.standard_normal((5, 4))
    matrix[2] -= 10 * np.eye(4)
    answer, fine = solve_definite(matrix, right)
    assert fine.tolist() == [True, True, False, True, True]
    expected = np.linalg.solve(matrix[fine], right[fine][..., None])[..., 0]
    np.testing.assert_allclose(answer[fine], expected, rtol=1e-8)
    alone, all_fine = solve_definite(matrix[fine], right[fine])
    assert all_fine.all()
    np.testing.assert_allclose(alone, expected, rtol=1e-8)
