"""What a fit says against itself: limits reached, columns that cannot be told apart, points that carry it alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.diagnostics import holdout_errors, lacks
from analysis.fitting import Fit, fit
from analysis.laws import group_law, law_named

E = np.geomspace(256, 65536, 9)


def one(table: pd.DataFrame, **words: Any) -> Fit:
    found = fit(table, **{"x": "x", "y": "y", **words})
    assert isinstance(found, Fit)
    return found


def noisy(size: float = 0.05, seed: int = 0) -> pd.DataFrame:
    error = size * np.random.default_rng(seed).standard_normal(len(E))
    return pd.DataFrame({"x": E, "y": 300 * E**-0.7 * np.exp(error)})


def said(found: Fit, *words: str) -> bool:
    return any(all(word in warning for word in words) for warning in found.warnings)


def sizes(together: float, seed: int = 0, n: int = 30) -> pd.DataFrame:
    """Two columns whose logarithms have this share of their spread in common."""
    rng = np.random.default_rng(seed)
    common, first, second = rng.uniform(0, 1, (3, n))
    enc = 10 ** (6 + 3 * (together * common + (1 - together) * first))
    dec = 10 ** (6 + 3 * (together * common + (1 - together) * second))
    error = 0.01 * rng.standard_normal(n)
    return pd.DataFrame({"enc": enc, "dec": dec, "y": (2 + 300 * enc**-0.4 + 900 * dec**-0.5) * np.exp(error)})


def test_columns_that_grow_together_cannot_be_told_apart() -> None:
    words = ("enc and dec change together", "cannot be told apart")
    assert said(one(sizes(1.0), law="additive", x=["enc", "dec"]), *words, "correlation 1.000")
    assert said(one(sizes(0.9), law="additive", x=["enc", "dec"]), *words)
    assert not said(one(sizes(0.0), law="additive", x=["enc", "dec"]), "cannot be told apart")


def test_a_column_that_follows_from_two_others() -> None:
    table = sizes(0.0, n=40)
    noise = np.random.default_rng(1).normal(0, 0.01, 40)
    table["tokenizer"] = np.sqrt(table["enc"] * table["dec"]) * np.exp(noise)
    found = one(table, law="additive", x=["enc", "dec", "tokenizer"])
    assert said(found, "tokenizer follows from the other columns")
    assert not said(found, "change together")


def test_opposed_columns_are_collinear_too() -> None:
    table = sizes(1.0).assign(dec=lambda t: 1e15 / t["enc"])
    assert said(one(table, law="additive", x=["enc", "dec"]), "enc and dec change together", "-1.000")


def test_each_narrow_column_is_named() -> None:
    table = sizes(0.0).assign(dec=lambda t: t["dec"] ** 0.2)
    found = one(table, law="additive", x=["enc", "dec"])
    assert said(found, "dec spans a factor", "less than a decade")
    assert not said(found, "enc spans")


def test_an_outlier_is_what_leaving_it_out_shows() -> None:
    """The warning's two values are those of the fits with and without the point, weighted or not."""
    for weights in (None, "w"):
        table = noisy(0.02).assign(w=[1.0, 2, 3, 1, 2, 3, 1, 2, 3])
        table.loc[6, "y"] *= 2
        words = {"law": "power", "weights": weights}
        before, after = one(table.drop(index=6), **words), one(table, **words)
        pairs = [f"moves {name} from {before.parameters[name].value:.4g} to {after.parameters[name].value:.4g}"
                 for name in ("scale", "exponent")]  # fmt: skip
        told = [warning for warning in after.warnings if "at x = 1.638e+04" in warning or "at x = 16384" in warning]
        assert len(told) == 1
        assert any(pair in told[0] for pair in pairs)


def test_points_of_one_trial_are_no_independent_evidence() -> None:
    table = noisy().assign(trial=["a", "b", "c"] * 3)
    found = one(table, law="power")
    assert said(found, "9 rows are of 3 trials", "no independent evidence")
    assert found.points.runs is not None
    assert found.points.runs.tolist() == [0, 1, 2] * 3
    assert one(noisy().assign(trial=range(9)), law="power").points.runs is None


def test_unequal_seeds_are_named() -> None:
    table = noisy()
    seeds = pd.concat([table.assign(seed=0), table.head(4).assign(seed=1, y=table["y"] * 1.1)])
    found = one(seeds, law="power")
    assert said(found, "13 rows averaged over seeds to 9 configurations")
    assert said(found, "from 1 to 2 seeds and count alike")
    assert found.points.seeds.tolist() == [2] * 4 + [1] * 5
    assert not said(one(pd.concat([table.assign(seed=0), table.assign(seed=1, y=1.0)]), law="power"), "count alike")


def test_a_falling_law_of_rising_points_is_at_its_limit() -> None:
    rising = noisy().assign(y=E**0.5)
    assert said(one(rising, law="power_floor"), "exponent is at its limit")
    assert not said(one(noisy(), law="power_floor"), "at its limit")


def test_the_null_repeats_the_next_size_of_its_own_group() -> None:
    joint = group_law(law_named("power"), 2, ["exponent"])
    x = np.array([[1.0, 2.0, 4.0, 1.0, 3.0, 9.0], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])
    y = np.array([8.0, 4.0, 2.0, 90.0, 30.0, 5.0])
    _, null = holdout_errors(joint, x, y)
    assert null == pytest.approx(np.sqrt((np.log(4 / 2) ** 2 + np.log(30 / 5) ** 2) / 2))


def test_columns_that_no_longer_vary_without_their_largest_are_not_held_out() -> None:
    """With two encoders only the decoder can be held out: without the larger encoder there is one size of it."""
    enc, dec = (part.ravel() for part in np.meshgrid([1e6, 1e8], np.geomspace(1e6, 1e9, 6)))
    error = np.random.default_rng(0).normal(0, 0.01, 12)
    table = pd.DataFrame({"enc": enc, "dec": dec, "y": (2 + 300 * enc**-0.4 + 900 * dec**-0.5) * np.exp(error)})
    held = table["dec"] == table["dec"].max()
    kept = one(table[~held], law="additive", x=["enc", "dec"])
    error = np.log(kept.predict(table[held])["value"].to_numpy() / table.loc[held, "y"])
    found = one(table, law="additive", x=["enc", "dec"])
    assert found.holdout_rmsle == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)


def test_what_sizes_lack() -> None:
    power = law_named("power")
    assert lacks(power, np.array([[1.0, 2.0]])) is None
    assert lacks(power, np.array([[1.0, 1.0]])) == "1 different"
    assert lacks(power, np.zeros((1, 0))) == "no points"
    assert lacks(power, np.array([[1.0, 1.0 + 1e-9]])) == "sizes that hardly vary"
    joint = group_law(law_named("power_floor"), 2, ["floor"])
    x = np.array([[1.0, 2.0, 4.0, 8.0, 3.0], [0.0, 0.0, 0.0, 0.0, 1.0]])
    assert lacks(joint, x) == "1 different in a group with 2 parameters of its own"


def test_r2_of_a_linear_law_is_the_squared_correlation() -> None:
    for seed in range(3):
        table = noisy(0.5, seed)
        assert one(table, law="semilog").r2 == pytest.approx(stats.pearsonr(np.log(E), table["y"])[0] ** 2)
        assert one(table, law="power").r2 == pytest.approx(stats.pearsonr(np.log(E), np.log(table["y"]))[0] ** 2)
