"""Several columns, weights and Huber's loss: against SciPy, textbook formulas, and what repeated rows would say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats

from analysis.fitting import Fit, fit
from tokscale.errors import TableError, UsageError

TRUTH = {"floor": 2.0, "scale_1": 300.0, "exponent_1": 0.4, "scale_2": 900.0, "exponent_2": 0.5}


def one(table: pd.DataFrame, **words: Any) -> Fit:
    found = fit(table, **{"y": "y", **words})
    assert isinstance(found, Fit)
    return found


def joint(noise: float = 0.01, seed: int = 0) -> pd.DataFrame:
    """Encoders and decoders of six sizes each, all combinations."""
    sizes = np.geomspace(1e6, 1e9, 6)
    enc, dec = (part.ravel() for part in np.meshgrid(sizes, sizes))
    error = noise * np.random.default_rng(seed).standard_normal(36)
    return pd.DataFrame({"enc": enc, "dec": dec, "y": (2 + 300 * enc**-0.4 + 900 * dec**-0.5) * np.exp(error)})


def line(n: int = 12, seed: int = 0) -> pd.DataFrame:
    rng, x = np.random.default_rng(seed), np.geomspace(256, 65536, n)
    y = 300 * x**-0.7 * np.exp(0.05 * rng.standard_normal(n))
    return pd.DataFrame({"x": x, "y": y, "w": rng.integers(1, 4, n).astype(float), "id": range(n)})


def test_two_columns_are_fitted_by_the_additive_law_as_scipy_does() -> None:
    table = joint()
    found = one(table, law="additive", x=["enc", "dec"])
    enc, dec, target = np.log(table["enc"]), np.log(table["dec"]), np.log(table["y"])

    def residual(at: Any) -> Any:
        return np.log(at[0] + np.exp(at[1] - at[2] * enc) + np.exp(at[3] - at[4] * dec)) - target

    start = [2.0, math.log(300), 0.4, math.log(900), 0.5]
    best = optimize.least_squares(residual, start, x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert found.solution.cost[0] == pytest.approx(2 * best.cost, rel=1e-9)
    expected = [best.x[0], math.exp(best.x[1]), best.x[2], math.exp(best.x[3]), best.x[4]]
    assert [parameter.value for parameter in found.parameters.values()] == pytest.approx(expected, rel=1e-5)
    for name, (low, high) in found.interval(level=0.999).items():
        assert low is not None
        assert high is not None
        assert low < TRUTH[name] < high
    assert found.r2 == pytest.approx(1 - 2 * best.cost / ((target - target.mean()) ** 2).sum())


def test_several_columns_without_a_law_are_additive() -> None:
    found = fit(joint(), x=["enc", "dec"], y="y")
    assert isinstance(found, list)
    assert [(one.law, one.x) for one in found] == [("additive", ("enc", "dec"))]
    assert list(found[0].parameters) == list(TRUTH)
    with pytest.raises(UsageError, match="power takes 1 x column"):
        fit(joint(), x=["enc", "dec"], y="y", law="power")


def test_one_column_of_the_additive_law_is_a_power_law_with_a_floor() -> None:
    table = line().assign(y=lambda t: t["y"] + 1)
    ours, same = one(table, law="additive", x="x"), one(table, law="power_floor", x="x")
    values = [[parameter.value for parameter in found.parameters.values()] for found in (ours, same)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_places_of_several_columns_are_asked_in_three_ways() -> None:
    found = one(joint(), law="additive", x=["enc", "dec"])
    enc, dec = np.array([1e7, 1e8, 1e9]), np.array([1e6, 1e9, 1e7])
    table = found.predict(pd.DataFrame({"dec": dec, "enc": enc}), 0.9, kind="confidence")
    pd.testing.assert_frame_equal(table, found.predict([enc, dec], 0.9, kind="confidence"))
    pd.testing.assert_frame_equal(table.head(1), found.predict([1e7, 1e6], 0.9, kind="confidence"))
    np.testing.assert_allclose(table["value"], 2 + 300 * enc**-0.4 + 900 * dec**-0.5, rtol=0.03)
    with pytest.raises(UsageError, match=r"(?s)another number of columns.*2 rows: enc, dec"):
        found.predict([1e7, 1e6, 1e8])


def test_units_of_a_column_change_its_scale_alone() -> None:
    ours = one(joint(), law="additive", x=["enc", "dec"])
    millions = one(joint().assign(enc=lambda t: t["enc"] / 1e6), law="additive", x=["enc", "dec"])
    for name, parameter in ours.parameters.items():
        factor = 1e6 ** -ours.parameters["exponent_1"].value if name == "scale_1" else 1.0
        assert millions.parameters[name].value == pytest.approx(factor * parameter.value, rel=1e-5)


def test_hold_out_of_several_columns_leaves_the_largest_of_each_out_in_turn() -> None:
    table = joint(0.02)
    squares, nulls = [], []
    for name in ("enc", "dec"):
        held = table[name] == table[name].max()
        kept = one(table[~held], law="additive", x=["enc", "dec"])
        squares.append(np.mean((np.log(kept.predict(table[held])["value"].to_numpy() / table.loc[held, "y"])) ** 2))
        before = table[table[name] == sorted(table[name].unique())[-2]]
        nulls.append(np.mean((np.log(before["y"].to_numpy() / table.loc[held, "y"].to_numpy())) ** 2))
    found = one(table, law="additive", x=["enc", "dec"])
    assert found.holdout_rmsle == pytest.approx(math.sqrt(np.mean(squares)), rel=1e-5)
    assert found.null_rmsle == pytest.approx(math.sqrt(np.mean(nulls)))


def test_whole_weights_are_repeated_rows() -> None:
    table = line()
    repeated = table.loc[table.index.repeat(table["w"].astype(int))].assign(id=lambda t: range(len(t)))
    for law in ("power", "semilog", "power_floor"):
        weighted, counted = one(table, law=law, x="x", weights="w"), one(repeated, law=law, x="x")
        values = [[parameter.value for parameter in found.parameters.values()] for found in (weighted, counted)]
        assert values[0] == pytest.approx(values[1], rel=1e-5, abs=1e-9)
        assert weighted.r2 == pytest.approx(counted.r2)
        assert (weighted.n, counted.n) == (12, table["w"].sum())


def test_intervals_and_aicc_of_weighted_points_are_those_of_inverse_variances() -> None:
    table = line()
    weight, z, target = table["w"].to_numpy(), np.log(table["x"].to_numpy()), np.log(table["y"].to_numpy())
    design = np.column_stack([np.ones(12), -z])
    covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
    estimate = covariance @ design.T @ (weight * target)
    residual = target - design @ estimate
    variance = (weight * residual**2).sum() / 10
    half = stats.t.ppf(0.975, 10) * math.sqrt(variance * covariance[1, 1])
    found = one(table, law="power", x="x", weights="w")
    exponent = found.parameters["exponent"]
    assert (exponent.value, exponent.low, exponent.high) == pytest.approx(
        (estimate[1], estimate[1] - half, estimate[1] + half)
    )
    sigma = np.sqrt((weight * residual**2).mean() / weight)
    likelihood = stats.lognorm(s=sigma, scale=np.exp(design @ estimate)).logpdf(table["y"]).sum()
    assert found.aicc == pytest.approx(-2 * likelihood + 6 + 24 / 8)


def test_only_the_proportions_of_weights_matter() -> None:
    table = line()
    for law in ("power", "power_floor"):
        ours = one(table, law=law, x="x", weights="w")
        for factor in (1e-12, 1e9):
            other = one(table.assign(w=table["w"] * factor), law=law, x="x", weights="w")
            for name, parameter in ours.parameters.items():
                assert other.parameters[name].value == pytest.approx(parameter.value, rel=1e-6)
            assert (other.aicc, other.r2, other.holdout_rmsle) == pytest.approx(
                (ours.aicc, ours.r2, ours.holdout_rmsle)
            )
    alike, plain = one(table.assign(w=7.0), law="power", x="x", weights="w"), one(table, law="power", x="x")
    assert alike.parameters == plain.parameters
    assert (alike.aicc, alike.warnings) == (pytest.approx(plain.aicc), plain.warnings)


def test_rows_whose_weight_cannot_be_used_are_told() -> None:
    table = line().assign(w=[1.0] * 8 + [0.0, -1.0, math.nan, math.inf])
    warnings = one(table, law="power", x="x", weights="w").warnings
    for words in ("2 rows left out: w is zero or negative", "1 row left out: w is missing",
                  "1 row left out: w is infinite"):  # fmt: skip
        assert words in warnings
    with pytest.raises(TableError, match="holds text"):
        fit(line().assign(w="a"), law="power", x="x", y="y", weights="w")


def test_seeds_are_averaged_by_their_weights() -> None:
    table = line(6).drop(columns="id")
    seeds = pd.concat([table.assign(seed=0, w=1.0), table.assign(seed=1, w=3.0, y=table["y"] * 2)])
    found = one(seeds, law="power", x="x", weights="w")
    expected = one(table.assign(y=table["y"] * 1.75), law="power", x="x")
    assert found.parameters["scale"].value == pytest.approx(expected.parameters["scale"].value)
    assert found.n == 6


def huber(residual: Any, delta: float) -> Any:
    return np.where(abs(residual) <= delta, residual**2 / 2, delta * (abs(residual) - delta / 2))


@pytest.mark.parametrize("delta", [1e-3, 0.03])
def test_hubers_loss_is_minimised(delta: float) -> None:
    table = line(16)
    z, target = np.log(table["x"].to_numpy()), np.log(table["y"].to_numpy())

    def cost(at: Any) -> float:
        return float(huber(target - at[0] + at[1] * (z - z.mean()), delta).sum())

    fine = {"xatol": 1e-12, "fatol": 1e-15, "maxiter": 4000}
    tried = [
        optimize.minimize(cost, [target.mean(), start], method="Nelder-Mead", options=fine) for start in (0.6, 0.8)
    ]
    best = min(tried, key=lambda one: float(one.fun))
    found = one(table, law="power", x="x", huber=delta)
    assert found.solution.cost[0] <= 2 * best.fun * (1 + 1e-6)
    assert found.parameters["exponent"].value == pytest.approx(best.x[1], abs=2e-3)
    constant = min(2 * huber(target - level, delta).sum() for level in np.linspace(target.min(), target.max(), 20001))
    assert found.r2 == pytest.approx(1 - found.solution.cost[0] / constant, abs=1e-6)


def test_huber_beyond_all_residuals_is_least_squares() -> None:
    table = line()
    robust, plain = one(table, law="power", x="x", huber=100.0), one(table, law="power", x="x")
    for name, parameter in plain.parameters.items():
        assert robust.parameters[name].value == pytest.approx(parameter.value, rel=1e-8)
    assert (robust.r2, robust.aicc) == pytest.approx((plain.r2, plain.aicc))
    assert (robust.holdout_rmsle, robust.null_rmsle) == pytest.approx((plain.holdout_rmsle, plain.null_rmsle))


def test_a_gross_error_hardly_moves_hubers_fit() -> None:
    table, clean = line(), one(line(), law="power", x="x")
    table.loc[9, "y"] *= 20
    moved = [abs(one(table, law="power", x="x", **words).parameters["exponent"].value
                 - clean.parameters["exponent"].value) for words in ({}, {"huber": 0.05})]  # fmt: skip
    assert moved[1] < 0.1 * moved[0]


@pytest.mark.parametrize("delta", [1e-3, 0.04])
def test_aicc_of_hubers_loss_is_the_likelihood_that_it_maximises(delta: float) -> None:
    table = line()
    found = one(table, law="power", x="x", huber=delta)
    residual = found.residuals["residual"].to_numpy()

    def deviance(log_phi: float) -> float:
        phi = math.exp(log_phi)
        width = integrate.quad(lambda r: math.exp(-float(huber(r, delta)) / phi), 0, delta)[0]
        width += integrate.quad(lambda r: math.exp(-float(huber(r, delta)) / phi), delta, 40 * (phi / delta + delta))[0]
        return float(2 * (len(residual) * math.log(2 * width) + huber(residual, delta).sum() / phi))

    best = optimize.minimize_scalar(deviance, bracket=(-12, -6), tol=1e-10)
    assert found.aicc == pytest.approx(best.fun + 2 * np.log(table["y"]).sum() + 6 + 24 / 8, abs=1e-3)
