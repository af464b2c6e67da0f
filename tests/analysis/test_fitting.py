"""A fit's numbers agree with SciPy's and with formulas by hand, and it says what is doubtful about it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import LAWS
from analysis.fitting import Fit, Parameter, fit
from tokscale.errors import ConfigError, TableError, UsageError

E = np.geomspace(256, 65536, 9)


def one(table: pd.DataFrame, **words: Any) -> Fit:
    found = fit(table, **{"x": "x", "y": "y", **words})
    assert isinstance(found, Fit)
    return found


def many(table: pd.DataFrame, **words: Any) -> list[Fit]:
    found = fit(table, **{"x": "x", "y": "y", **words})
    assert isinstance(found, list)
    return found


def table_of(y: Any, x: Any = E, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"x": x, "y": y, **columns})


def noisy(law: str = "power", size: float = 0.05, seed: int = 0, **parameters: float) -> pd.DataFrame:
    parameters = parameters or {"scale": 300.0, "exponent": 0.7}
    curve = LAWS[law].value(parameters, E)
    error = size * np.random.default_rng(seed).standard_normal(len(E))
    return table_of(curve * np.exp(error) if LAWS[law].log_residuals else curve + error)


def said(found: Fit, *words: str) -> bool:
    return any(all(word in warning for word in words) for warning in found.warnings)


def test_power_agrees_with_scipy() -> None:
    table = noisy()
    found, line = one(table, law="power"), stats.linregress(np.log(E), np.log(table["y"]))
    half = stats.t.ppf(0.975, 7) * line.stderr
    exponent = found.parameters["exponent"]
    assert (exponent.value, exponent.low, exponent.high) == pytest.approx(
        (-line.slope, -line.slope - half, -line.slope + half)
    )
    assert found.parameters["scale"].value == pytest.approx(math.exp(line.intercept))
    assert found.r2 == pytest.approx(line.rvalue**2)
    assert (found.n, found.group, found.optimum, found.warnings) == (9, None, None, ())


@pytest.mark.parametrize("law", ["power", "semilog"])
def test_aicc_is_the_likelihoods_of_y_itself(law: str) -> None:
    table = noisy()
    found = one(table, law=law)
    log_scale = LAWS[law].log_residuals
    residual, k = found.residuals["residual"].to_numpy(), len(found.parameters) + 1
    sigma = math.sqrt(np.mean(residual**2))
    value = found.predict(E)["value"].to_numpy()
    density = stats.lognorm(s=sigma, scale=value) if log_scale else stats.norm(value, sigma)
    likelihood = density.logpdf(table["y"]).sum()
    assert found.aicc == pytest.approx(-2 * likelihood + 2 * k + 2 * k * (k + 1) / (9 - k - 1))


def test_hold_out_predicts_the_largest_x_from_the_others() -> None:
    table = pd.concat([noisy(seed=1), noisy(seed=2)])
    line = stats.linregress(*np.log(table[table["x"] < E[-1]].to_numpy().T))
    held = table[table["x"] == E[-1]]
    error = line.intercept + line.slope * np.log(held["x"]) - np.log(held["y"])
    assert one(table, law="power").holdout_rmsle == pytest.approx(math.sqrt(np.mean(error**2)))
    repeated = np.log(table.loc[table["x"] == E[-2], "y"]).mean() - np.log(held["y"])
    assert one(table, law="power").null_rmsle == pytest.approx(math.sqrt(np.mean(repeated**2)))
    few = one(table.head(3), law="quadratic")
    assert (few.holdout_rmsle, few.null_rmsle) == (None, None)
    assert one(table_of(np.log2(E) - 20), law="semilog").holdout_rmsle is None


def test_several_laws_come_best_first() -> None:
    found = many(noisy("power_floor", floor=2.0, scale=900.0, exponent=0.7, size=0.02))
    assert found[0].law == "power_floor"
    assert {one.law for one in found} == {name for name, law in LAWS.items() if len(law.parameters) <= len(E)}
    known = [one.aicc for one in found if one.aicc is not None]
    assert known == sorted(known)
    assert [one.aicc for one in found[: len(known)]] == known
    odds = np.exp((known[0] - np.array(known)) / 2)
    np.testing.assert_allclose([one.aicc_weight for one in found[: len(known)]], odds / odds.sum())
    assert all(one.aicc_weight is None for one in found[len(known) :])
    assert one(noisy(), law="power").aicc_weight is None
    found = many(noisy("semilog", intercept=-20.0, slope=2.0, size=0.3))
    assert {one.law for one in found} == {name for name, law in LAWS.items() if not law.needs_positive_y}


def test_laws_that_lack_points_do_not_apply() -> None:
    assert {one.law for one in many(noisy().head(2))} == {"power", "semilog"}


def test_json_has_exactly_the_promised_keys() -> None:
    content = one(noisy("quadratic", intercept=90.0, slope=-14.0, curvature=0.6, size=0.3), law="quadratic").to_json()
    assert list(content) == ["law", "x", "y", "group", "n", "parameters", "interval", "r2", "aicc", "aicc_weight",
                             "holdout_rmsle", "null_rmsle", "optimum", "warnings"]  # fmt: skip
    assert content["x"] == ["x"]
    assert list(content["parameters"]) == ["intercept", "slope", "curvature"]
    assert all(list(parameter) == ["value", "low", "high"] for parameter in content["parameters"].values())
    assert list(content["optimum"]) == ["x", "low", "high", "y", "kind"]
    json.dumps(content, allow_nan=False)


def test_json_of_a_fit_without_intervals_holds_no_nan() -> None:
    content = one(noisy().head(2), law="power").to_json()
    assert content["parameters"]["exponent"]["low"] is None
    assert content["aicc"] is None
    json.dumps(content, allow_nan=False)


def test_the_optimum_is_where_the_parabola_turns() -> None:
    found = one(noisy("quadratic", intercept=90.0, slope=-14.0, curvature=0.6, size=0.3), law="quadratic").optimum
    assert found is not None
    assert found["kind"] == "minimum"
    assert found["low"] < 2 ** (14 / 1.2) < found["high"]
    assert found["y"] == pytest.approx(90 - 14**2 / 2.4, abs=0.5)
    table = noisy("quadratic", intercept=-90.0, slope=14.0, curvature=-0.6, size=0.3)
    most = one(table, law="quadratic").optimum
    assert most is not None
    assert most["kind"] == "maximum"
    assert one(table[table["x"] < 2**11], law="quadratic").optimum is None
    straight = one(noisy("semilog", intercept=1.0, slope=0.02, size=0.5), law="quadratic")
    assert straight.optimum is None
    assert said(straight, "the curve turns at x = ", "not certain")


def test_a_turn_beyond_the_sizes_is_no_optimum_and_is_said() -> None:
    z = np.log2(E)
    found = one(table_of((z - z.max() - 3) ** 2 + 0.01 * np.cos(z)), law="quadratic")
    assert found.optimum is None
    assert said(found, "the curve turns at x = ", "outside the sizes measured (256 to 65536)")


def test_seeds_are_averaged_and_counted_once() -> None:
    """Three seeds of each size that agree with one another say no more about the law than one of them."""
    base = noisy(size=0.2)
    seeds = pd.concat([base.assign(seed=seed, rfid=base["y"] + 0.01 * seed) for seed in range(3)])
    found = one(seeds, law="power", y="rfid")
    alone = one(base.assign(rfid=base["y"] + 0.01), law="power", y="rfid")
    assert found.n == 9
    assert said(found, "27 rows averaged over seeds to 9 configurations")
    assert found.parameters["exponent"].low == pytest.approx(alone.parameters["exponent"].low)
    uncounted = one(seeds.drop(columns="seed"), law="power", y="rfid")
    assert uncounted.n == 27
    assert uncounted.parameters["exponent"].low > found.parameters["exponent"].low  # type: ignore[operator]


def test_configurations_of_one_size_are_not_seeds_of_each_other() -> None:
    base = noisy()
    table = pd.concat([base.assign(seed=seed, **{"tokenizer.patch": patch}) for seed in (0, 1) for patch in (8, 16)])
    assert one(table, law="power").n == 18
    assert one(table.assign(decoder="B").drop(columns="tokenizer.patch"), law="power").n == 9


def test_an_outlier_is_named() -> None:
    table = noisy(size=0.02)
    table.loc[8, "y"] *= 3
    found = one(table, law="power")
    assert said(found, "x = 65536", "moves exponent")
    clean = [one(noisy(seed=seed), law="power") for seed in range(60)]
    assert sum(said(found, "moves") for found in clean) <= 12


def test_weak_designs_are_called_out() -> None:
    assert said(one(noisy().head(4), law="power"), "only 4 points for the 2 parameters")
    assert said(one(noisy().head(2), law="power"), "the curve passes through all")
    assert said(one(noisy().head(4), law="power"), "x spans a factor 8, less than a decade")
    assert said(one(noisy(), law="power_floor"), "floor = 0 is not excluded")
    assert said(one(table_of(E**0.5), law="power_floor"), "exponent is at its limit")
    straight = noisy("semilog", intercept=0.1, slope=0.04, size=0.01)
    assert said(one(straight, law="saturating"), "exponent = 0.01 is not excluded", "do not bend enough")
    assert not said(
        one(noisy("saturating", ceiling=0.8, scale=9.0, exponent=0.5, size=0.001), law="saturating"), "excl"
    )
    constant = one(table_of(np.full(9, 3.0)), law="power")
    assert constant.r2 is None
    assert said(constant, "y does not vary")
    assert said(one(table_of([*noisy()["y"][:8], 0.0]), law="power"), "1 row left out: y is zero or negative")


def test_distances_in_different_features_never_share_a_fit() -> None:
    table = noisy().rename(columns={"y": "gfid"}).assign(features=["inception", "dinov2-b", None] * 3, reference="val")
    with pytest.raises(TableError, match=r"(?s)different features.*inception, dinov2-b.*--by features"):
        fit(table, x="x", y="gfid", law="power")
    with pytest.raises(TableError, match="different reference"):
        fit(table.assign(features="a", reference=["val", "train", "val"] * 3), x="gfid", y="x", law="power")
    assert [one.group for one in many(table, y="gfid", by="features", law="power")] == ["dinov2-b", "inception"]
    assert one(table, y="gfid", where="features == 'inception'", law="power").n == 3
    assert not said(one(table.rename(columns={"gfid": "psnr"}), y="psnr", law="power"), "features")


def test_the_same_network_among_others_is_the_same_measure() -> None:
    mixed = noisy().rename(columns={"y": "gfid"}).assign(reference="val")
    mixed = mixed.assign(features=["inception-tf2015", "inception-tf2015+dinov2-b", "random-conv+inception-tf2015"] * 3)
    assert one(mixed, y="gfid", law="power").n == 9
    other = mixed.assign(features=["inception-tf2015", "inception-torchvision+dinov2-b", None] * 3)
    with pytest.raises(TableError, match=r"(?s)different features.*inception-tf2015, inception-torchvision"):
        fit(other, x="x", y="gfid", law="power")


def test_samples_against_another_set_than_reconstructions_never_share_a_fit() -> None:
    table = noisy().rename(columns={"y": "gfid"}).assign(features="a", reference="val", rfid=lambda t: t["gfid"])
    own = table.assign(generation_reference=["train.npz", None, None] * 3)
    with pytest.raises(TableError, match=r"(?s)different generation_reference.*train\.npz, val"):
        fit(own, x="x", y="gfid", law="power")
    assert one(own, y="rfid", law="power").n == 9
    same = table.assign(generation_reference="train.npz", reference=["val", "other", "val"] * 3)
    assert not said(one(same, y="gfid", law="power"), "reference")


def test_samples_at_one_scale_of_guidance_are_kept_apart_as_all_samples_are() -> None:
    table = noisy().rename(columns={"y": "gfid_cfg1.5"}).assign(features=["inception", "dinov2-b", None] * 3)
    with pytest.raises(TableError, match=r"(?s)gfid_cfg1\.5 was measured with different features"):
        fit(table, x="x", y="gfid_cfg1.5", law="power")
    probes = table.assign(features="a", reference="val", **{"probe.kind": ["diffusion", "autoregressive", None] * 3})
    found = one(probes, y="gfid_cfg1.5", law="power")
    assert said(found, "gfid_cfg1.5 is compared across different probe.kind: diffusion, autoregressive")


def test_losses_of_different_vocabularies_are_called_out() -> None:
    table = noisy().rename(columns={"y": "ar_loss"}).assign(codebook_size=[1024, 4096, 1024] * 3)
    assert said(one(table, y="ar_loss", law="power"), "ar_loss", "different codebook_size")
    assert not said(one(table, x="codebook_size", y="ar_loss", law="power"), "different codebook_size")


@pytest.mark.parametrize(
    ("table", "words", "says"),
    [
        (noisy(), {"x": "e"}, "no such column"),
        (noisy(), {"y": "x"}, "named twice"),
        (noisy(), {"by": "x"}, "named twice"),
        (noisy(), {"weights": "w"}, "no such column"),
        (noisy().assign(w=-1.0), {"weights": "w"}, "w is zero or negative"),
        (noisy(), {"by": "kind"}, "no such column"),
        (table_of(np.full(9, np.nan)), {}, "no row can be used"),
        (table_of(["a"] * 9), {}, "holds text"),
        (table_of([1.0, 2.0], [3.0, 3.0]), {}, "needs as many different values"),
        (noisy().head(1), {}, "1 different in 1 usable"),
        (noisy().head(2), {"law": "power_floor"}, "power_floor has 3 parameters"),
        (table_of(-np.ones(9)), {"law": "power"}, "y is zero or negative"),
    ],
)
def test_tables_that_cannot_carry_a_fit(table: pd.DataFrame, words: dict[str, Any], says: str) -> None:
    with pytest.raises(TableError, match=says):
        fit(table, **{"x": "x", "y": "y", "law": "power", **words})
    if words.get("law") is None:
        with pytest.raises(TableError, match=r"no such column|named twice|no row|text|different"):
            fit(table, **{"x": "x", "y": "y", **words})


def test_words_that_are_wrong() -> None:
    with pytest.raises(UsageError, match="did you mean 'power'"):
        fit(noisy(), x="x", y="y", law="powr")
    with pytest.raises(UsageError, match="takes 1 x column"):
        fit(noisy().assign(z=1.0), x=["x", "z"], y="y", law="power")
    with pytest.raises(UsageError, match="between 0 and 1"):
        fit(noisy(), x="x", y="y", law="power", interval=95)
    with pytest.raises(UsageError, match="a number above 0"):
        fit(noisy(), x="x", y="y", law="power", huber=0.0)
    with pytest.raises(UsageError, match="did you mean 'profile'"):
        fit(noisy(), x="x", y="y", law="power", intervals="profil")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no x column"):
        fit(noisy(), x=[], y="y")
    with pytest.raises(ConfigError, match="a call"):
        fit(noisy(), x="x", y="y", where="max(x) > 3")


def test_summary_says_all_that_an_appendix_needs() -> None:
    text = one(noisy("quadratic", intercept=90.0, slope=-14.0, curvature=0.6, size=0.3), law="quadratic").summary()
    for words in ("y = intercept + slope log2 x", "x = x", "least squares on y, n = 9", "95 % intervals by Student's t",
                  "R2", "AICc", "left out", "next size", "minimum"):  # fmt: skip
        assert words in text
    seeds = pd.concat([noisy(seed=seed).assign(seed=seed) for seed in (0, 1)])
    text = one(seeds, law="power", huber=0.01).summary()
    assert "Huber's loss (delta 0.01) on ln y, n = 9 configurations (18 rows)" in text
    assert "profile likelihood" in one(noisy(), law="power_floor").summary()


def test_a_table_with_repeated_index_is_fitted_row_by_row() -> None:
    table = pd.concat([noisy(seed=1), noisy(seed=2)])
    assert one(table, law="power").residuals.shape == (18, 4)
    assert isinstance(one(table, law="power").parameters["scale"], Parameter)
