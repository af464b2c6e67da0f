"""What a law errs beyond the largest size is found by looking back, and is nothing where the law holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.extrapolation import ModelForm, form_rate, model_form, within_horizon
from analysis.hindcast import Refits, dependence, origins, refit
from analysis.laws import LAWS, Law, group_law, law_named
from analysis.laws.learning_curves import FLATTENING
from analysis.solver import Problem, problem, solve

Array = np.ndarray[Any, np.dtype[np.float64]]
X = np.geomspace(1e3, 1e6, 24)


def form_of(task: Problem) -> ModelForm:
    return model_form(task, solve(task))


def noisy(law: Law, x: Array, seed: int = 0, noise: float = 0.02, **parameters: float) -> Array:
    return law.value(parameters, x) * np.exp(noise * np.random.default_rng(seed).standard_normal(x.shape[-1]))


def test_origins_lie_over_the_last_third() -> None:
    z = np.linspace(0.0, 18.0, 19)
    known = origins(z)
    assert known.sum(axis=1).tolist() == [18, 17, 16, 15, 14, 13]
    assert np.array_equal(within_horizon(known, z).sum(axis=1), [1, 2, 3, 3, 3, 3])
    assert origins(np.array([0.0, 1.0, 2.0, 3.0])).sum(axis=1).tolist() == [3]


def test_refits_agree_with_fits_of_the_parts_alone() -> None:
    y = noisy(LAWS["power_floor"], X, floor=1.0, scale=40.0, exponent=0.4)
    for law in (LAWS["power_floor"], LAWS["power"], LAWS["quadratic"], FLATTENING):
        task = problem(law, X[None], y[None])
        parts = np.arange(24) < np.array([[24], [20], [15]])
        found = refit(task, parts)
        for place, part in enumerate(parts):
            alone = problem(law, X[None, part], y[None, part])
            assert found.cost[place] == pytest.approx(solve(alone).cost[0], rel=1e-5)
            assert found.rows[place] == part.sum()


def test_a_refit_foretells_the_variance_of_a_straight_line() -> None:
    """The textbook's s^2 (1 / n + (z - mean)^2 / Szz)."""
    y = noisy(LAWS["power"], X, scale=300.0, exponent=0.5)
    task = problem(LAWS["power"], X[None], y[None])
    z, place = np.log(X), np.log(4e6)
    _, variance = refit(task, np.ones((1, 24), dtype=bool)).foretell(np.array([[place]]))
    slope, level = np.polyfit(z, np.log(y), 1)
    residual = ((np.log(y) - level - slope * z) ** 2).sum() / 22
    expected = residual * (1 / 24 + (place - z.mean()) ** 2 / ((z - z.mean()) ** 2).sum())
    assert variance[0, 0] == pytest.approx(expected, rel=1e-9)


def test_inflation_is_that_of_correlated_errors() -> None:
    """(1 + r) / (1 - r) of a first-order autoregression, and near 1 of independent errors."""
    x, random = np.geomspace(1e3, 1e6, 4000), np.random.default_rng(3)
    white = random.standard_normal(4000)
    chained = np.empty(4000)
    chained[0] = white[0]
    for place in range(1, 4000):
        chained[place] = 0.6 * chained[place - 1] + white[place]

    def inflation(errors: Array) -> float:
        task = problem(LAWS["power"], x[None], (300 * x**-0.5 * np.exp(0.01 * errors))[None])
        found: Refits = refit(task, np.ones((1, 4000), dtype=bool))
        return float(found.inflation[0])

    assert dependence(white[:40], 2) < 0.5
    assert dependence(chained[:200], 2) > 0.99
    assert dependence(chained[:5], 2) == 0.0
    assert inflation(white) == pytest.approx(1.0, abs=0.1)
    assert inflation(chained) == pytest.approx(1.6 / 0.4, rel=0.15)


def test_the_rate_is_the_excess_of_errors_over_distance() -> None:
    distance = np.array([[1.0, 2.0], [1.0, 2.0]])
    ahead = np.ones((2, 2), dtype=bool)
    allowed = np.full((2, 2), 0.25)
    assert form_rate(np.sqrt(0.25 + (0.3 * distance) ** 2), allowed, distance, ahead) == pytest.approx(0.3)
    assert form_rate(np.full((2, 2), 0.4), allowed, distance, ahead) == 0.0


