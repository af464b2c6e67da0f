"""Rows of a fit: what counts as a seed of one configuration, what as a repeat, and which mixtures are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.fitting import Fit, fit
from analysis.points import average_seeds
from analysis.table import numeric_points

NOISE = np.random.default_rng(0)


def foreign(seeds: int = 2) -> pd.DataFrame:
    rows = [
        {"E": 2.0**i, "method": method, "seed": seed, "y": i + offset + 0.1 * NOISE.standard_normal()}
        for i in range(5, 11)
        for method, offset in (("A", 0.0), ("B", 3.0))
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def fitted(table: pd.DataFrame, **words: Any) -> Fit:
    found = fit(table, law="semilog", x="E", y="y", **words)
    assert isinstance(found, Fit)
    return found


@pytest.mark.parametrize("values", [("A", "B"), (True, False), (8, 16), (8.0, 16.0)])
def test_any_chosen_column_of_a_foreign_table_tells_configurations(values: tuple[Any, Any]) -> None:
    table = foreign()
    table["method"] = table["method"].map(dict(zip("AB", values, strict=True)))
    found = fitted(table)
    assert found.n == 12
    assert "24 rows averaged over seeds to 12 configurations" in found.warnings


def test_outcomes_of_a_foreign_table_tell_no_configurations() -> None:
    table = foreign().assign(ssim=lambda t: t["y"] / 20, skipped_files=range(24), wall_seconds=range(24))
    assert fitted(table).n == 12


def test_rows_of_different_methods_with_seeds_of_their_own_are_not_averaged() -> None:
    assert fitted(foreign().query("(method == 'A') == (seed == 0)")).n == 12


def test_a_trial_table_is_told_by_its_identity_and_size_columns() -> None:
    table = foreign().query("method == 'A'").assign(trial=[f"t{i}" for i in range(12)], anything=range(12))
    assert fitted(table).n == 6


def test_a_row_without_a_seed_is_its_own_configuration() -> None:
    table = foreign(seeds=3).query("method == 'A'").assign(seed=lambda t: t["seed"].replace(2, np.nan))
    assert fitted(table).n == 12


def test_exact_repeats_change_nothing_but_a_warning() -> None:
    table = foreign(seeds=1).drop(columns="seed")
    alone, twice = fitted(table), fitted(pd.concat([table, table, table.head(1)]))
    assert (twice.n, twice.parameters) == (alone.n, alone.parameters)
    assert "13 rows repeat another row exactly and are left out" in twice.warnings
    assert "1 row repeats another row exactly and is left out" in fitted(pd.concat([table, table.head(1)])).warnings


def test_features_that_some_rows_do_not_name() -> None:
    table = foreign(seeds=1).assign(rfid=lambda t: t["y"], features=["inception"] * 9 + [None] * 3, reference=None)
    found = fit(table, law="semilog", x="E", y="rfid")
    assert isinstance(found, Fit)
    assert "features is not given for 3 rows" in found.warnings
    assert not any("reference" in warning for warning in found.warnings)


def test_the_scale_of_guidance_that_turned_out_best_tells_no_configurations_apart() -> None:
    """Of several scales each seed has its own best one; of a single scale, it is what was asked for."""
    table = pd.DataFrame({
        "trial": list("abcdef"), "seed": [0, 1, 2] * 2, "bottleneck_floats": [64] * 3 + [128] * 3,
        "gfd": [3.0, 3.1, 2.9, 2.0, 2.1, 1.9], "cfg_scale": [1.5, 3.0, 1.5, 3.0, 1.5, 1.5],
    })  # fmt: skip
    points = numeric_points(table, ("bottleneck_floats",), "gfd")
    searched = table.assign(**{"generation.cfg_scales": "1.5, 3.0"})
    assert len(average_seeds(searched, points, ("bottleneck_floats",), "gfd").y) == 2
    assert len(average_seeds(table, points, ("bottleneck_floats",), "gfd").y) == 4, "no config says what was asked for"
    asked = table.assign(**{"generation.cfg_scale": table["cfg_scale"]})
    assert len(average_seeds(asked, points, ("bottleneck_floats",), "gfd").y) == 4


def test_the_variance_of_seeds_is_pooled_within_configurations() -> None:
    """As SciPy's one-way analysis of variance has it: the mean square within groups."""
    table = foreign(seeds=3).query("not (E == 64 and seed == 2)").assign(y=lambda t: t["y"] + 10)
    within = table.groupby(["E", "method"])["y"]
    freedom = len(table) - within.ngroups
    found = fitted(table).points
    assert found.seed_freedom == freedom == 22
    assert found.seed_variance == pytest.approx(((table["y"] - within.transform("mean")) ** 2).sum() / freedom)
    assert sorted(found.seeds.tolist()) == [2, 2] + [3] * 10
    logarithm = np.log(table["y"])
    spread = logarithm - logarithm.groupby([table["E"], table["method"]]).transform("mean")
    log_law = fit(table, law="power", x="E", y="y")
    assert isinstance(log_law, Fit)
    assert log_law.points.seed_variance == pytest.approx((spread**2).sum() / freedom)


