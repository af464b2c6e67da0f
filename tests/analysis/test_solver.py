"""The solver finds the optimum that independent solvers find, on certified and on awkward data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from analysis.laws import LAWS, Law
from analysis.solver import minimise, problem, solve

Array = np.ndarray[Any, np.dtype[np.float64]]


def _awkward(rng: np.random.Generator, kind: str) -> tuple[Array, Array]:
    n = int(rng.integers(5, 16))
    x = np.sort(10 ** rng.uniform(0, rng.uniform(0.7, 5), n)) * 10 ** rng.uniform(-3, 9)
    fall = (x / x[0]) ** -rng.uniform(0.1, 2)
    curve = {"decay": 1 + 20 * fall, "noise": np.ones(n), "rise": x / x[0], "ceiling": 10 - 8 * fall}[kind]
    noise = np.exp(10 ** rng.uniform(-3, -0.5) * rng.standard_normal(n))
    return x, curve * noise * 10 ** rng.uniform(-5, 5)


def _least_by_scipy(law: Law, x: Array, y: Array) -> float:
    """The least cost that SciPy's trust-region solver reaches from a plain grid of starts."""
    size = y.max()
    z = np.log(x) - np.log(x).mean()

    def residual(at: Array) -> Array:
        sign = 1 if law.name == "power_floor" else -1
        value = at[0] + sign * np.exp(np.clip(at[1] - at[2] * z, -300, 300))
        return np.log(np.maximum(value, 1e-200)) - np.log(y / size) if law.log_residuals else value - y / size

    low, high = ([0, -50, 0], [1e3, 50, 30]) if law.name == "power_floor" else ([-1e6, -50, 0.01], [1e6, 50, 30])
    costs = [
        2 * optimize.least_squares(residual, (level, np.log(scale), exponent), bounds=(low, high)).cost
        for level in (0.001, 0.5, 1.5)
        for scale in (0.1, 3)
        for exponent in (0.1, 1.0)
    ]
    return float(min(costs)) * (1 if law.log_residuals else size**2)


@pytest.mark.parametrize("kind", ["decay", "noise", "rise", "ceiling"])
@pytest.mark.parametrize("name", ["power_floor", "saturating"])
def test_no_worse_than_scipy_from_many_starts(name: str, kind: str) -> None:
    law, rng = LAWS[name], np.random.default_rng([len(name), len(kind)])
    for _ in range(4):
        x, y = _awkward(rng, kind)
        task = problem(law, x[None], y[None])
        total = ((task.target - task.target.mean()) ** 2).sum()
        assert solve(task).cost[0] <= _least_by_scipy(law, x, y) * (1 + 1e-3) + 1e-9 * total


def test_linear_laws_agree_with_scipy_and_numpy() -> None:
    rng = np.random.default_rng(3)
    x = np.geomspace(256, 65536, 9)
    y = np.exp(rng.normal(size=9))
    power = solve(problem(LAWS["power"], x[None], y[None])).coordinates[0]
    line = stats.linregress(np.log(x), np.log(y))
    np.testing.assert_allclose(power, [line.intercept, -line.slope], rtol=1e-12)
    quadratic = solve(problem(LAWS["quadratic"], x[None], y[None])).coordinates[0]
    np.testing.assert_allclose(quadratic, np.polyfit(np.log2(x), y, 2)[::-1], rtol=1e-8)


# NIST Statistical Reference Datasets, "Norris" (linear regression, 36 observations, public domain): y, x.
NORRIS = np.fromstring("""
0.1 0.2  338.8 337.4  118.1 118.2  888.0 884.6  9.2 10.1  228.1 226.5  668.5 666.3  998.5 996.3  449.1 448.6
778.9 777.0  559.2 558.2  0.3 0.4  0.1 0.6  778.1 775.5  668.8 666.9  339.3 338.0  448.9 447.5  10.8 11.6
557.7 556.0  228.3 228.1  998.0 995.8  888.8 887.6  119.6 120.2  0.3 0.3  0.6 0.3  557.6 556.8  339.3 339.1
888.0 887.2  998.5 999.0  778.9 779.0  10.2 11.1  117.6 118.3  228.9 229.2  668.4 669.1  449.2 448.9  0.2 0.5
""", sep=" ").reshape(-1, 2)  # fmt: skip


def test_certified_line() -> None:
    """A law in log2 x sees the certified x when it is given 2^x."""
    task = problem(LAWS["semilog"], np.exp2(NORRIS[:, 1])[None], NORRIS[:, 0][None])
    solution = solve(task)
    np.testing.assert_allclose(solution.coordinates[0], [-0.262323073774029, 1.00211681802045], rtol=1e-10)
    assert np.sqrt(solution.cost[0] / task.freedom) == pytest.approx(0.884796396144373, rel=1e-10)


def test_many_data_sets_at_once_are_each_solved() -> None:
    rng = np.random.default_rng(5)
    x = np.geomspace(1, 1000, 8)
    y = (0.5 + 9 * x**-0.6) * np.exp(0.05 * rng.standard_normal((6, 8)))
    together = solve(problem(LAWS["power_floor"], x[None], y))
    for row in range(6):
        alone = solve(problem(LAWS["power_floor"], x[None], y[row : row + 1]))
        np.testing.assert_allclose(together.coordinates[row], alone.coordinates[0], rtol=1e-5, atol=1e-8)


def test_a_coordinate_stays_within_its_limits() -> None:
    target = np.array([[1.0, 2.0, 3.0]])

    def line(at: Array, rows: Any) -> tuple[Array, Array]:
        basis = np.stack([np.ones(3), np.arange(3.0)], axis=1)
        return at @ basis.T, np.broadcast_to(basis, (len(at), 3, 2))

    low, high = np.array([-np.inf, 0.0]), np.array([np.inf, 0.5])
    at, cost = minimise(line, target, np.ones((1, 3)), np.zeros((1, 2)), low, high)
    np.testing.assert_allclose(at, [[1.5, 0.5]], atol=1e-9)
    assert cost[0] == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["semilog", "quadratic", "power", "power_floor", "saturating"])
def test_many_points_in_few_clusters(name: str) -> None:
    rng = np.random.default_rng(1)
    x = np.append(np.full(2998, 1e3) * (1 + 1e-7 * rng.random(2998)), [1.0, 1.0001])
    y = 5 + np.log2(x) + 0.01 * rng.random(3000)
    solution = solve(problem(LAWS[name], x[None], y[None]))
    assert np.isfinite(solution.coordinates).all()
    assert np.isfinite(solution.cost).all()
