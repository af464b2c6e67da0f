"""A law of several groups is the law in each group, with what they share in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize

from analysis.laws import Law, group_law, law_named
from analysis.solver import problem, solve
from tokscale.errors import UsageError

Array = np.ndarray[Any, np.dtype[np.float64]]
SIZES = np.geomspace(100, 1e5, 10)
FLOORS, SCALES, EXPONENTS = (1.0, 2.0, 0.5), (30.0, 10.0, 60.0), (0.5, 0.4, 0.7)


def three_groups(exponents: tuple[float, ...], seed: int = 0, error: float = 0.02) -> tuple[Array, Array]:
    noise = error * np.random.default_rng(seed).standard_normal((3, 10))
    y = [floor + scale * SIZES**-exponent for floor, scale, exponent in zip(FLOORS, SCALES, exponents, strict=True)]
    return np.stack([np.tile(SIZES, 3), np.repeat(np.arange(3.0), 10)]), (np.array(y) * np.exp(noise)).reshape(1, -1)


@pytest.mark.parametrize("name", ["power", "power_floor", "saturating", "valley", "broken_power"])
def test_nothing_shared_is_each_group_alone(name: str) -> None:
    x, y = three_groups(EXPONENTS)
    law = law_named(name)
    joint = solve(problem(group_law(law, 3, ()), x, y))
    alone = [solve(problem(law, SIZES[None], y[:, part])).cost[0] for part in (slice(10), slice(10, 20), slice(20, 30))]
    assert joint.cost[0] == pytest.approx(sum(alone), rel=1e-8)


def test_everything_shared_is_one_law() -> None:
    x, y = three_groups(EXPONENTS)
    law = law_named("power_floor")
    joint = group_law(law, 3, law.parameters)
    assert joint.parameters == law.parameters
    assert solve(problem(joint, x, y)).cost[0] == pytest.approx(solve(problem(law, x[:1], y)).cost[0], rel=1e-9)


def test_names_and_values_of_shared_and_free_parameters() -> None:
    law = group_law(law_named("power_floor"), 3, ("exponent",))
    assert law.parameters == ("floor[0]", "floor[1]", "floor[2]", "scale[0]", "scale[1]", "scale[2]", "exponent")
    x, y = three_groups((0.5, 0.5, 0.5), error=0.0)
    task = problem(law, x, y)
    found = law.from_unit(task.center) @ solve(task).coordinates[0]
    np.testing.assert_allclose(found, [*FLOORS, *np.log(SCALES), 0.5], rtol=1e-6)
    named = dict(zip(law.parameters, [*FLOORS, *SCALES, 0.5], strict=True))
    np.testing.assert_allclose(law.value(named, x), y[0], rtol=1e-12)


@pytest.mark.parametrize("shared", [("exponent",), ("floor",), ("scale",), ("floor", "exponent"), ("floor", "scale")])
def test_shared_parameters_reach_the_optimum_of_scipy(shared: tuple[str, ...]) -> None:
    x, y = three_groups(EXPONENTS, seed=len(shared), error=0.05)
    law = group_law(law_named("power_floor"), 3, shared)
    task, rng = problem(law, x, y), np.random.default_rng(5)
    low, high = law.limits()
    # SciPy is given the truth, or its mean, in units of x that leave ln x centred.
    truth = {"floor": FLOORS, "scale": np.log(SCALES), "exponent": EXPONENTS}
    start = np.concatenate([[np.mean(truth[name])] if name in shared else truth[name]
                            for name in ("floor", "scale", "exponent")])  # fmt: skip
    start = np.linalg.solve(law.from_unit(task.center), start)

    def residual(at: Array) -> Array:
        return np.nan_to_num(task.model(at[None])[0][0] - y_log, nan=1e3, posinf=1e3, neginf=-1e3)

    y_log = task.target[0]
    best = min(
        optimize.least_squares(residual, np.clip(start + spread * rng.standard_normal(len(start)), low + 1e-9, high),
                               bounds=(low, high), x_scale="jac", xtol=1e-14, ftol=1e-14).cost * 2
        for spread in (0.0, 0.1, 0.1, 0.3)
    )  # fmt: skip
    assert solve(task).cost[0] <= best * (1 + 1e-9)


def check_derivatives(law: Law, at: Array, z: Array) -> None:
    (_, slope), bend = law.curve(at, z), law.bend(at, z)
    for place, step in enumerate(1e-6 * np.eye(at.shape[1])):
        after, before = law.curve(at + step, z), law.curve(at - step, z)
        np.testing.assert_allclose(slope[..., place], (after[0] - before[0]) / 2e-6, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(bend[..., place], (after[1] - before[1]) / 2e-6, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["valley", "broken_power", "quadratic", "additive"])
def test_derivatives_and_terms_of_groups(name: str) -> None:
    law = group_law(law_named(name), 2, law_named(name).parameters[1:2])
    rng = np.random.default_rng(1)
    at = rng.uniform(0.1, 1.0, (3, len(law.parameters)))
    z = np.stack([rng.uniform(-1, 1, (1, 8)), np.repeat([[0.0, 1.0]], 4, axis=1)])
    check_derivatives(law, at, z)
    if law.terms is not None:
        terms = law.terms(z[:, 0])
        value = at @ terms.linear.T + np.einsum(
            "t,tbn->bn", terms.signs, np.exp(at @ np.swapaxes(terms.exponents, 1, 2))
        )
        np.testing.assert_allclose(value, law.curve(at, z)[0], rtol=1e-12)


def test_a_shared_name_that_is_no_parameter() -> None:
    with pytest.raises(UsageError, match="did you mean 'exponent'"):
        group_law(law_named("power"), 2, ("exponents",))
