"""The solver finds the optimum that independent solvers find, on certified and on awkward data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from analysis.laws import LAWS, law_named
from analysis.solver import minimise, problem, solve

Array = np.ndarray[Any, np.dtype[np.float64]]


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


def test_steps_within_a_box_end_where_bounded_least_squares_do() -> None:
    rng = np.random.default_rng(2)
    for _ in range(40):
        basis = rng.standard_normal((9, 5)) @ (np.eye(5) + rng.standard_normal((5, 5)))
        target = rng.standard_normal(9)
        low = -rng.exponential(size=5) * rng.choice([0, 1, 3], 5)
        high = low + rng.exponential(size=5) + 0.01

        def line(at: Array, rows: Any, basis: Array = basis) -> tuple[Array, Array]:
            return at @ basis.T, np.broadcast_to(basis, (len(at), *basis.shape))

        start = np.clip(np.zeros((1, 5)), low, high)
        at, cost = minimise(line, target[None], np.ones((1, 9)), start, low, high)
        expected = optimize.lsq_linear(basis, target, (low, high), tol=1e-14)
        assert cost[0] == pytest.approx(2 * expected.cost, rel=1e-9)
        np.testing.assert_allclose(at[0], expected.x, atol=1e-5)


@pytest.mark.parametrize("name", ["power", "semilog", "power_floor", "saturating", "valley", "broken_power"])
def test_a_weight_counts_a_point_so_often(name: str) -> None:
    rng = np.random.default_rng(7)
    x = np.geomspace(10, 1e5, 12)
    y = (2 + 40 * x**-0.5 + 1e-4 * x) * np.exp(0.05 * rng.standard_normal(12))
    counts = rng.integers(0, 4, 12)
    weighted = solve(problem(LAWS[name], x[None], y[None], weight=counts))
    repeated = solve(problem(LAWS[name], np.repeat(x, counts)[None], np.repeat(y, counts)[None]))
    assert weighted.cost[0] == pytest.approx(repeated.cost[0], rel=1e-9)
    assert problem(LAWS[name], x[None], y[None], weight=counts).rows == (counts > 0).sum()


def test_weights_of_very_different_sizes() -> None:
    """One point in two hardly counts: the optimum is near that of the others alone."""
    rng = np.random.default_rng(8)
    x = np.geomspace(10, 1e5, 20)
    clean = 1 + 50 * x**-0.6
    y = np.where(np.arange(20) % 2, clean, clean * np.exp(rng.standard_normal(20)))
    task = problem(LAWS["power_floor"], x[None], y[None], weight=np.where(np.arange(20) % 2, 1.0, 1e-9))
    found = LAWS["power_floor"].from_unit(task.center) @ solve(task).coordinates[0]
    np.testing.assert_allclose(found, [1, np.log(50), 0.6], rtol=1e-4)


@pytest.mark.parametrize("name", ["power_floor", "saturating", "valley", "broken_power"])
def test_gathered_points_keep_their_weights(name: str) -> None:
    law, rng = LAWS[name], np.random.default_rng(9)
    x = np.exp(rng.uniform(0, 10, 6000))
    y = (1 + 30 * x**-0.5 + 1e-3 * x**0.8) * np.exp(0.05 * rng.standard_normal(6000))
    weight = rng.exponential(size=6000) * (rng.random(6000) < 0.9)
    task = problem(law, x[None], y[None], weight=weight)
    assert task.z.shape[2] <= 2000
    assert task.weight.sum() == pytest.approx(weight.sum())
    assert task.freedom == (weight > 0).sum() - len(law.parameters)
    solution = solve(task)
    value = law.curve(solution.coordinates, np.log(x)[None, None] - task.center[:, None])[0][0]
    residual = np.log(y / value) if law.log_residuals else y - value
    # Exact for the points of a bin but for the curve's own fall within it.
    assert solution.cost[0] == pytest.approx((weight * residual**2).sum(), rel=1e-3)


def test_a_million_points() -> None:
    """Gathered for one column, begun with a sample for several: the true parameters, to what noise leaves."""
    rng, n = np.random.default_rng(4), 10**6
    x = np.exp(rng.uniform(0, 10, (2, n)))
    noise = np.exp(0.1 * rng.standard_normal(n))
    law = law_named("additive", 2)
    task = problem(law, x, ((2 + 9 * x[0] ** -0.5 + 7 * x[1] ** -0.6) * noise)[None])
    np.testing.assert_allclose(
        law.from_unit(task.center) @ solve(task).coordinates[0], [2, np.log(9), 0.5, np.log(7), 0.6], rtol=5e-3
    )
    one = LAWS["valley"]
    task = problem(one, x[:1], ((2 + 9 * x[0] ** -0.5 + 1e-3 * x[0] ** 0.9) * noise)[None])
    found = one.from_unit(task.center) @ solve(task).coordinates[0]
    np.testing.assert_allclose(found, [2, np.log(9), 0.5, np.log(1e-3), 0.9], rtol=2e-2)


def test_data_sets_that_do_not_fit_in_one_round_are_the_same() -> None:
    rng = np.random.default_rng(6)
    x = np.geomspace(1, 1000, 60)
    y = (0.5 + 9 * x**-0.6) * np.exp(0.05 * rng.standard_normal((250, 60)))
    law = LAWS["power_floor"]
    together = solve(problem(law, x[None], y))
    for row in (0, 120, 249):
        alone = solve(problem(law, x[None], y[row : row + 1]))
        assert together.cost[row] == pytest.approx(alone.cost[0], rel=1e-10)


def test_gathering_many_points_changes_nothing_that_matters() -> None:
    law, rng = LAWS["power_floor"], np.random.default_rng(0)
    sizes = np.exp(rng.uniform(0, 10, 5000))
    y = (1 + 30 * sizes**-0.5) * np.exp(0.05 * rng.standard_normal(5000))
    task = problem(law, sizes[None], y[None])
    solution = solve(task)
    assert len(task.weight) <= 2000
    assert (task.weight.sum(), task.freedom) == (5000, 4997)
    floor, log_scale, exponent = law.from_unit(task.center) @ solution.coordinates[0]
    residual = np.log(y / (floor + np.exp(log_scale) * sizes**-exponent))
    assert solution.cost[0] == pytest.approx(residual @ residual, rel=1e-4)
    # No step from there lowers the cost of the points themselves.
    jacobian = np.stack([np.ones(5000), sizes**-exponent, -np.log(sizes) * sizes**-exponent], axis=1)
    jacobian /= (floor + np.exp(log_scale) * sizes**-exponent)[:, None]
    step = np.linalg.lstsq(jacobian, residual, rcond=None)[0]
    gain = np.sum(residual**2) - np.sum((residual - jacobian @ step) ** 2)
    assert gain < 1e-5 * solution.cost[0]


@pytest.mark.parametrize("name", ["semilog", "quadratic", "power", "power_floor", "saturating"])
def test_many_points_in_few_clusters(name: str) -> None:
    rng = np.random.default_rng(1)
    x = np.append(np.full(2998, 1e3) * (1 + 1e-7 * rng.random(2998)), [1.0, 1.0001])
    y = 5 + np.log2(x) + 0.01 * rng.random(3000)
    solution = solve(problem(LAWS[name], x[None], y[None]))
    assert np.isfinite(solution.coordinates).all()
    assert np.isfinite(solution.cost).all()
