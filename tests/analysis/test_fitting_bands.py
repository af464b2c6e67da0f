"""Intervals of parameters and curves are those of the formulas for lines, at every level."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import LAWS
from analysis.fitting import Fit, fit
from tokscale.errors import TableError, UsageError

E = np.geomspace(256, 65536, 9)


def one(table: pd.DataFrame, **words: Any) -> Fit:
    found = fit(table, **{"x": "x", "y": "y", **words})
    assert isinstance(found, Fit)
    return found


def noisy(law: str = "power", size: float = 0.05, seed: int = 0, **parameters: float) -> pd.DataFrame:
    parameters = parameters or {"scale": 300.0, "exponent": 0.7}
    curve = LAWS[law].value(parameters, E)
    error = size * np.random.default_rng(seed).standard_normal(len(E))
    return pd.DataFrame({"x": E, "y": curve * np.exp(error) if LAWS[law].log_residuals else curve + error})


def test_intervals_of_any_level_are_the_formulas_of_a_line() -> None:
    table = noisy()
    found, line = one(table, law="power"), stats.linregress(np.log(E), np.log(table["y"]))
    for level in (0.5, 0.95, 0.99):
        half = stats.t.ppf(0.5 + level / 2, 7) * line.stderr
        assert found.interval("exponent", level) == pytest.approx((-line.slope - half, -line.slope + half))
        half = stats.t.ppf(0.5 + level / 2, 7) * line.intercept_stderr
        ends = (math.exp(line.intercept - half), math.exp(line.intercept + half))
        assert found.interval(level=level)["scale"] == pytest.approx(ends)
    assert found.interval() == {name: (p.low, p.high) for name, p in found.parameters.items()}
    with pytest.raises(UsageError, match="did you mean 'exponent'"):
        found.interval("exponnt")
    with pytest.raises(UsageError, match="between 0 and 1"):
        found.interval("exponent", 95)


def test_confidence_of_the_curve_is_the_formula_of_a_line() -> None:
    """s t sqrt(1 / n + (z - mean)^2 / Szz) around the line, in ln y (Draper and Smith 1998, ch. 3)."""
    table = noisy()
    found, z, line = one(table, law="power"), np.log(E), stats.linregress(np.log(E), np.log(table["y"]))
    at = np.array([100.0, 5000.0, 1e6])
    deviation = math.sqrt(((np.log(table["y"]) - line.intercept - line.slope * z) ** 2).sum() / 7)
    spread = np.sqrt(1 / 9 + (np.log(at) - z.mean()) ** 2 / ((z - z.mean()) ** 2).sum())
    half = stats.t.ppf(0.95, 7) * deviation * spread
    band = found.predict(at, 0.9, kind="confidence")
    middle = line.intercept + line.slope * np.log(at)
    expected = np.stack([middle, middle - half, middle + half], axis=1)
    np.testing.assert_allclose(np.log(band[["value", "low", "high"]]), expected)


def test_predictions_hold_the_curve_and_widen_for_new_points() -> None:
    found = one(noisy("power_floor", floor=2.0, scale=900.0, exponent=0.7), law="power_floor")
    bare, band, point = (found.predict(E), found.predict(E, 0.95, kind="confidence"), found.predict(E, 0.95))
    assert list(bare.columns) == ["value"]
    assert list(band.columns) == ["value", "low", "high"]
    assert (band["low"] < band["value"]).all()
    assert (band["value"] < band["high"]).all()
    assert ((point["high"] > band["high"]) & (point["low"] < band["low"])).all()
    narrow = found.predict(E, 0.5, kind="confidence")
    assert (narrow["high"] < band["high"]).all()
    pd.testing.assert_frame_equal(found.predict(pd.DataFrame({"other": 1.0, "x": E}), 0.95), point)
    with pytest.raises(UsageError, match="no such interval of a curve"):
        found.predict(E, 0.95, kind="tolerance")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not positive"):
        found.predict([0.0, 1.0])
    with pytest.raises(UsageError, match="not positive"):
        found.predict([math.nan])
    with pytest.raises(UsageError, match="another number of columns"):
        found.predict([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(TableError, match="no such column"):
        found.predict(pd.DataFrame({"e": E}))
    with pytest.raises(UsageError, match="level"):
        found.predict(E, interval=95)


def test_bootstrap_intervals_are_near_the_exact_ones_of_a_line() -> None:
    table = noisy(seed=3)
    exact, drawn = one(table, law="power"), one(table, law="power", intervals="bootstrap")
    assert drawn.parameters["exponent"].value == exact.parameters["exponent"].value
    for level in (0.8, 0.95):
        for name in ("scale", "exponent"):
            width = np.diff(np.array(exact.interval(name, level), dtype=float))
            assert np.diff(np.array(drawn.interval(name, level), dtype=float)) == pytest.approx(width, rel=0.25)
    assert "bootstrap" in drawn.summary()
    narrow, wide = (found.predict(E, 0.9, kind="confidence") for found in (drawn, exact))
    np.testing.assert_allclose(np.log(narrow["high"] / narrow["low"]), np.log(wide["high"] / wide["low"]), rtol=0.25)


def test_the_same_table_gives_the_same_bootstrap() -> None:
    first, second = (one(noisy(), law="power_floor", intervals="bootstrap") for _ in range(2))
    assert first.parameters == second.parameters
    assert first.interval("exponent", 0.5) == second.interval("exponent", 0.5)


def test_rows_of_one_run_are_resampled_together() -> None:
    """Nine checkpoints of three runs that lie apart tell less of the exponent than nine runs would."""
    table = noisy(size=0.01, seed=1).assign(trial=["a", "b", "c"] * 3)
    table["y"] *= table["trial"].map({"a": 1.3, "b": 1.0, "c": 0.8})
    together = one(table, law="power", intervals="bootstrap")
    assert together.draws is not None
    assert (together.draws.kind, together.draws.freedom) == ("pairs", 1)
    apart = one(table.drop(columns="trial"), law="power", intervals="bootstrap")
    assert apart.draws is not None
    assert apart.draws.freedom == 7


def test_the_interval_of_predictions_holds_errors_of_the_laws_form() -> None:
    """A floor that a power law does not know shows only beyond the points; within them nothing is added."""
    table = pd.DataFrame({"x": E, "y": (3 + 900 * E**-0.7) * np.exp(0.002 * np.cos(np.arange(9.0)))})
    found = one(table, law="power")
    assert found.form_error.rate > 0
    at = np.array([float(E[-1]), 1e6])
    inside, beyond = np.log(found.predict(at, 0.9)["high"] / found.predict(at)["value"])
    plain_inside, plain_beyond = np.log(one(table, law="power_floor").predict(at, 0.9)["high"] /
                                        one(table, law="power_floor").predict(at)["value"])  # fmt: skip
    assert beyond > 1.2 * inside
    assert plain_beyond < beyond
    assert plain_inside < inside
