"""Each law is its formula, its derivatives are those of its curve, and its parameters do not depend on units of x."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.laws import LAW_NAMES, LAWS, Law, law_named
from analysis.solver import problem, solve
from tokscale.errors import UsageError

Array = np.ndarray[Any, np.dtype[np.float64]]


def broken(x: Array, scale: float, exponent: float, *breaks: tuple[float, float, float]) -> Array:
    """The formula as it is written."""
    y = scale * x**-exponent
    for at, change, sharpness in breaks:
        y = y * (1 + (x / at) ** (1 / sharpness)) ** (-change * sharpness)
    return y


# One written-out formula a law and number of columns, independent of the curves: (parameters, formula).
EXAMPLES: dict[tuple[str, int], tuple[dict[str, float], Any]] = {
    ("power", 1): ({"scale": 300.0, "exponent": 0.6}, lambda x: 300 * x**-0.6),
    ("semilog", 1): ({"intercept": -0.57, "slope": 2.3}, lambda x: -0.57 + 2.3 * np.log2(x)),
    ("power_floor", 1): ({"floor": 1.5, "scale": 40.0, "exponent": 0.5}, lambda x: 1.5 + 40 * x**-0.5),
    ("saturating", 1): ({"ceiling": 0.8, "scale": 2.0, "exponent": 0.4}, lambda x: 0.8 - 2 * x**-0.4),
    ("quadratic", 1): (
        {"intercept": 90.0, "slope": -15.0, "curvature": 0.7},
        lambda x: 90 - 15 * np.log2(x) + 0.7 * np.log2(x) ** 2,
    ),
    ("valley", 1): (
        {"floor": 1.2, "scale": 900.0, "exponent": 0.9, "rise_scale": 2e-4, "rise_exponent": 0.8},
        lambda x: 1.2 + 900 * x**-0.9 + 2e-4 * x**0.8,
    ),
    ("broken_power", 1): (
        {"scale": 50.0, "exponent": 0.2, "break_1": 2000.0, "exponent_change_1": 0.7, "sharpness_1": 0.4},
        lambda x: broken(x, 50, 0.2, (2000, 0.7, 0.4)),
    ),
    ("broken_power_2", 1): (
        {"scale": 50.0, "exponent": 0.8, "break_1": 500.0, "exponent_change_1": -0.7, "sharpness_1": 0.3,
         "break_2": 8000.0, "exponent_change_2": 0.9, "sharpness_2": 0.2},
        lambda x: broken(x, 50, 0.8, (500, -0.7, 0.3), (8000, 0.9, 0.2)),
    ),
    ("additive", 1): ({"floor": 1.5, "scale_1": 40.0, "exponent_1": 0.5}, lambda x: 1.5 + 40 * x**-0.5),
    ("additive", 2): (
        {"floor": 1.7, "scale_1": 30.0, "exponent_1": 0.6, "scale_2": 60.0, "exponent_2": 0.5},
        lambda x: 1.7 + 30 * x[0] ** -0.6 + 60 * x[1] ** -0.5,
    ),
    ("additive", 3): (
        {"floor": 1.7, "scale_1": 30.0, "exponent_1": 0.6, "scale_2": 60.0, "exponent_2": 0.5,
         "scale_3": 15.0, "exponent_3": 0.3},
        lambda x: 1.7 + 30 * x[0] ** -0.6 + 60 * x[1] ** -0.5 + 15 * x[2] ** -0.3,
    ),
}  # fmt: skip


def sizes_of(columns: int) -> Array:
    """A line of sizes for one column, or a grid for several."""
    if columns == 1:
        return np.geomspace(64, 65536, 16)
    grid = np.meshgrid(*[np.geomspace(64, 65536, 5) * 10**place for place in range(columns)])
    return np.stack([side.ravel() for side in grid])


@pytest.fixture(params=sorted(EXAMPLES), ids=lambda key: f"{key[0]}-{key[1]}")
def key(request: pytest.FixtureRequest) -> tuple[str, int]:
    return request.param  # type: ignore[no-any-return]


def rows(x: Array) -> Array:
    return x if x.ndim == 2 else x[None]


def test_every_law_has_an_example() -> None:
    assert {name for name, _ in EXAMPLES} == set(LAW_NAMES)
    assert all(law.x_columns == 1 for law in LAWS.values())


def test_the_curve_is_the_formula(key: tuple[str, int]) -> None:
    (parameters, formula), law, x = EXAMPLES[key], law_named(*key), sizes_of(key[1])
    assert tuple(parameters) == law.parameters
    np.testing.assert_allclose(law.value(parameters, x), formula(x), rtol=1e-12)
    for name in law.parameters:
        assert name in law.formula


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_gradient_and_hessian_agree_with_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for (name, columns), (parameters, _) in EXAMPLES.items():
        law = law_named(name, columns)
        at = law.coordinates(parameters)
        at = np.clip(at + 0.1 * rng.standard_normal((3, len(at))) * (1 + np.abs(at)), *law.limits())
        z = rng.uniform(-4, 4, (columns, 1, 7))
        (_, slope), bend = law.curve(at, z), law.bend(at, z)
        for place, step in enumerate(1e-5 * np.eye(at.shape[1])):
            after, before = (law.curve(at + sign * step, z) for sign in (1, -1))
            size = np.abs(slope).max() + np.abs(bend).max() + 1
            np.testing.assert_allclose(slope[..., place], (after[0] - before[0]) / 2e-5, rtol=1e-6, atol=1e-8 * size)
            np.testing.assert_allclose(bend[..., place], (after[1] - before[1]) / 2e-5, rtol=1e-5, atol=1e-7 * size)


def test_each_problem_may_have_sizes_of_its_own(key: tuple[str, int]) -> None:
    """z (k, b, n) is the same as b calls with z (k, 1, n)."""
    law, rng = law_named(*key), np.random.default_rng(3)
    at = law.coordinates(EXAMPLES[key][0]) + 0.01 * rng.standard_normal((4, len(law.parameters)))
    z = rng.uniform(3, 6, (key[1], 4, 5))
    value, slope = law.curve(at, z)
    for row in range(4):
        alone, alone_slope = law.curve(at[row : row + 1], z[:, row : row + 1])
        np.testing.assert_allclose(value[row], alone[0], rtol=1e-13)
        np.testing.assert_allclose(slope[row], alone_slope[0], rtol=1e-12, atol=1e-12)


def test_terms_are_the_curve(key: tuple[str, int]) -> None:
    """Linear terms and exponentials, as whoever compiles them reads them: for z (k, n)."""
    law, z = law_named(*key), np.log(rows(sizes_of(key[1])))
    if law.terms is None:
        assert law.name.startswith("broken_power") or law.name not in {name for name, _ in EXAMPLES}
        return
    at, terms = law.coordinates(EXAMPLES[key][0]), law.terms(z)
    value = terms.linear @ at + np.einsum("t,tn->n", terms.signs, np.exp(terms.exponents @ at))
    np.testing.assert_allclose(value, law.curve(at[None], z[:, None])[0][0], rtol=1e-12)


def test_a_noiseless_fit_returns_the_parameters(key: tuple[str, int]) -> None:
    (parameters, formula), law, x = EXAMPLES[key], law_named(*key), sizes_of(key[1])
    task = problem(law, rows(x), formula(x)[None])
    found = law.from_unit(task.center) @ solve(task).coordinates[0]
    expected = law.coordinates(parameters)
    if key[0] == "broken_power_2" and found[2] > found[5]:  # which break is the first one is a matter of names
        found = found[[0, 1, 5, 6, 7, 2, 3, 4]]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit", [1e-9, 1e12])
def test_the_curve_does_not_depend_on_units_of_x(key: tuple[str, int], unit: float) -> None:
    law, x = law_named(*key), rows(sizes_of(key[1]))
    y = EXAMPLES[key][1](sizes_of(key[1])) * (1 + 0.02 * np.cos(7 * np.arange(x.shape[1])))
    fitted, costs = [], []
    for sizes in (x, x * unit):
        task = problem(law, sizes, y[None])
        solution = solve(task)
        fitted.append(law.curve(solution.coordinates, task.z)[0][0])
        costs.append(solution.cost[0])
    np.testing.assert_allclose(fitted[0], fitted[1], rtol=1e-4)
    assert costs[0] == pytest.approx(costs[1], rel=1e-8)


def test_parameters_are_those_of_x_and_not_of_the_centred_fit(key: tuple[str, int]) -> None:
    law, x = law_named(*key), rows(sizes_of(key[1]))
    task = problem(law, x, EXAMPLES[key][1](sizes_of(key[1]))[None])
    at = law.coordinates(EXAMPLES[key][0]) @ np.linalg.inv(law.from_unit(task.center)).T
    np.testing.assert_allclose(law.curve(at[None], task.z)[0][0], EXAMPLES[key][1](sizes_of(key[1])), rtol=1e-10)


def test_the_valley_turns_where_its_derivative_vanishes() -> None:
    law, parameters = law_named("valley"), EXAMPLES["valley", 1][0]
    assert law.turning_point is not None
    z = law.turning_point(law.coordinates(parameters)[None])[0]
    near = law.value(parameters, np.exp(z + np.linspace(-0.5, 0.5, 2001)))
    assert near.argmin() == 1000
    slope = parameters["exponent"] * parameters["scale"] * math.exp(-parameters["exponent"] * z)
    rise = parameters["rise_exponent"] * parameters["rise_scale"] * math.exp(parameters["rise_exponent"] * z)
    assert slope == pytest.approx(rise, rel=1e-12)
    flat = law.turning_point(np.array([[1.0, 0.0, 0.0, 0.0, 0.5]]))
    assert not np.isfinite(flat).any()


def test_a_law_of_several_columns_is_made_on_demand() -> None:
    law = law_named("additive", 4)
    assert (law.x_columns, len(law.parameters)) == (4, 9)
    assert law is law_named("additive", 4)
    with pytest.raises(UsageError, match="power takes 1 x column"):
        law_named("power", 2)


def test_an_unknown_law_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="did you mean 'power_floor'"):
        law_named("powerfloor")
    with pytest.raises(UsageError, match="did you mean 'additive'"):
        law_named("aditive")


def test_floors_are_at_least_zero_and_exponents_have_the_signs_of_the_formula() -> None:
    for key in EXAMPLES:
        law: Law = law_named(*key)
        low, _ = law.limits()
        for name, least in zip(law.parameters, low, strict=True):
            if name == "floor" or (name.startswith(("exponent", "rise_exponent")) and law.terms and not law.linear):
                assert least >= 0
