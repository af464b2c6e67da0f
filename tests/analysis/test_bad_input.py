"""Tables as people have them: every column that cannot be used is refused in words, every row left out is counted."""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.choosing import choose
from analysis.comparison import compare
from analysis.fitting import Fit, fit
from analysis.laws import law_named
from analysis.table import load_table, select
from tokscale.errors import TableError, UsageError

E = np.geomspace(256, 65536, 9)
Y = 300 * E**-0.7 * np.exp(0.05 * np.random.default_rng(0).standard_normal(9))


def one(table: pd.DataFrame, **words: Any) -> Fit:
    found = fit(table, **{"x": "x", "y": "y", "law": "power", **words})
    assert isinstance(found, Fit)
    return found


def table_of(y: Any = Y, x: Any = E, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"x": x, "y": y, **columns})


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (math.nan, "y is missing"),
        (None, "y is missing"),
        (pd.NA, "y is missing"),
        (pd.NaT, "y is missing"),
        ("", "y is missing"),
        (" n/a ", "y is missing"),
        ("1.2k", "y is text, as '1.2k'"),
        ("1,024", "y is text, as '1,024'"),
        ("3 dB", "y is text, as '3 dB'"),
        ("diverged", "y is text, as 'diverged'"),
        ("12_5", "y is text, as '12_5'"),
        (True, "y is text, as 'True'"),
        (1 + 2j, "y is text, as '(1+2j)'"),
        (b"1", "y is text, as \"b'1'\""),
        (datetime.datetime(2026, 1, 1), "y is text, as datetime.datetime(2026"),
        (math.inf, "y is infinite"),
        ("-inf", "y is infinite"),
        (0, "y is zero or negative"),
        (-3.5, "y is zero or negative"),
        ("0", "y is zero or negative"),
        (10**400, "y is out of range"),
        (1e-200, "y is out of range"),
        ("1e150", "y is out of range"),
    ],
)
def test_one_cell_that_is_no_number_leaves_out_its_row_and_says_so(cell: Any, reason: str) -> None:
    found = one(table_of(pd.Series([*Y[:8], cell], dtype=object)))
    assert found.n == 8
    told = [warning for warning in found.warnings if "left out" in warning]
    assert len(told) == 1
    assert told[0].startswith(f"1 row left out: {reason}")


@pytest.mark.parametrize(
    "number", [decimal.Decimal("1.5"), fractions.Fraction(3, 2), "1.5", " 1.5e0 ", np.float32(1.5)]
)
def test_other_ways_to_write_a_number(number: Any) -> None:
    found = one(table_of([*Y[:8], number]))
    assert found.n == 9
    assert found.points.y[8] == 1.5


def test_whole_numbers_beyond_64_bits() -> None:
    found = one(table_of(x=[2**place for place in range(60, 69)]))
    np.testing.assert_array_equal(found.points.x[0], 2.0 ** np.arange(60, 69))


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([True, False] * 4 + [True], "holds true and false"),
        (pd.array([True, None] * 4 + [False], dtype="boolean"), "holds true and false"),
        (pd.date_range("2026-01-01", periods=9), "holds dates"),
        (pd.date_range("2026-01-01", periods=9, tz="UTC"), "holds dates"),
        (pd.period_range("2026-01", periods=9, freq="M"), "holds dates"),
        (pd.to_timedelta(np.arange(9), unit="s"), "holds lengths of time"),
        (np.arange(9) + 1j, "holds complex numbers"),
        (["a"] * 9, "holds text"),
        (["1.2k"] * 9, "rather than '1.2k'"),
        (pd.Categorical(["a", "b", "c"] * 3), "holds text"),
        (pd.Categorical([True, False, True] * 3), "holds true and false"),
        ([[1.0]] * 9, "holds lists"),
        ([{"a": 1}] * 9, "holds lists"),
        ([(1, 2)] * 9, "holds lists"),
    ],
)
@pytest.mark.parametrize("role", ["x", "y", "weights"])
def test_columns_that_are_no_numbers(cells: Any, says: str, role: str) -> None:
    table = table_of(w=1.0)
    name = "w" if role == "weights" else role
    table[name] = cells
    with pytest.raises(TableError, match=says) as caught:
        one(table, weights="w")
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "dtype", ["Int64", "int16", "Float32", "int64[pyarrow]", "double[pyarrow]", "category", object]
)
def test_every_kind_of_number_column(dtype: Any) -> None:
    sizes = pd.Series([256, 512, 1024, 2048, 4096, 8192, 16384, 32767, 300])
    if dtype == "category":
        sizes = sizes.astype(str)
    assert one(table_of(x=sizes.astype(dtype))).n == 9


def test_missing_values_of_nullable_columns() -> None:
    for dtype in ("Int64", "double[pyarrow]", "string"):
        column = pd.Series([*map(str, range(1, 9)), None], dtype="string")
        found = one(table_of(x=column.astype(dtype)))
        assert found.warnings[0] == "1 row left out: x is missing"
        assert found.n == 8


def test_each_row_is_counted_once_by_its_first_fault() -> None:
    table = table_of([*Y[:5], math.nan, "text", "text", math.inf], x=[*E[:5], -1.0, 0.0, 7.0, "nan"])
    found = one(table)
    assert found.n == 5
    assert [warning for warning in found.warnings if "left out" in warning] == [
        "1 row left out: x is missing",
        "2 rows left out: x is zero or negative",
        "1 row left out: y is text, as 'text'",
    ]


