"""Where a law bends: limits of a valley and of several tops, as SciPy finds them, and what bounds do to intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from analysis.intervals import curve_limits, parameter_limits, turning_point_limits
from analysis.laws import LAWS
from analysis.solver import Problem, problem, solve

Array = np.ndarray[Any, np.dtype[np.float64]]
X = np.geomspace(64, 16384, 8)

VALLEY = {"floor": 2.0, "scale": 40.0, "exponent": 0.5, "rise_scale": 0.01, "rise_exponent": 0.5}


def _least_cost_by_scipy(task: Problem, value: Any, goal: float) -> float:
    """The least cost among coordinates of which a function has the value ``goal``, by SciPy from several starts."""
    best, (low, high) = solve(task).coordinates[0], task.law.limits()
    rng, found = np.random.default_rng(0), []

    def residual(at: Array) -> Array:
        error = (task.target - task.model(at[None])[0])[0]
        return np.nan_to_num(np.append(error, 100 * (value(at) - goal)), nan=1e3, posinf=1e3, neginf=-1e3)

    for spread in (0.0, 0.03, 0.1, 0.3):
        start = np.clip(best + spread * rng.normal(size=len(best)), low + 1e-9, high)
        ended = optimize.least_squares(residual, start, bounds=(low, high), x_scale="jac", xtol=1e-12, ftol=1e-12)
        found.append(float(task.cost(ended.x[None])[0]) if abs(value(ended.x) - goal) < 1e-3 else np.inf)
    return min(found)


@pytest.mark.parametrize("quantity", ["exponent", "rise_exponent", "turn", "ahead"])
def test_scipy_finds_the_threshold_at_the_limits_of_a_valley(quantity: str) -> None:
    law = LAWS["valley"]
    x = np.geomspace(16, 65536, 10)
    y = law.value(VALLEY, x) * np.exp(0.01 * np.random.default_rng(3).standard_normal(10))
    task = problem(law, x[None], y[None])
    solution, center = solve(task), float(task.center[0, 0])
    place = np.full((1, 1, 1), np.log(4 * x[-1]))
    parameters = parameter_limits(task, solution, 0.95)
    assert law.turning_point is not None
    if quantity == "turn":
        limits = turning_point_limits(task, solution, 0.95)
        value = lambda at: (law.turning_point(at[None])[0] + center) / np.log(2)  # noqa: E731
    elif quantity == "ahead":
        ahead = curve_limits(task, solution, place[0], 0.95)
        limits = float(ahead.low[0]), float(ahead.high[0])
        value = lambda at: task.model(at[None], place - center)[0][0, 0]  # noqa: E731
    else:
        index = law.parameters.index(quantity)
        limits = float(parameters.low[0, index]), float(parameters.high[0, index])
        value = lambda at: at[index]  # noqa: E731
    assert limits is not None
    threshold = float(solution.cost[0] * (1 + stats.f.ppf(0.95, 1, 5) / 5))
    for limit in limits:
        inward = 0.05 * (value(solution.coordinates[0]) - limit)
        assert _least_cost_by_scipy(task, value, limit + inward) < threshold
        assert _least_cost_by_scipy(task, value, limit - inward) > threshold


def test_a_valley_whose_rise_was_not_measured_is_bounded_from_one_side() -> None:
    law = LAWS["valley"]
    x = np.geomspace(16, 512, 9)
    y = law.value(VALLEY, x) * np.exp(0.02 * np.random.default_rng(5).standard_normal(9))
    task = problem(law, x[None], y[None])
    limits = turning_point_limits(task, solve(task), 0.95)
    assert limits is not None
    turn = law.turning_point(law.coordinates(VALLEY)[None])[0] / np.log(2)  # type: ignore[misc]
    assert limits[0] <= turn <= limits[1] == np.inf
    assert limits[0] > np.log2(256)


def test_several_tops_do_not_hide_the_highest() -> None:
    """Noise that a step and a line fit alike: the optimum is a step, the ceiling's limit lies on a line."""
    y = np.array([1.0, 1.3, 0.8, 1.2, 0.9, 1.1, 1.4, 0.7])
    task = problem(LAWS["saturating"], X[None], y[None])
    solution = solve(task)
    assert task.freedom_at(solution.coordinates) == 5  # steep as it may be, the step still has its choice of points
    limit = float(solution.cost[0] * (1 + stats.f.ppf(0.95, 1, 5) / 5))
    highest = -np.inf
    for exponent in np.geomspace(0.01, 30, 400):  # given the exponent, the region is an ellipse
        design = np.stack([np.ones(8), -np.exp(-exponent * task.z[0, 0])], axis=1)
        fitted = np.linalg.lstsq(design, y, rcond=None)[0]
        room = limit - ((y - design @ fitted) ** 2).sum()
        covariance = np.linalg.inv(design.T @ design)
        top = fitted + covariance[:, 0] / np.sqrt(covariance[0, 0]) * np.sqrt(max(room, 0.0))
        if room >= 0 and top[1] >= 0:
            highest = max(highest, top[0])
    assert parameter_limits(task, solution, 0.95).high[0, 0] == pytest.approx(highest, rel=1e-3)


def test_a_floor_at_its_bound_has_fitted_nothing() -> None:
    """With the floor at zero the residuals are those of a power law, and have its degrees of freedom."""
    noise = 0.02 * np.random.default_rng(4).standard_normal(8)
    y = 3 * X**-0.5 * np.exp(noise - 0.02 * np.log(X / 1024) ** 2)  # bent as no floor bends it
    task = problem(LAWS["power_floor"], X[None], y[None])
    solution = solve(task)
    assert solution.coordinates[0, 0] == 0
    line = problem(LAWS["power"], X[None], y[None])
    assert solution.cost == pytest.approx(solve(line).cost)
    assert task.freedom_at(solution.coordinates) == line.freedom == task.freedom + 1
    # A floor makes the exponent larger, so its lower limit is that of a line.
    floor, straight = parameter_limits(task, solution, 0.95), parameter_limits(line, solve(line), 0.95)
    assert floor.low[0, 2] == pytest.approx(straight.low[0, 1], rel=1e-3)


def test_squares_about_a_fit_at_a_bound_average_to_their_degrees_of_freedom() -> None:
    """Where no floor is there, half of the fits end at its bound, and their residuals have a mean square more."""
    rng = np.random.default_rng(9)
    y = 3 * X**-0.5 * np.exp(0.05 * rng.standard_normal((1200, 8)))
    task = problem(LAWS["power_floor"], X[None], y)
    solution = solve(task)
    squares, freedom = solution.cost / 0.05**2, task.freedom_at(solution.coordinates)
    for count in (5, 6):
        some = squares[freedom == count]
        assert len(some) > 400
        assert some.mean() == pytest.approx(count, abs=3 * np.sqrt(2 * count / len(some)))
