"""Rows of a fit: what counts as a seed of one configuration, what as a repeat, and which mixtures are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.fitting import Fit, fit

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