def test_without_repeated_seeds_nothing_is_known_of_their_variance() -> None:
    found = fitted(foreign(seeds=1)).points
    assert (found.seed_variance, found.seed_freedom) == (None, 0)
    assert found.seeds.tolist() == [1] * 12


def test_predictions_of_one_more_run_know_that_it_is_no_mean_of_seeds() -> None:
    """For a line: the curve's variance, and that of a run: s^2 of the means, plus what averaging took of the seeds'.

    Each stands with the t quantile of its own degrees of freedom, that of the sum by Satterthwaite.
    """
    table = foreign(seeds=2).query("method == 'A'").assign(y=lambda t: t["y"] + 0.3 * NOISE.standard_normal(12))
    found = fitted(table)
    assert found.points.seed_variance is not None
    z, y = np.log2(found.points.x[0]), found.points.y
    slope, intercept = np.polyfit(z, y, 1)
    mean_square = ((y - intercept - slope * z) ** 2).sum() / 4
    at = np.array([64.0, 512.0])
    leverage = 1 / 6 + (np.log2(at) - z.mean()) ** 2 / ((z - z.mean()) ** 2).sum()
    lost = found.points.seed_variance / 2
    freedom = (mean_square + lost) ** 2 / (mean_square**2 / 4 + lost**2 / 6)
    squares = stats.t.ppf(0.95, 4) ** 2 * mean_square * leverage
    squares = squares + stats.t.ppf(0.95, freedom) ** 2 * (mean_square + lost)
    band = found.predict(at, 0.9)
    np.testing.assert_allclose((band["high"] - band["low"]) / 2, np.sqrt(squares))


def test_a_seed_that_occurs_twice_shows_a_setting_that_looks_like_a_measure():
    grid = [(x, lr, seed) for x in (1, 2, 4, 8) for lr in (1e-4, 1e-3) for seed in (0, 1)]
    table = pd.DataFrame(grid, columns=["x", "lr", "seed"])
    table["y"] = table["x"] ** -0.5 * np.where(table["lr"] > 5e-4, 1.5, 1.0) * (1 + 0.01 * table["seed"])
    points = average_seeds(table, numeric_points(table, ["x"], "y"), ["x"], "y")
    assert len(points.y) == 8
    assert any("lr" in warning and "twice" in warning for warning in points.warnings)


def test_a_column_that_differs_in_every_row_is_named_when_no_seed_can_be_averaged():
    table = pd.DataFrame({"x": [1, 1, 2, 2], "seed": [0, 1, 0, 1], "host": list("abcd"), "y": [1.0, 1.1, 0.5, 0.6]})
    points = average_seeds(table, numeric_points(table, ["x"], "y"), ["x"], "y")
    assert len(points.y) == 4
    assert any("host" in warning for warning in points.warnings)


def test_a_table_of_very_many_settings_is_grouped_without_a_word() -> None:
    table = foreign()
    settings = pd.DataFrame({f"setting.{number}": table["method"] for number in range(150)})
    assert fitted(pd.concat([table, settings], axis=1)).n == 12
