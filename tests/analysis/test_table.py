"""Tables are read by their ending, rows are chosen by condition, and no row is left out silently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.table import load_table, numeric_points, select
from tokscale.errors import ConfigError, TableError

TABLE = pd.DataFrame({"E": [256, 512, 1024], "rfid": [44.8, 24.9, 9.3], "dataset": ["a", "b", "a"]})


def test_all_formats_hold_the_same_table(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    TABLE.to_parquet(tmp_path / "t.parquet")
    TABLE.to_json(tmp_path / "rows.json", orient="records")
    TABLE.to_json(tmp_path / "columns.JSON", orient="columns")
    for name in ("t.csv", "t.parquet", "rows.json", "columns.JSON"):
        table = load_table(tmp_path / name)
        assert table.to_dict("list") == TABLE.to_dict("list")


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\ufeffE,y\n1,2\n", encoding="utf-8")
    assert list(load_table(tmp_path / "t.csv").columns) == ["E", "y"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.csv", None, "No such file"),
        ("t.xlsx", b"", "did you mean|one of: .csv, .parquet, .json"),
        ("t", b"", "ending says nothing"),
        ("empty.csv", b"", "cannot read a table as csv"),
        ("header.csv", b"E,rfid\n", "no rows"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", "cannot read a table as csv"),
        ("surplus.csv", b"a,b\n1,2,3\n4,5,6\n", "more cells than its header"),
        ("twice.csv", b"a,b,b\n1,2,3\n", "two columns have the name 'b'"),
        ("twice.json", b'[{"a": 1, "a": 2}]', "two columns have the name 'a'"),
        ("semicolons.csv", b"a;b\n1,5;2\n", "separated by ';'"),
        ("tabs.csv", b"a\tb\n1\t2\n", "separated by tabs"),
        ("latin.csv", b"a\n\xff\xfe\xe9\n", "cannot read a table as csv"),
        ("t.parquet", b"not parquet", "cannot read a table as parquet"),
        ("t.json", b"{", "cannot read a table as json"),
        ("number.json", b"3", "a int is no table"),
        ("rows.json", b"[]", "no rows"),
    ],
)
def test_unusable_files_are_table_errors(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=says):
        load_table(tmp_path / name)


def test_two_columns_of_one_name_are_refused_in_parquet_too(tmp_path: Path) -> None:
    twice = pa.table([[1, 2], [3, 4]], names=["a", "a"])
    pq.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(TableError, match="two columns have the name 'a'"):
        load_table(tmp_path / "t.parquet")


def test_columns_without_names_are_no_repeats(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",E,\n0,1,2\n1,3,4\n")
    assert load_table(tmp_path / "t.csv")["E"].tolist() == [1, 3]


def test_a_folder_is_not_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(TableError, match="cannot open"):
        load_table(tmp_path / "t.csv")


def test_select_keeps_the_rows_of_which_the_condition_is_true() -> None:
    assert list(select(TABLE, "dataset == 'a' and E >= 1024").index) == [2]
    assert select(TABLE, None) is TABLE
    dotted = pd.DataFrame({"tokenizer.patch": [8, 16], "gFID_cfg1.5": [3.0, None]})
    assert list(select(dotted, "tokenizer.patch > 8").index) == [1]
    assert list(select(dotted, "`gFID_cfg1.5` != None").index) == [0]


def test_select_says_what_is_wrong() -> None:
    with pytest.raises(TableError, match="did you mean 'dataset'"):
        select(TABLE, "datase == 'a'")
    with pytest.raises(TableError, match="dataset is 'a', 'b'"):
        select(TABLE, "dataset == 'c'")
    with pytest.raises(TableError, match="E is 256, 512, 1024"):
        select(TABLE, "E > 5000 and dataset == 'a'")
    with pytest.raises(ConfigError, match="neither true nor false"):
        select(TABLE, "E + 1")
    with pytest.raises(TableError, match="no row"):
        select(TABLE, "1 > 2")


def test_rows_left_out_are_counted_once_and_by_reason() -> None:
    table = pd.DataFrame(
        {
            "x": ["1", "2", "three", None, "5", "6", "0", "-8", "9", " nan "],
            "y": [1.0, np.inf, 3.0, 4.0, np.nan, -6.0, 7.0, 8.0, 9.0, 10.0],
        },
        index=np.arange(100, 110),
    )
    points = numeric_points(table, ["x"], "y", positive=["x", "y"])
    assert points.x.tolist() == [[1.0, 9.0]]
    assert points.y.tolist() == [1.0, 9.0]
    assert points.rows.tolist() == [100, 108]
    assert points.warnings == (
        "2 rows left out: x is missing",
        "1 row left out: x is text, as 'three'",
        "2 rows left out: x is zero or negative",
        "1 row left out: y is missing",
        "1 row left out: y is infinite",
        "1 row left out: y is zero or negative",
    )


def test_negative_measures_stay_where_no_logarithm_is_taken() -> None:
    points = numeric_points(pd.DataFrame({"x": [1, 2], "y": [-1, 0]}), ["x"], "y", positive=["x"])
    assert (points.y.tolist(), points.warnings) == ([-1.0, 0.0], ())


@pytest.mark.parametrize("dtype", ["Int64", "Float32", "int8", "object", "string"])
def test_every_kind_of_number_column(dtype: str) -> None:
    table = pd.DataFrame({"x": pd.Series([1, 2, 3], dtype=dtype), "y": [1.0, 2.0, 3.0]})
    assert numeric_points(table, ["x"], "y").x.tolist() == [[1.0, 2.0, 3.0]]


def test_columns_without_numbers() -> None:
    with pytest.raises(TableError, match=r"(?s)holds text.*dataset = 'a'"):
        numeric_points(TABLE, ["E"], "dataset")
    with pytest.raises(TableError, match=r"(?s)no row can be used.*y is missing"):
        numeric_points(pd.DataFrame({"x": [1, 2], "y": [np.nan, np.nan]}), ["x"], "y")
    with pytest.raises(TableError, match="did you mean 'rfid'"):
        numeric_points(TABLE, ["E"], "rFID")


def test_columns_of_lists() -> None:
    table = pd.DataFrame({"x": [[1], [2]], "y": [1.0, 2.0]})
    with pytest.raises(TableError, match=r"(?s)holds lists.*x = \[1\]"):
        numeric_points(table, ["x"], "y")
    with pytest.raises(TableError, match="holds lists"):
        select(table, "x == 1")
