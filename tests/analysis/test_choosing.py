"""A choice finds the law that made its data, foretells what comes, and says how far it can be trusted."""

from __future__ import annotations

import json
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.averaging import averaged
from analysis.choosing import DEFAULT, Choice, aicc_weights, average, choose
from analysis.fitting import fit
from analysis.laws import LAWS
from tokscale.errors import TableError, UsageError

Array = np.ndarray[Any, np.dtype[np.float64]]
FLOOR = {"floor": 0.3, "scale": 20.0, "exponent": 0.25}


def curve_of(law: str, n: int, noise: float, seed: int = 0, **parameters: float) -> pd.DataFrame:
    x = np.geomspace(1e4, 1e9, n)
    errors = noise * np.random.default_rng(seed).standard_normal(n)
    value = LAWS[law].value(parameters, x)
    return pd.DataFrame({"x": x, "y": value * np.exp(errors) if LAWS[law].log_residuals else value + errors})


def one(table: pd.DataFrame, **words: Any) -> Choice:
    found = choose(table, **{"x": "x", "y": "y", **words})
    assert isinstance(found, Choice)
    return found


@pytest.mark.parametrize(
    ("law", "parameters"),
    [("power_floor", FLOOR), ("saturating", {"ceiling": 0.9, "scale": 5.0, "exponent": 0.25})],
)
def test_a_law_gets_nearly_all_weight_on_its_own_data(law: str, parameters: dict[str, float]) -> None:
    weights = [one(curve_of(law, n, 0.001, **parameters)).weights[law] for n in (8, 400)]
    assert weights[-1] > 0.9
    assert sum(one(curve_of(law, 30, 0.01, **parameters)).weights.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("law", ["power", "semilog"])
def test_a_straight_line_beats_the_null_far_ahead(law: str) -> None:
    parameters = {"power": {"scale": 300.0, "exponent": 0.2}, "semilog": {"intercept": 10.0, "slope": 1.5}}[law]
    table = curve_of(law, 40, 0.005, **parameters)
    found = one(table)
    assert found.holdout_rmsle is not None
    assert found.null_rmsle is not None
    assert found.holdout_rmsle < found.null_rmsle / 3
    truth = LAWS[law].value(parameters, np.array([4e9]))
    error = abs(np.log(found.predict([4e9])["value"] / truth)[0])
    assert error < abs(np.log(table["y"].iloc[-1] / truth)[0]) / 3
    assert not found.warnings


def test_a_bend_is_foretold_better_than_by_any_law_on_the_whole_curve() -> None:
    """A curve that begins flat and ends in a power of x: no law of three parameters holds on all points."""
    x, ahead = np.geomspace(1e4, 1e9, 60), np.array([2e9])
    truth = 0.2 + 5 * (1 + np.append(x, ahead) / 3e6) ** -0.35
    table = pd.DataFrame({"x": x, "y": truth[:-1] * np.exp(0.005 * np.random.default_rng(0).standard_normal(60))})

    def error(predicted: pd.DataFrame) -> float:
        return float(abs(np.log(predicted["value"].to_numpy() / truth[-1]))[0])

    fits: Any = [fit(table, x="x", y="y", law=law) for law in ("power", "power_floor")]
    assert error(one(table).predict(ahead)) < min(error(found.predict(ahead)) for found in fits) / 2


def test_an_average_lies_between_its_fits() -> None:
    table = curve_of("power_floor", 12, 0.05, **FLOOR)
    ahead = np.array([2e9, 1e10])
    fits: Any = [fit(table, x="x", y="y", law=law) for law in ("power", "power_floor", "quadratic")]
    values = np.stack([found.predict(ahead)["value"] for found in fits])
    mean = average(fits, ahead)
    assert (values.min(axis=0) < mean).all()
    assert (mean < values.max(axis=0)).all()
    shares = aicc_weights(fits)
    expected = stats.gmean(values, axis=0, weights=np.array(shares)[:, None] * np.ones(2))
    assert mean == pytest.approx(expected)
    assert sum(share or 0 for share in shares) == pytest.approx(1.0)

    members = averaged([LAWS[law] for law in ("power", "power_floor")], table["x"].to_numpy(), table["y"].to_numpy())
    assert members is not None
    values = np.concatenate([member.at(np.log(ahead))[0] for member in members.members])
    value = members.foretell(np.log(ahead)).value
    assert (values.min(axis=0) <= value).all()
    assert (value <= values.max(axis=0)).all()


def test_an_average_is_continuous_at_the_largest_size() -> None:
    found = one(curve_of("power_floor", 60, 0.02, **FLOOR))
    near = found.predict(1e9 * np.array([1 - 1e-7, 1 + 1e-7]), interval=0.9)
    assert near.iloc[0].to_numpy() == pytest.approx(near.iloc[1].to_numpy(), rel=1e-5)


@pytest.mark.parametrize("n", [8, 30])
def test_intervals_hold_what_comes_where_a_law_is_true(n: int) -> None:
    inside = []
    for seed in range(24):
        table = curve_of("power_floor", n + 1, 0.03, seed, **FLOOR)
        table["x"] = np.append(np.geomspace(1e4, 1e9, n), 2e9)
        random = np.random.default_rng(seed)
        table["y"] = LAWS["power_floor"].value(FLOOR, table["x"]) * np.exp(0.03 * random.standard_normal(n + 1))
        told = one(table.iloc[:-1]).predict([2e9], interval=0.9).iloc[0]
        inside.append(told["low"] <= table["y"].iloc[-1] <= told["high"])
    assert 0.79 <= np.mean(inside) <= 1.0  # three standard errors below .9 would be .72


def test_intervals_hold_what_comes_where_no_law_is_true() -> None:
    """Curves whose slope wanders: errors are as large as the intervals say, in the mean over curves."""
    inside, sizes = [], []
    for seed in range(12):
        random = np.random.default_rng(seed)
        x = np.geomspace(1e4, 1e9, 50)
        slope = -0.15 + np.cumsum(random.normal(0, 0.012, 50))
        y = np.exp(np.cumsum(slope * np.log(x[1] / x[0])) + 0.004 * random.standard_normal(50))
        told = one(pd.DataFrame({"x": x[:43], "y": y[:43]})).predict(x[43:], interval=0.9)
        inside.append(((told["low"] <= y[43:]) & (y[43:] <= told["high"])).mean())
        error, half = np.log(told["value"] / y[43:]), np.log(told["high"] / told["low"]) / 2
        sizes.append(np.sqrt(np.mean((error / half) ** 2)))
    assert np.mean(inside) > 0.85
    assert 0.2 < np.mean(sizes) < 0.8


def test_seeds_of_the_same_table_and_rows_in_any_order_give_the_same() -> None:
    table = curve_of("power_floor", 30, 0.05, **FLOOR)
    first = one(table).predict([3e9], interval=0.9)
    pd.testing.assert_frame_equal(first, one(table).predict([3e9], interval=0.9))
    shuffled = one(table.sample(frac=1, random_state=1)).predict([3e9], interval=0.9)
    assert shuffled.to_numpy() == pytest.approx(first.to_numpy(), rel=1e-6)
    larger = table.assign(x=1000 * table["x"])
    assert one(larger).predict([3e12], interval=0.9).to_numpy() == pytest.approx(first.to_numpy(), rel=1e-4)


def test_many_points_are_gathered_without_harm() -> None:
    table = curve_of("power_floor", 5000, 0.02, **FLOOR)
    truth = LAWS["power_floor"].value(FLOOR, np.array([2e9]))
    assert one(table).predict([2e9])["value"].to_numpy() == pytest.approx(truth, rel=0.02)


def test_a_choice_says_where_it_cannot_be_trusted() -> None:
    table = curve_of("power_floor", 30, 0.05, **FLOOR)
    found = one(table)
    assert found.predict([1.2e9]).attrs["warnings"] == []
    assert any("4 times the largest" in said for said in found.predict([8e9]).attrs["warnings"])
    halted = table.assign(y=LAWS["power"].value({"scale": 9.0, "exponent": 0.4}, np.minimum(table["x"], 1e6)))
    assert any("no better than repeating" in said for said in one(halted, laws=["power"]).warnings)
    late = pd.concat([curve_of("power", 12, 0.001, scale=9.0, exponent=0.4).query("x < 3e8"),
                      pd.DataFrame({"x": [4e8, 1e9], "y": [0.003, 0.003]})])  # fmt: skip
    assert any("disagree" in said for said in one(late).predict([4e9]).attrs["warnings"])


def test_few_points_fall_back_on_one_law() -> None:
    few = one(curve_of("power", 3, 0.0, scale=9.0, exponent=0.4))
    assert few.predict([4e9])["value"].to_numpy() == pytest.approx(9 * 4e9**-0.4)
    assert next(iter(few.weights)) == "power"
    assert few.holdout_rmsle is None


def test_several_columns_take_the_additive_law() -> None:
    a, b = (part.ravel() for part in np.meshgrid(np.geomspace(1e6, 1e8, 6), np.geomspace(1e7, 1e9, 6)))
    y = 0.5 + 40 * a**-0.3 + 90 * b**-0.25
    found = one(pd.DataFrame({"a": a, "b": b, "y": y}), x=["a", "b"])
    assert found.weights == {"additive": 1.0}
    ahead = pd.DataFrame({"a": [4e8], "b": [4e9]})
    assert found.predict(ahead)["value"].to_numpy() == pytest.approx(0.5 + 40 * 4e8**-0.3 + 90 * 4e9**-0.25, rel=1e-4)


def test_measures_that_are_not_positive_are_averaged_as_they_are() -> None:
    table = curve_of("semilog", 20, 0.1, intercept=-20.0, slope=1.0)
    found = one(table)
    assert set(found.weights) <= {"semilog", "saturating", "quadratic"}
    assert found.holdout_rmsle is None
    assert found.predict([2e9])["value"].to_numpy() == pytest.approx(-20 + np.log2([2e9]), abs=0.5)


def test_groups_are_chosen_apart() -> None:
    table = pd.concat([curve_of("power_floor", 12, 0.01, **FLOOR).assign(kind=kind) for kind in ("a", "b")])
    table = pd.concat([table, pd.DataFrame({"x": [1e5], "y": [1.0], "kind": ["c"]})])
    found = choose(table, x="x", y="y", by="kind")
    assert isinstance(found, list)
    assert [choice.group for choice in found] == ["a", "b"]
    assert any("group c" in warning for warning in found[0].warnings)


def test_a_choice_as_text_numbers_and_figure() -> None:
    found = one(curve_of("power_floor", 12, 0.01, **FLOOR))
    assert found.fits[0].law == next(law for law in found.weights if law in LAWS)
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["n"] == 12
    assert set(content["weights"]) == set(found.weights) <= set(DEFAULT)
    assert "power_floor" in found.summary()
    figure, axes = plt.subplots()
    assert found.plot(axes) is axes
    assert axes.lines
    plt.close(figure)


def test_wrong_words_are_refused() -> None:
    table = curve_of("power_floor", 12, 0.01, **FLOOR)
    with pytest.raises(UsageError, match="no such law"):
        one(table, laws=["pwoer"])
    assert one(table, laws="power").weights == {"power": 1.0}
    with pytest.raises(UsageError, match="no law to choose"):
        one(table, laws=[])
    with pytest.raises(UsageError, match="level"):
        one(table, interval=95)
    with pytest.raises(TableError, match="no such column"):
        one(table, y="z")
    with pytest.raises(TableError, match="twice"):
        one(table, y="x")
    with pytest.raises(UsageError, match="not positive"):
        one(table).predict([-1.0])
    with pytest.raises(UsageError, match="no such interval"):
        one(table).predict([1e9], interval=0.9, kind="wide")  # type: ignore[arg-type]
