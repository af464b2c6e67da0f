"""Groups are fitted apart, or together with parameters in common: then as one regression with one design matrix."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from analysis.fitting import Fit, fit
from tokscale.errors import TableError, UsageError

E = np.geomspace(256, 65536, 9)


def many(table: pd.DataFrame, **words: Any) -> list[Fit]:
    found = fit(table, **{"x": "x", "y": "y", **words})
    assert isinstance(found, list)
    return found


def noisy(seed: int = 0, scale: float = 300.0, exponent: float = 0.7, n: int = 9) -> pd.DataFrame:
    error = 0.05 * np.random.default_rng(seed).standard_normal(n)
    return pd.DataFrame({"x": E[:n], "y": scale * E[:n] ** -exponent * np.exp(error)})


def kinds() -> pd.DataFrame:
    """Three kinds of unequal numbers of points, with one exponent and a scale each."""
    parts = [noisy(1, 300.0), noisy(2, 100.0, n=6), noisy(3, 40.0, n=7)]
    return pd.concat([part.assign(kind=kind) for part, kind in zip(parts, "abc", strict=True)])


def said(found: Fit, *words: str) -> bool:
    return any(all(word in warning for word in words) for warning in found.warnings)


def test_groups_are_fitted_apart() -> None:
    table = pd.concat([noisy(seed=1).assign(kind="b"), noisy(seed=2, scale=50.0, exponent=0.2).assign(kind="a"),
                       pd.DataFrame({"x": [1.0], "y": [1.0]}).assign(kind="c"), noisy().assign(kind=None)])  # fmt: skip
    found = many(table, law="power", by="kind")
    assert [one.group for one in found] == ["a", "b"]
    assert found[0].parameters["exponent"].value == pytest.approx(0.2, abs=0.1)
    assert all(said(one, "group c is not fitted") and said(one, "9 rows left out: kind is missing") for one in found)
    both = many(table, by="kind", where="kind != 'c'")
    laws = [one.law for one in both if one.group == "a"]
    assert [one.group for one in both] == ["a"] * len(laws) + ["b"] * len(laws)
    assert sorted(laws) == sorted(one.law for one in both if one.group == "b")
    assert len(laws) > 2


def test_groups_of_numbers_stay_numbers_in_json() -> None:
    table = pd.concat([noisy(seed=1).assign(patch=8), noisy(seed=2).assign(patch=16)])
    found = json.loads(json.dumps([one.to_json() for one in many(table, law="power", by="patch")], allow_nan=False))
    assert [one["group"] for one in found] == [8, 16]


def test_a_shared_exponent_is_one_slope_of_a_regression_with_an_intercept_for_each_group() -> None:
    table = kinds()
    z, target = np.log(table["x"].to_numpy()), np.log(table["y"].to_numpy())
    design = np.column_stack([*(table["kind"] == kind for kind in "abc"), -z]).astype(float)
    estimate, (rss,), _, _ = np.linalg.lstsq(design, target, rcond=None)
    freedom = len(z) - 4
    half = stats.t.ppf(0.975, freedom) * np.sqrt(rss / freedom * np.diag(np.linalg.inv(design.T @ design)))
    found = many(table, law="power", by="kind", shared=["exponent"])
    assert [(one.group, one.n) for one in found] == [("a", 9), ("b", 6), ("c", 7)]
    for place, one in enumerate(found):
        scale, exponent = one.parameters["scale"], one.parameters["exponent"]
        ends = np.exp(estimate[place] + half[place] * np.array([0, -1, 1]))
        assert (scale.value, scale.low, scale.high) == pytest.approx(tuple(ends))
        expected = (estimate[3], estimate[3] - half[3], estimate[3] + half[3])
        assert (exponent.value, exponent.low, exponent.high) == pytest.approx(expected)
        assert one.r2 == pytest.approx(1 - rss / ((target - target.mean()) ** 2).sum())
        deviance = len(z) * (math.log(2 * math.pi * rss / len(z)) + 1) + 2 * target.sum()
        assert one.aicc == pytest.approx(deviance + 10 + 60 / (len(z) - 6))
        assert said(one, "exponent shared by 3 groups of kind", "joint fit of 22 points")
        at = np.array([500.0, 1e5])
        row = np.column_stack([np.tile(np.eye(3)[place], (2, 1)), -np.log(at)])
        spread = np.sqrt(rss / freedom * np.einsum("ij,jk,ik->i", row, np.linalg.inv(design.T @ design), row))
        width = stats.t.ppf(0.95, freedom) * spread
        band = one.predict(at, 0.9, kind="confidence")
        expected_band = np.exp((row @ estimate)[:, None] + width[:, None] * np.array([0, -1, 1]))
        np.testing.assert_allclose(band.to_numpy(), expected_band)
        np.testing.assert_allclose(one.residuals["residual"], target[table["kind"] == one.group] - np.log(
            one.predict(one.points.x)["value"]))  # fmt: skip


def test_a_shared_intercept_of_a_plain_law() -> None:
    table = kinds().assign(y=lambda t: 3 + t["y"] ** 0.1 + 0.2 * (t["kind"] == "b") * np.log2(t["x"]))
    octaves = np.log2(table["x"].to_numpy())
    design = np.column_stack([np.ones(len(table)), *((table["kind"] == kind) * octaves for kind in "abc")])
    estimate = np.linalg.lstsq(design.astype(float), table["y"].to_numpy(), rcond=None)[0]
    found = many(table, law="semilog", by="kind", shared="intercept")
    np.testing.assert_allclose([one.parameters["slope"].value for one in found], estimate[1:])
    np.testing.assert_allclose([one.parameters["intercept"].value for one in found], [estimate[0]] * 3)


def test_all_parameters_shared_are_those_of_all_rows_together() -> None:
    table = kinds()
    together = fit(table, law="power", x="x", y="y")
    assert isinstance(together, Fit)
    for found in many(table, law="power", by="kind", shared=["scale", "exponent"]):
        for name, parameter in together.parameters.items():
            ours = found.parameters[name]
            assert (ours.value, ours.low, ours.high) == pytest.approx((parameter.value, parameter.low, parameter.high))


def test_a_floor_of_all_groups_is_the_optimum_that_scipy_finds() -> None:
    rng, x = np.random.default_rng(0), np.geomspace(1e2, 1e6, 12)
    truth = {"a": (40.0, 0.4), "b": (90.0, 0.5), "c": (200.0, 0.6)}
    parts = [pd.DataFrame({"x": x, "kind": kind, "y": (2 + scale * x**-power) * np.exp(0.01 * rng.standard_normal(12))})
             for kind, (scale, power) in truth.items()]  # fmt: skip
    target = np.log([part["y"] for part in parts])

    def residual(at: Any) -> Any:
        return (np.log(at[0] + np.exp(at[1:4, None]) * x ** -at[4:, None]) - target).ravel()

    start = [2.0, *(math.log(scale) for scale, _ in truth.values()), *(power for _, power in truth.values())]
    best = optimize.least_squares(residual, start, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    found = many(pd.concat(parts), law="power_floor", by="kind", shared="floor")
    assert found[0].solution.cost[0] == pytest.approx(2 * best.cost, rel=1e-9)
    assert len({one.parameters["floor"] for one in found}) == 1
    for place, one in enumerate(found):
        values = [one.parameters[name].value for name in ("floor", "scale", "exponent")]
        assert values == pytest.approx([best.x[0], math.exp(best.x[1 + place]), best.x[4 + place]], rel=1e-5)
        for name, true in zip(("floor", "scale", "exponent"), (2.0, *truth[one.group]), strict=True):
            low, high = one.interval(name, 0.99)
            assert low is not None
            assert high is not None
            assert low < true < high


def test_each_group_has_an_optimum_of_its_own() -> None:
    rng, octaves = np.random.default_rng(1), np.log2(E)
    lines = {"B": (95.0, -15.0), "S": (90.0, -14.0)}
    parts = [pd.DataFrame({"x": E, "kind": kind, "y": a + b * octaves + 0.6 * octaves**2 + rng.normal(0, 0.3, 9)})
             for kind, (a, b) in lines.items()]  # fmt: skip
    joint = many(pd.concat(parts), law="quadratic", by="kind", shared="curvature")
    apart = many(pd.concat(parts), law="quadratic", by="kind")
    for one, alone in zip(joint, apart, strict=True):
        slope, curvature = one.parameters["slope"].value, one.parameters["curvature"].value
        assert one.optimum is not None
        assert alone.optimum is not None
        assert one.optimum["x"] == pytest.approx(2 ** (-slope / 2 / curvature))
        assert one.optimum["low"] < 2 ** (-lines[one.group][1] / 1.2) < one.optimum["high"]
        assert one.optimum["low"] < alone.optimum["x"] < one.optimum["high"]
        assert one.optimum["kind"] == "minimum"


def test_joint_warnings_name_the_group() -> None:
    table = kinds()
    table.iloc[8, 1] *= 4
    found = many(table, law="power", by="kind", shared="exponent")
    assert all(said(one, "x = 65536", "moves") for one in found)
    assert not any(said(one, "[") for one in found)


def test_hold_out_of_groups_leaves_the_largest_of_each_out() -> None:
    table = kinds()
    held = table["x"] == table.groupby("kind")["x"].transform("max")
    kept = many(table[~held], law="power", by="kind", shared="exponent")
    rows = zip(table[held].itertuples(), kept, strict=True)
    errors = [math.log(one.predict([row.x])["value"][0] / row.y) for row, one in rows]
    last = table[~held].groupby("kind")["y"].last()
    repeated = np.log(last.to_numpy() / table.loc[held, "y"].to_numpy())
    found = many(table, law="power", by="kind", shared="exponent")[0]
    assert found.holdout_rmsle == pytest.approx(math.sqrt(np.mean(np.square(errors))))
    assert found.null_rmsle == pytest.approx(math.sqrt(np.mean(repeated**2)))


def test_seeds_within_groups_that_share() -> None:
    table = pd.concat([kinds().assign(seed=0), kinds().assign(seed=1, y=lambda t: t["y"] * 1.02)])
    found = many(table, law="power", by="kind", shared="exponent")
    assert [one.n for one in found] == [9, 6, 7]
    assert all((one.points.seeds == 2).all() for one in found)


def test_a_single_group_shares_nothing() -> None:
    table = noisy().assign(kind="a")
    found = many(table, law="power", by="kind", shared="exponent")
    assert len(found) == 1
    assert said(found[0], "one group", "nothing is shared")
    assert found[0].parameters == many(table, law="power", by="kind")[0].parameters


def test_groups_that_cannot_carry_their_own_parameters() -> None:
    table = pd.concat([kinds(), pd.DataFrame({"x": [8.0], "y": [2.0], "kind": ["d"]})])
    assert len(many(table, law="power", by="kind", shared="exponent")) == 4
    with pytest.raises(TableError, match=r"(?s)power_floor.*in a group with 2 parameters of its own"):
        fit(table, law="power_floor", x="x", y="y", by="kind", shared="floor")
    with pytest.raises(TableError, match="no value"):
        fit(table.assign(kind=None), law="power", x="x", y="y", by="kind", shared="exponent")


def test_rows_without_a_group_and_groups_without_rows_are_told() -> None:
    table = pd.concat([kinds(), noisy().assign(kind=None), noisy(n=3).assign(kind="e", y=-1.0)])
    found = many(table, law="power", by="kind", shared="exponent")
    assert [one.group for one in found] == ["a", "b", "c"]
    assert all(said(one, "9 rows left out: kind is missing") and said(one, "group e is not fitted") for one in found)


def test_words_of_sharing_that_do_not_go_together() -> None:
    for words in ({"law": "power"}, {"by": "kind"}):
        with pytest.raises(UsageError, match="shared between groups, by one law"):
            fit(kinds(), x="x", y="y", shared="exponent", **words)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="did you mean 'exponent'"):
        fit(kinds(), x="x", y="y", law="power", by="kind", shared="exponnt")
    with pytest.raises(TableError, match="no group has more than one row"):
        fit(noisy().assign(kind=range(9)), x="x", y="y", law="power", by="kind")
