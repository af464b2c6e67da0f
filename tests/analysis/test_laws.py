"""Each law is its formula, its derivatives are those of its curve, and its parameters do not depend on units of x."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from analysis.laws import LAWS, Law, law_named
from analysis.solver import problem, solve
from tokscale.errors import UsageError

# One written-out formula a law, independent of the curves: (parameters, formula).
EXAMPLES: dict[str, tuple[dict[str, float], Any]] = {
    "power": ({"scale": 300.0, "exponent": 0.6}, lambda x: 300 * x**-0.6),
    "semilog": ({"intercept": -0.57, "slope": 2.3}, lambda x: -0.57 + 2.3 * np.log2(x)),
    "power_floor": ({"floor": 1.5, "scale": 40.0, "exponent": 0.5}, lambda x: 1.5 + 40 * x**-0.5),
    "saturating": ({"ceiling": 0.8, "scale": 2.0, "exponent": 0.4}, lambda x: 0.8 - 2 * x**-0.4),
    "quadratic": (
        {"intercept": 90.0, "slope": -15.0, "curvature": 0.7},
        lambda x: 90 - 15 * np.log2(x) + 0.7 * np.log2(x) ** 2,
    ),
}
SIZES = np.geomspace(64, 65536, 12)


@pytest.fixture(params=sorted(LAWS))
def law(request: pytest.FixtureRequest) -> Law:
    return LAWS[request.param]


def test_every_law_has_an_example() -> None:
    assert set(EXAMPLES) == set(LAWS)


def test_the_curve_is_the_formula(law: Law) -> None:
    parameters, formula = EXAMPLES[law.name]
    assert tuple(parameters) == law.parameters
    np.testing.assert_allclose(law.value(parameters, SIZES), formula(SIZES), rtol=1e-13)
    for name in law.parameters:
        assert name in law.formula


def test_derivatives_agree_with_differences(law: Law) -> None:
    start, z = law.coordinates(EXAMPLES[law.name][0])[None], np.log(SIZES)[None, None]
    derivatives = law.curve(start, z)[1][0]
    for place, step in enumerate(1e-6 * np.eye(len(law.parameters))):
        difference = (law.curve(start + step, z)[0] - law.curve(start - step, z)[0])[0] / 2e-6
        np.testing.assert_allclose(derivatives[:, place], difference, rtol=1e-6, atol=1e-8)


def test_a_noiseless_fit_returns_the_parameters(law: Law) -> None:
    parameters, formula = EXAMPLES[law.name]
    task = problem(law, SIZES[None], formula(SIZES)[None])
    found = law.from_unit(task.center) @ solve(task).coordinates[0]
    np.testing.assert_allclose(found, law.coordinates(parameters), rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-9, 1e6, 1e12])
def test_the_curve_does_not_depend_on_units_of_x(law: Law, unit: float) -> None:
    noise = 1 + 0.02 * np.cos(7 * np.arange(len(SIZES)))
    y = EXAMPLES[law.name][1](SIZES) * noise
    fitted = []
    for sizes in (SIZES, SIZES * unit):
        task = problem(law, sizes[None], y[None])
        fitted.append(law.curve(solve(task).coordinates, task.z)[0][0])
    np.testing.assert_allclose(fitted[0], fitted[1], rtol=1e-5)


def test_gathering_many_points_changes_nothing_that_matters() -> None:
    law, rng = LAWS["power_floor"], np.random.default_rng(0)
    sizes = np.exp(rng.uniform(0, 10, 5000))
    y = (1 + 30 * sizes**-0.5) * np.exp(0.05 * rng.standard_normal(5000))
    task = problem(law, sizes[None], y[None])
    solution = solve(task)
    assert len(task.weight) <= 2000
    assert (task.weight.sum(), task.freedom) == (5000, 4997)
    floor, log_scale, exponent = law.from_unit(task.center) @ solution.coordinates[0]
    residual = np.log(y / (floor + math.exp(log_scale) * sizes**-exponent))
    assert solution.cost[0] == pytest.approx(residual @ residual, rel=1e-4)
    # No step from there lowers the cost of the points themselves.
    jacobian = np.stack([np.ones(5000), sizes**-exponent, -np.log(sizes) * sizes**-exponent], axis=1)
    jacobian /= (floor + math.exp(log_scale) * sizes**-exponent)[:, None]
    step = np.linalg.lstsq(jacobian, residual, rcond=None)[0]
    gain = np.sum(residual**2) - np.sum((residual - jacobian @ step) ** 2)
    assert gain < 1e-5 * solution.cost[0]


def test_an_unknown_law_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="did you mean 'power_floor'"):
        law_named("powerfloor")