def test_the_rate_finds_the_angle_between_a_power_law_and_the_curve() -> None:
    """Through a bend a power law misses what comes by about what the rate says."""
    ahead = np.array([4e6])
    broken = np.append(X, ahead)
    broken = np.where(broken < 1e5, (broken / 1e5) ** -0.5, (broken / 1e5) ** -0.2)
    task = problem(LAWS["power"], X[None], broken[None, :-1])
    form = form_of(task)
    told = task.model(solve(task).coordinates, np.log(ahead)[None, None])[0][0, 0]
    assert 0.5 < (np.log(broken[-1]) - told) / form.deviation(np.log(ahead)[None])[0] < 2
    assert form.deviation(np.log([[5e5, 1e6, 4e6]])) == pytest.approx([0.0, 0.0, form.rate * np.log(4)], abs=1e-12)


def test_a_true_law_is_hardly_widened() -> None:
    """Chance widens few of them, and those by little: the mean variance of the form is below that of the noise."""
    law = LAWS["power"]
    tasks = [problem(law, X[None], noisy(law, X, seed, scale=300.0, exponent=0.5)[None]) for seed in range(100)]
    rates = np.array([form_of(task).rate for task in tasks])
    assert np.mean(rates > 0) < 0.35
    assert np.mean((rates * np.log(2)) ** 2) < 0.02**2


def test_exact_data_and_too_few_points_have_no_rate() -> None:
    assert form_of(problem(LAWS["power"], X[None], (300 * X**-0.5)[None])).rate == pytest.approx(0.0, abs=1e-9)
    few = form_of(problem(LAWS["power_floor"], X[None, :4], (1 + 300 * X[None, :4] ** -0.5)))
    assert (few.rate, few.origins) == (0.0, 0)


def test_every_loss_column_and_group_is_looked_back_on() -> None:
    law = law_named("additive", 2)
    x = np.stack([part.ravel() for part in np.meshgrid(X[::4], X[::4])])
    y = noisy(law, x, floor=1.0, scale_1=30.0, exponent_1=0.4, scale_2=20.0, exponent_2=0.3)
    joint = form_of(problem(law, x, y[None]))
    assert joint.edge.shape == (2, 1)
    assert joint.origins > 2
    corner = np.log(x.max(axis=1, keepdims=True)) + np.array([[3.0, 3.0], [0.0, 4.0]])
    assert joint.deviation(corner) == pytest.approx(joint.rate * np.array([3.0, 5.0]))

    huber = form_of(
        problem(LAWS["power"], X[None], noisy(LAWS["power"], X, scale=300.0, exponent=0.5)[None], delta=0.01)
    )
    assert huber.origins > 2

    number = np.repeat([0.0, 1.0], 12)
    sizes = np.stack([np.tile(X[::2], 2) * np.where(number > 0, 100.0, 1.0), number])
    both = group_law(LAWS["power"], 2, ["exponent"])
    grouped = form_of(problem(both, sizes, (300 * sizes[0] ** -0.5)[None]))
    assert np.exp(grouped.edge) == pytest.approx(np.array([[X[::2].max(), 100 * X[::2].max()]]))
    assert grouped.deviation(np.array([[np.log(1e8)], [1.0]])) == pytest.approx(0.0, abs=1e-8)


def test_flattening_is_its_formula_with_its_derivatives() -> None:
    values = {"scale": 50.0, "exponent": 0.4, "onset": 2e5}
    assert FLATTENING.value(values, X) == pytest.approx(50 * (1 / X + 1 / 2e5) ** 0.4, rel=1e-13)
    start, z = FLATTENING.coordinates(values)[None], np.log(X)[None, None]
    _, slope = FLATTENING.curve(start, z)
    bend = FLATTENING.bend(start, z)
    for place, step in enumerate(1e-5 * np.eye(3)):
        up, down = FLATTENING.curve(start + step, z), FLATTENING.curve(start - step, z)
        assert slope[0, :, place] == pytest.approx(((up[0] - down[0]) / 2e-5)[0], rel=1e-6, abs=1e-9)
        assert bend[0, :, place] == pytest.approx(((up[1] - down[1]) / 2e-5)[0], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("exponent", [0.4, -0.3])
def test_flattening_is_recovered_from_its_own_curve(exponent: float) -> None:
    values = {"scale": 50.0, "exponent": exponent, "onset": 2e5}
    task = problem(FLATTENING, X[None], FLATTENING.value(values, X)[None])
    assert solve(task).coordinates[0] == pytest.approx(FLATTENING.coordinates(values), rel=1e-5)
