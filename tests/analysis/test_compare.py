"""Groups side by side: means and Student's intervals of what each group measured, and nothing invented."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from scipy import stats
from typer.testing import CliRunner

from analysis import compare
from analysis.commands import compare_command
from tokscale.errors import TableError, UsageError

TABLE = pd.DataFrame(
    {
        "bottleneck": ["kl", "kl", "kl", "vq", "vq", "fsq", None],
        "seed": [0, 1, 2, 0, 1, 0, 0],
        "psnr": [24.1, 24.5, 24.0, 20.9, 21.4, 21.0, 99.0],
        "rfid": [1.5, 1.6, 1.7, 2.2, np.nan, np.nan, 9.0],
        "ssim": [np.nan] * 7,
        "note": ["a"] * 7,
    }
)


def test_means_and_student_intervals() -> None:
    found = compare(TABLE, by="bottleneck").set_index(["measure", "group"])
    values = TABLE["psnr"][:3]
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert found.loc[("psnr", "kl"), ["n", "mean", "low", "high"]].tolist() == pytest.approx(
        [3, values.mean(), low, high]
    )
    assert found.loc[("rfid", "vq"), "n"] == 1
    assert np.isnan(found.loc[("rfid", "vq"), "low"])


def test_an_absent_measure_is_absent() -> None:
    found = compare(TABLE, by="bottleneck")
    assert set(found["measure"]) == {"psnr", "rfid"}
    assert ("rfid", "fsq") not in set(zip(found["measure"], found["group"], strict=True))
    assert "1 row left out: bottleneck is missing" in found.attrs["warnings"]
    assert "2 rows left out: rfid is missing" in found.attrs["warnings"]


def test_any_named_column_is_compared() -> None:
    found = compare(TABLE, by="bottleneck", y="seed", interval=0.5)
    assert found["mean"].tolist() == [0.0, 1.0, 0.5]
    with pytest.raises(TableError, match="holds text"):
        compare(TABLE, by="bottleneck", y=["note"])
    with pytest.raises(TableError, match="no such column"):
        compare(TABLE, by="bottlenek")
    with pytest.raises(TableError, match="holds no measure"):
        compare(TABLE[["bottleneck", "seed"]], by="bottleneck")
    with pytest.raises(TableError, match="no value"):
        compare(TABLE.assign(empty=None), by="empty")
    with pytest.raises(UsageError, match="level is a share"):
        compare(TABLE, by="bottleneck", interval=95)


def test_distances_in_different_features_are_not_set_side_by_side() -> None:
    table = TABLE.assign(features=["inception"] * 3 + ["dinov2-b"] * 4)
    with pytest.raises(TableError, match="different features"):
        compare(table, by="bottleneck", y="rfid")
    found = compare(table, by="bottleneck")
    assert set(found["measure"]) == {"psnr"}
    assert any("rfid is left out" in warning for warning in found.attrs["warnings"])
    assert set(compare(table, by="features")["measure"]) == {"psnr", "rfid"}


def test_columns_that_are_no_measures_are_left_out_with_a_word() -> None:
    table = TABLE.assign(lpips=["0.1k"] * 7, gis=[True] * 7)
    found = compare(table, by="bottleneck")
    assert set(found["measure"]) == {"psnr", "rfid"}
    warnings = found.attrs["warnings"]
    assert any("lpips is left out: a column holds text" in warning for warning in warnings)
    assert any("gis is left out: a column holds true and false" in warning for warning in warnings)


def test_a_row_copied_into_the_table_is_no_second_run() -> None:
    found = compare(pd.concat([TABLE, TABLE]), by="bottleneck", y="psnr")
    pd.testing.assert_frame_equal(found, compare(TABLE, by="bottleneck", y="psnr"))
    assert "7 rows repeat another row exactly and are left out" in found.attrs["warnings"]


def test_many_groups_stand_below_one_another(tmp_path: Path) -> None:
    pd.DataFrame({"E": 256.0 * 2 ** np.arange(12), "psnr": np.arange(12.0)}).to_csv(tmp_path / "t.csv")
    lines = run(tmp_path / "t.csv", "--by", "E").splitlines()
    assert any("524288" in line and "11 (n 1)" in line for line in lines)


def run(path: Path, *words: str) -> str:
    app = typer.Typer()
    app.command()(compare_command)
    result = CliRunner().invoke(app, [str(path), *words], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_command(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    text = run(tmp_path / "t.csv", "--by", "bottleneck", "--y", "psnr")
    for words in ("PSNR (dB)", "kl", "vq", "24.2 ± 0.66 (n 3)", "21 (n 1)", "warning:"):
        assert words in text
    rows = json.loads(run(tmp_path / "t.csv", "--by", "bottleneck", "--json", "--where", "seed < 1"))
    assert [list(rows[0]), rows[0]["low"]] == [["group", "measure", "n", "mean", "low", "high"], None]
    assert {(row["group"], row["measure"]) for row in rows} >= {("kl", "psnr"), ("vq", "rfid")}
