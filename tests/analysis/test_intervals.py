"""Intervals are those of exact theory where there is one, and of a brute-force profile where not."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from analysis.fitting import fit
from analysis.intervals import (
    curve_limits,
    difference_limits,
    parameter_limits,
    profile_limits,
    turning_point_limits,
)
from analysis.laws import LAWS, group_law
from analysis.solver import Problem, problem, solve
from tokscale.errors import UsageError

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


@pytest.mark.parametrize("new_point", [0.0, 1.0, 2.5])
def test_profiles_of_a_linear_law_are_its_student_intervals(new_point: float) -> None:
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
    for new_point in (0.0, 1.0):
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
        assert np.isnan(curve_limits(task, solve(task), np.log(sizes)[None], 0.95).high).all()


def test_exact_points_leave_no_doubt() -> None:
    task = problem(LAWS["power_floor"], X[None], (1 + 30 * X**-0.5)[None])
    limits = parameter_limits(task, solve(task), 0.95)
    np.testing.assert_allclose(limits.low, [[1, 30, 0.5]], rtol=1e-5)
    np.testing.assert_allclose(limits.high, limits.low, rtol=1e-5)


def test_fieller_interval_is_where_a_t_test_of_the_slope_turns() -> None:
    """At the limits the slope of the parabola differs from 0 by just the t quantile."""
    u = np.log2(X)
    y = 5 + 0.8 * (u - 10) ** 2 + np.random.default_rng(6).normal(size=8)
    limits = turning_point_limits(task := problem(LAWS["quadratic"], X[None], y[None]), solve(task), 0.95)
    assert limits is not None
    design = np.stack([np.ones(8), u, u**2], axis=1)
    fitted, rss, _, _ = np.linalg.lstsq(design, y, rcond=None)
    covariance = np.linalg.inv(design.T @ design) * rss[0] / 5
    for place in limits:
        gradient = np.array([0.0, 1.0, 2 * place])
        statistic = gradient @ fitted / np.sqrt(gradient @ covariance @ gradient)
        assert abs(statistic) == pytest.approx(stats.t.ppf(0.975, 5), rel=1e-8)


def test_a_doubtful_bend_has_no_turning_point() -> None:
    y = 1 + 2 * np.log2(X) + np.random.default_rng(1).normal(size=8)
    task = problem(LAWS["quadratic"], X[None], y[None])
    assert turning_point_limits(task, solve(task), 0.95) is None


def test_weights_count_rows() -> None:
    """A gathered problem has the intervals of its rows."""
    task, y = _floor_task()
    repeated = problem(LAWS["power_floor"], np.tile(X, 3)[None], np.tile(y, 3)[None])
    weighted = dataclasses.replace(task, weight=np.full(8, 3.0), rows=24)
    found, expected = (parameter_limits(one, solve(one), 0.95) for one in (weighted, repeated))
    np.testing.assert_allclose(found.low, expected.low, rtol=1e-4)
    np.testing.assert_allclose(found.high, expected.high, rtol=1e-4)


def test_weighted_lines_have_the_intervals_of_weighted_regression() -> None:
    rng = np.random.default_rng(8)
    weight, y = rng.uniform(0.2, 3.0, 8), 1 + 2 * np.log2(X) + rng.normal(size=8)
    task = problem(LAWS["semilog"], X[None], y[None], weight)
    limits = parameter_limits(task, solve(task), 0.95)
    design = np.stack([np.ones(8), np.log2(X)], axis=1)
    covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
    fitted = covariance @ design.T @ (weight * y)
    variance = (weight * (y - design @ fitted) ** 2).sum() / 6
    half = stats.t.ppf(0.975, 6) * np.sqrt(variance * np.diag(covariance))
    np.testing.assert_allclose(limits.low[0], fitted - half)
    np.testing.assert_allclose(limits.high[0], fitted + half)


def _two_lines() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(10)
    group = np.repeat([0.0, 1.0], 8)
    sizes = np.stack([np.tile(X, 2), group])
    y = np.exp(4 - (0.5 + 0.2 * group) * np.log(sizes[0]) + 0.1 * rng.normal(size=16))
    return sizes, y, group


def test_a_difference_of_groups_is_that_of_the_analysis_of_covariance() -> None:
    sizes, y, group = _two_lines()
    task = problem(group_law(LAWS["power"], 2, []), sizes, y[None])
    found = difference_limits(task, solve(task), "exponent[1]", "exponent[0]", 0.95)
    z = np.log(sizes[0])
    design = np.stack([np.ones(16), group, z, group * z], axis=1)
    fitted, rss, _, _ = np.linalg.lstsq(design, np.log(y), rcond=None)
    half = stats.t.ppf(0.975, 12) * np.sqrt(rss[0] / 12 * np.linalg.inv(design.T @ design)[3, 3])
    np.testing.assert_allclose([found.low[0], found.high[0]], [-fitted[3] - half, -fitted[3] + half], rtol=1e-8)
    ratio = difference_limits(task, solve(task), "scale[1]", "scale[0]", 0.95)
    half = stats.t.ppf(0.975, 12) * np.sqrt(rss[0] / 12 * np.linalg.inv(design.T @ design)[1, 1])
    np.testing.assert_allclose([ratio.low[0], ratio.high[0]], np.exp([fitted[1] - half, fitted[1] + half]), rtol=1e-8)


def test_only_parameters_of_one_kind_have_a_difference() -> None:
    sizes, y, _ = _two_lines()
    task = problem(group_law(LAWS["power"], 2, ["exponent"]), sizes, y[None])
    with pytest.raises(UsageError, match="no such parameter"):
        difference_limits(task, solve(task), "exponent[1]", "exponent[0]", 0.95)
    with pytest.raises(UsageError, match="two kinds"):
        difference_limits(task, solve(task), "exponent", "scale[0]", 0.95)


@pytest.mark.parametrize("unit", [1e-12, 1e-8, 1e9, 1e12])
@pytest.mark.parametrize("law", ["power_floor", "saturating", "valley", "semilog", "quadratic"])
def test_intervals_do_not_depend_on_the_unit_of_y(law, unit):
    x = 2.0 ** np.arange(6, 18)
    noise = np.random.default_rng(0).normal(0.0, 0.02, len(x))
    falls, rises = 0.4 + 5 * x**-0.5, 0.002 * x**0.6 if law == "valley" else 0.0
    y = (falls + rises) * np.exp(noise) if LAWS[law].log_residuals else 6 - falls + noise
    plain, scaled = (fit(pd.DataFrame({"x": x, "y": scale * y}), law=law, x="x", y="y") for scale in (1.0, unit))
    for name in LAWS[law].parameters:
        factor = 1.0 if "exponent" in name else unit
        for one, other in zip(plain.interval(name), scaled.interval(name), strict=True):
            assert (one is None and other is None) or other == pytest.approx(factor * one, rel=1e-5, abs=1e-9 * factor)
    assert scaled.r2 == pytest.approx(plain.r2)


def test_a_bootstrap_ends_at_a_natural_bound():
    x = 2.0 ** np.arange(5, 13)
    y = 3 * x**-0.2 * np.exp(np.random.default_rng(0).normal(0, 0.02, 8))
    y[3] *= 1.6
    found = fit(pd.DataFrame({"x": x, "y": y}), law="power_floor", x="x", y="y", huber=0.02)
    assert found.parameters["floor"].low == 0