def test_negative_measures_choose_laws_of_plain_residuals_and_lose_no_row() -> None:
    found = fit(table_of(np.log2(E) - 12.0), x="x", y="y")
    assert isinstance(found, list)
    assert {one.law for one in found} == {"semilog", "saturating", "quadratic"}
    assert all(one.n == 9 for one in found)


def test_repeated_rows_count_once() -> None:
    found = one(pd.concat([table_of(), table_of(), table_of()]))
    assert found.n == 9
    assert "18 rows repeat another row exactly and are left out" in found.warnings


def test_rows_of_lists_are_compared_too() -> None:
    table = table_of(tags=[["a"]] * 9)
    assert one(pd.concat([table, table])).n == 9


def test_sizes_that_do_not_vary() -> None:
    with pytest.raises(TableError, match=r"(?s)needs as many different values of x.*1 different in 9"):
        one(table_of(x=512.0))
    with pytest.raises(TableError, match="hardly varies"):
        one(table_of(x=512 + 1e-6 * np.arange(9)))
    with pytest.raises(TableError, match=r"1 different in 9|hardly vary"):
        fit(table_of(x=512.0), x="x", y="y")
    with pytest.raises(TableError, match="hardly vary"):
        fit(table_of(z=5.0), x=["x", "z"], y="y")


def test_measures_that_do_not_vary() -> None:
    found = one(table_of(np.full(9, 3.0)))
    assert found.r2 is None
    assert "y does not vary" in found.warnings
    assert found.parameters["exponent"].value == pytest.approx(0, abs=1e-12)


def test_one_group_alone() -> None:
    found = fit(table_of(kind="a"), x="x", y="y", law="power", by="kind")
    assert isinstance(found, list)
    assert [one.group for one in found] == ["a"]
    with pytest.raises(TableError, match="no value"):
        fit(table_of(kind=None), x="x", y="y", law="power", by="kind")


def test_groups_that_cannot_be_told_apart_by_sorting() -> None:
    table = pd.concat([table_of(kind=kind) for kind in ("a", 1, 2.5)])
    found = fit(table, x="x", y="y", law="power", by="kind")
    assert isinstance(found, list)
    assert len(found) == 3


def test_tables_without_rows_or_columns() -> None:
    with pytest.raises(TableError, match="no row can be used"):
        one(table_of().head(0))
    with pytest.raises(TableError, match="no such column"):
        one(pd.DataFrame())
    with pytest.raises(TableError, match="is no table"):
        fit({"x": [1], "y": [2]}, x="x", y="y")  # type: ignore[arg-type]


def test_two_columns_of_one_name() -> None:
    table = pd.concat([table_of(), table_of()[["x"]]], axis=1)
    with pytest.raises(TableError, match="several columns have one name"):
        one(table)


def test_column_names_that_are_no_text() -> None:
    found = fit(pd.DataFrame({0: E, 1: Y}), x=0, y=1, law="power")  # type: ignore[arg-type]
    assert isinstance(found, Fit)
    with pytest.raises(TableError, match="no such column"):
        fit(pd.DataFrame({0: E, 1: Y}), x="0", y="1", law="power")


@pytest.mark.parametrize(
    "words",
    [{"law": ["power"]}, {"law": 3}, {"by": ["x"]}, {"x": {"x"}}, {"x": E}, {"y": ["y"]}, {"y": None}, {"where": 3},
     {"weights": np.ones(9)}, {"huber": "a"}, {"interval": "0.9"}, {"interval": None}, {"intervals": ["profile"]}],
    ids=str,
)  # fmt: skip
def test_arguments_of_the_wrong_kind_are_one_message(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        one(table_of(), **words)


@pytest.mark.parametrize(
    "call",
    [lambda: one(table_of()).predict("a"), lambda: one(table_of()).predict([[1, 2], [3]]),  # type: ignore[list-item]
     lambda: one(table_of()).predict(pd.DataFrame({"x": ["a"]})), lambda: one(table_of()).predict([4.0], "0.9"),  # type: ignore[arg-type]
     lambda: choose(table_of(), x="x", y="y", laws=3), lambda: choose(None, x="x", y="y"),  # type: ignore[arg-type]
     lambda: choose(table_of(), x="x", y=["y"]), lambda: choose(table_of(), x="x", y="y").predict([[1, 2], [3, 4]]),  # type: ignore[arg-type]
     lambda: compare(table_of(), by=["x"]), lambda: compare([1, 2], by="x"), lambda: load_table(table_of()),  # type: ignore[arg-type]
     lambda: select(table_of(), 3), lambda: law_named("power", "a"), lambda: law_named("additive", 0)],  # type: ignore[arg-type]
)  # fmt: skip
def test_other_functions_refuse_them_too(call: Any) -> None:
    with pytest.raises(UsageError):
        call()


@pytest.mark.parametrize("huber", [math.nan, math.inf, -1.0, 0.0])
def test_thresholds_that_are_none(huber: float) -> None:
    with pytest.raises(UsageError, match="Huber's threshold"):
        one(table_of(), huber=huber)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.5, math.nan])
def test_levels_that_are_none(level: float) -> None:
    with pytest.raises(UsageError, match="level is a share"):
        one(table_of(), interval=level)


def test_a_table_is_left_as_it_was() -> None:
    table = table_of([*Y[:8], "x"], seed=[0, 1, 2] * 3, w=2.0)
    before = table.copy(deep=True)
    one(table, weights="w")
    pd.testing.assert_frame_equal(table, before)
