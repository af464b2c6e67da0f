"""Intervals are those of exact theory where there is one, of a brute-force profile where not, and they cover."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from analysis.intervals import (
    curve_limits,
    parameter_limits,
    profile_limits,
    turning_point_limits,
)
from analysis.laws import LAWS
from analysis.solver import Problem, problem, solve

Array = np.ndarray[Any, np.dtype[np.float64]]
X = np.geomspace(64, 16384, 8)


def _floor_task() -> tuple[Problem, Array]:
    y = (1.0 + 30 * X**-0.5) * np.exp(0.04 * np.random.default_rng(2).standard_normal(8))
    return problem(LAWS["power_floor"], X[None], y[None]), y


def test_linear_parameters_have_student_intervals() -> None:
    y = np.exp(np.random.default_rng(0).normal(size=8))
    task = problem(LAWS["power"], X[None], y[None])
    limits = parameter_limits(task, solve(task), 0.9)
    line = stats.linregress(np.log(X), np.log(y))
    half = stats.t.ppf(0.95, 6)
    np.testing.assert_allclose(
        [limits.low[0, 1], limits.high[0, 1]], np.array([-1, 1]) * half * line.stderr - line.slope, rtol=1e-9
    )
    np.testing.assert_allclose(
        np.log([limits.low[0, 0], limits.high[0, 0]]),
        line.intercept + np.array([-1, 1]) * half * line.intercept_stderr,
        rtol=1e-9,
    )


@pytest.mark.parametrize("new_point", [False, True])
def test_profiles_of_a_linear_law_are_its_student_intervals(new_point: bool) -> None:
    y = 1 + 2 * np.log2(X) + np.random.default_rng(1).normal(size=8)
    task = problem(LAWS["semilog"], X[None], y[None])
    places = np.log(np.array([[10.0, 1000.0, 1e6]]))

    def curve(at: Array, rows: Any) -> tuple[Array, Array]:
        value, slope = task.model(at, places[:, rows, None])
        return value[:, 0], slope[:, 0]

    exact = curve_limits(task, solve(task), places, 0.95, new_point)
    found = profile_limits(task, solve(task), np.zeros(3, dtype=np.int64), curve, 0.95, new_point)
    np.testing.assert_allclose(found.low, exact.low, rtol=1e-4)
    np.testing.assert_allclose(found.high, exact.high, rtol=1e-4)


def test_curve_interval_of_a_line_is_the_textbook_one() -> None:
    y = 1 + 2 * np.log2(X) + np.random.default_rng(1).normal(size=8)
    task = problem(LAWS["semilog"], X[None], y[None])
    u, place = np.log2(X), np.log2(5000.0)
    line = stats.linregress(u, y)
    s = np.sqrt(np.sum((y - line.intercept - line.slope * u) ** 2) / 6)
    spread = 1 / 8 + (place - u.mean()) ** 2 / np.sum((u - u.mean()) ** 2)
    middle = line.intercept + line.slope * place
    for new_point in (False, True):
        half = stats.t.ppf(0.975, 6) * s * np.sqrt(spread + new_point)
        limits = curve_limits(task, solve(task), np.log([[5000.0]]), 0.95, new_point)
        np.testing.assert_allclose([limits.low[0], limits.high[0]], [middle - half, middle + half])


def _brute_force(task: Problem, y: Array, place: int, side: int) -> float:
    """Where the profile of one parameter (floor, ln scale or exponent) crosses the F threshold, by SciPy alone."""
    solution = solve(task)
    best = task.law.from_unit(task.center) @ solution.coordinates[0]
    threshold = solution.cost[0] * (1 + stats.f.ppf(0.95, 1, 5) / 5)
    others = [index for index in range(3) if index != place]

    def excess(value: float) -> float:
        def residual(rest: Array) -> Array:
            at = np.empty(3)
            at[place], at[others] = value, rest
            return np.log(np.maximum(at[0] + np.exp(at[1] - at[2] * np.log(X)), 1e-9)) - np.log(y)

        found = optimize.least_squares(residual, best[others], xtol=1e-14, ftol=1e-14, x_scale="jac")
        return float(2 * found.cost - threshold)

    return float(optimize.brentq(excess, best[place], best[place] + side * (0.6, 1.5, 0.4)[place]))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_nonlinear_parameters_have_profile_intervals(place: int) -> None:
    task, y = _floor_task()
    limits = parameter_limits(task, solve(task), 0.95)
    found = [limits.low[0, place], limits.high[0, place]]
    expected = [_brute_force(task, y, place, side) for side in (-1, 1)]
    np.testing.assert_allclose(np.log(found) if place == 1 else found, expected, rtol=2e-3)


def test_a_limit_that_the_points_do_not_set_is_open() -> None:
    y = 3 * X**-0.5 * np.exp(0.02 * np.random.default_rng(4).standard_normal(8))
    task = problem(LAWS["power_floor"], X[None], y[None])
    limits = parameter_limits(task, solve(task), 0.95)
    assert limits.low[0, 0] == 0
    assert 0 < limits.high[0, 0] < y.min()
    noise = problem(LAWS["saturating"], X[None], np.array([[1.0, 1.3, 0.8, 1.2, 0.9, 1.1, 1.4, 0.7]]))
    assert np.isinf(parameter_limits(noise, solve(noise), 0.95).high[0]).any()


def test_no_interval_without_degrees_of_freedom() -> None:
    for name in ("power", "power_floor"):
        sizes = X[: len(LAWS[name].parameters)]
        task = problem(LAWS[name], sizes[None], (1 + 30 / sizes)[None])
        assert np.isnan(parameter_limits(task, solve(task), 0.95).low).all()
        assert np.isnan(curve_limits(task, solve(task), np.log(sizes)[None], 0.95, False).high).all()


def test_exact_points_leave_no_doubt() -> None:
    task = problem(LAWS["power_floor"], X[None], (1 + 30 * X**-0.5)[None])
    limits = parameter_limits(task, solve(task), 0.95)
    np.testing.assert_allclose(limits.low, [[1, 30, 0.5]], rtol=1e-5)
    np.testing.assert_allclose(limits.high, limits.low, rtol=1e-5)


def test_fieller_interval_covers_the_turning_point() -> None:
    rng = np.random.default_rng(6)
    u = np.log2(X)
    hits = 0
    for _ in range(400):
        y = 5 + 0.8 * (u - 10) ** 2 + rng.normal(size=8)
        task = problem(LAWS["quadratic"], X[None], y[None])
        limits = turning_point_limits(task, solve(task), 0.95)
        assert limits is not None
        hits += limits[0] <= 10 <= limits[1]
    assert 0.93 - 0.022 <= hits / 400 <= 0.97 + 0.022


def test_a_doubtful_bend_has_no_turning_point() -> None:
    y = 1 + 2 * np.log2(X) + np.random.default_rng(1).normal(size=8)
    task = problem(LAWS["quadratic"], X[None], y[None])
    assert turning_point_limits(task, solve(task), 0.95) is None


TRUTHS = {
    "power": ({"scale": 300.0, "exponent": 0.5}, 0.2),
    "semilog": ({"intercept": 1.0, "slope": 2.0}, 1.0),
    "power_floor": ({"floor": 2.0, "scale": 40.0, "exponent": 0.5}, 0.05),
    "saturating": ({"ceiling": 0.8, "scale": 3.0, "exponent": 0.5}, 0.01),
    "quadratic": ({"intercept": 1.0, "slope": 2.0, "curvature": -0.1}, 0.5),
}


@pytest.mark.parametrize("n", [8, 12])
@pytest.mark.parametrize("name", sorted(LAWS))
def test_nominal_intervals_cover(name: str, n: int) -> None:
    """Of 95 % intervals between 93 and 97 in 100 hold the truth, give or take two Monte-Carlo standard errors."""
    law, (truth, noise), sets = LAWS[name], TRUTHS[name], 400
    sizes = np.geomspace(16, 16384, n)
    errors = noise * np.random.default_rng([n, len(name)]).standard_normal((sets, n))
    curve = law.value(truth, sizes)
    task = problem(law, sizes[None], curve * np.exp(errors) if law.log_residuals else curve + errors)
    limits = parameter_limits(task, solve(task), 0.95)
    true = np.array([truth[parameter] for parameter in law.parameters])
    covered = ((limits.low <= true) & (true <= limits.high)).mean(axis=0)
    assert (covered >= 0.93 - 0.022).all(), covered
    assert (covered <= 0.97 + 0.022).all(), covered


@pytest.mark.parametrize("new_point", [False, True])
def test_curve_and_prediction_intervals_cover_at_four_times_the_largest_size(new_point: bool) -> None:
    law, sets, noise = LAWS["power_floor"], 400, np.random.default_rng(9).standard_normal((400, 9))
    curve = law.value(TRUTHS["power_floor"][0], np.append(X, 4 * X[-1]))
    y = curve * np.exp(0.05 * noise)
    task = problem(law, X[None], y[:, :8])

    def ahead(at: Array, rows: Any) -> tuple[Array, Array]:
        value, slope = task.model(at, np.full((1, len(at), 1), np.log(4 * X[-1]) - task.center))
        return value[:, 0], slope[:, 0]

    limits = profile_limits(task, solve(task), np.arange(sets), ahead, 0.95, new_point)
    true = np.log(y[:, 8]) if new_point else np.log(curve[8])
    covered = ((limits.low <= true) & (true <= limits.high)).mean()
    assert 0.93 - 0.022 <= covered <= 0.97 + 0.022


def test_weights_count_rows() -> None:
    """A gathered problem has the intervals of its rows."""
    task, y = _floor_task()
    repeated = problem(LAWS["power_floor"], np.tile(X, 3)[None], np.tile(y, 3)[None])
    weighted = dataclasses.replace(task, weight=np.full(8, 3.0), rows=24)
    found, expected = (parameter_limits(one, solve(one), 0.95) for one in (weighted, repeated))
    np.testing.assert_allclose(found.low, expected.low, rtol=1e-4)
    np.testing.assert_allclose(found.high, expected.high, rtol=1e-4)
