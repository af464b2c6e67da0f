"""Tables of results: reading them, choosing rows, and taking the numbers of columns with an account of the rest."""

from __future__ import annotations

import json
import numbers
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.published_tables import PREFIX, published
from tokscale.errors import ConfigError, TableError, one_of
from tokscale.expressions import compile_expression

Array = npt.NDArray[np.float64]

_RANGE = 1e100
_SHOWN = 40  # characters of a cell in a message
_PLAIN = "plain numbers: 1200 rather than '1.2k' or '1,200'"


def load_table(path: str | Path) -> pd.DataFrame:
    """A table from a csv, parquet or json file, by the file's ending, or a shipped one as ``published:NAME``.

    A json file holds a list of rows or an object of columns. Raises ``TableError`` for a file that is absent, cannot be
    read as what its ending says, or has no row.
    """
    if str(path).startswith(PREFIX):
        return published(str(path).removeprefix(PREFIX))
    if not isinstance(path, (str, os.PathLike)):
        raise TableError("a table is read from a file", given=type(path).__name__, allowed="a file's name")
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise TableError("a table's ending says nothing of its format", given=str(path), allowed=one_of(_READERS))
    try:
        table = reader(path)
    except (OSError, ValueError, TypeError, KeyError) as error:  # parsers of all three formats raise one of these
        what = "cannot open a table" if isinstance(error, OSError) else f"cannot read a table as {path.suffix[1:]}"
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
        raise TableError(
            f"{what}: {reason}", where=str(path), allowed="a csv, parquet or json file with one row a trial"
        ) from error
    if table.empty:
        raise TableError("a table has no rows", where=str(path))
    table.attrs["source"] = str(path)  # for messages about its columns
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    # Read as a row: as a header a second "y" would become "y.1", and a fit would take the first without a word.
    header = pd.read_csv(path, header=None, nrows=1, dtype="string", encoding="utf-8-sig").iloc[0].dropna()
    if len(header) == 1 and (apart := next((mark for mark in (";", "\t") if mark in header.iloc[0]), None)):
        raise ValueError(f"it seems to be separated by {'tabs' if apart != ';' else repr(apart)}, not by commas")
    _refuse_repeats(header)
    # Surplus cells would become names of the rows, and shift all others by a column.
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, index_col=False, low_memory=False, encoding="utf-8-sig")
        except pd.errors.ParserWarning:
            raise ValueError("its rows have more cells than its header has names") from None


def _read_parquet(path: Path) -> pd.DataFrame:
    from pyarrow import parquet  # as heavy as pandas, and only this format needs it

    _refuse_repeats(parquet.read_schema(path).names)
    return pd.read_parquet(path)


def _read_json(path: Path) -> pd.DataFrame:
    content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_object)
    if not isinstance(content, (list, dict)):
        raise ValueError(f"a {type(content).__name__} is no table")
    return pd.DataFrame(content)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _refuse_repeats([name for name, _ in pairs])
    return found


def _refuse_repeats(names: Iterable[str]) -> None:
    """Raise ``ValueError`` if a name comes twice: which of the two columns is meant?"""
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise ValueError(f"two columns have the name {twice!r}")


_READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".json": _read_json,
}


def column_names(given: Any) -> tuple[Any, ...]:
    """One name, or several, as a tuple; a column's name may be a number."""
    return tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)


def column(table: pd.DataFrame, name: str) -> pd.Series:
    """One column of a table.

    ``TableError`` with the columns there are if it has no such one, if two have this name, or if it holds lists.
    """
    if not isinstance(table, pd.DataFrame):
        raise TableError("these rows are no table", given=type(table).__name__, allowed="a pandas.DataFrame")
    if not isinstance(name, Hashable):
        raise TableError("a column is named by one word", given=str(name)[:_SHOWN],
                         allowed="the name of a column of the table, not its values")  # fmt: skip
    if name not in table.columns:
        names = [str(column) for column in table.columns]
        near = next((column for column in names if column.lower() == str(name).lower()), str(name))
        raise TableError(
            "a table has no such column", where=table.attrs.get("source"), given=name, allowed=one_of(names, near)
        )
    values = table[name]
    if values.ndim > 1:
        raise TableError("several columns have one name", where=table.attrs.get("source"), given=name)
    if values.dtype == object:
        nested = next((cell for cell in values if isinstance(cell, (list, tuple, dict, set, np.ndarray))), None)
        if nested is not None:
            raise TableError(
                "a column holds lists, not single values", where=table.attrs.get("source"),
                given=f"{name} = {str(nested)[:80]}", allowed="numbers or text",
            )  # fmt: skip
    return values


def select(table: pd.DataFrame, where: str | None = None) -> pd.DataFrame:
    """The rows of which a condition such as ``"dataset == 'imagenet' and patch >= 16"`` is true.

    Raises ``ConfigError`` for an expression that is none, ``TableError`` for an unknown column or when no row is left.
    """
    if where is None:
        return table
    if not isinstance(where, str):
        raise ConfigError("a condition is a text", given=where, allowed='for example "patch >= 16"')
    expression = compile_expression(where)
    truth = expression.evaluate(lambda name: column(table, name))
    if isinstance(truth, bool):
        truth = pd.Series(truth, index=table.index)
    if str(getattr(truth, "dtype", "")) not in ("bool", "boolean", "bool[pyarrow]"):
        raise ConfigError("a condition is neither true nor false", given=where, allowed="for example patch >= 16")
    chosen = table[truth.fillna(False).to_numpy(dtype=bool)]
    if chosen.empty:
        raise TableError(
            "no row fulfils the condition", where=table.attrs.get("source"), given=where,
            allowed=_values_of(table, expression.names),
        )  # fmt: skip
    return chosen


def _values_of(table: pd.DataFrame, names: frozenset[str]) -> str:
    """What the columns of a condition hold, in one line."""
    parts = []
    for name in sorted(names):
        values = list(pd.unique(table[name].dropna()))
        listed = ", ".join(repr(getattr(value, "item", lambda value=value: value)()) for value in values[:8])
        parts.append(f"{name} is {listed}{', ...' if len(values) > 8 else ''}")
    return "; ".join(parts)


@dataclass(frozen=True)
class Points:
    """The rows of a table that a fit can use: x (k, n), y (n,), their places in the table, and what was left out.

    After averaging over seeds (``analysis.points``) a point is one configuration: ``seeds`` (n,) counts its rows, and
    ``seed_variance`` is the variance of a row about its configuration, pooled over all with ``seed_freedom`` degrees of
    freedom, on the scale of the law's residuals; None without repeated seeds. ``weight`` (n,) holds inverse variances
    up to a common factor, if they were given, and ``runs`` (n,) the number of the run that a point belongs to, where
    several points are checkpoints of one run.
    """

    x: Array
    y: Array
    rows: npt.NDArray[Any]
    warnings: tuple[str, ...]
    seeds: npt.NDArray[np.int64]
    seed_variance: float | None = None
    seed_freedom: int = 0
    weight: Array | None = None
    runs: npt.NDArray[np.int64] | None = None


def numeric_points(
    table: pd.DataFrame, x: Sequence[str], y: str, *, positive: Sequence[str] = (), group: Any = None,
    weight: str | None = None,
) -> Points:  # fmt: skip
    """The numbers of the x and y columns, row by row, where all of them are usable.

    A row is left out, and counted in the warnings, if one of its values is missing, text, infinite, or (in the columns
    named ``positive``, and the ``weight``) not above zero. Raises ``TableError`` if a column holds no number, or if no
    row is left.
    """
    usable = np.ones(len(table), dtype=bool)
    columns, notes = [], []
    for name in (*x, y, *([weight] if weight is not None else [])):
        values, faults = _numbers(column(table, name), name, name in positive or name == weight)
        for fault, rows in faults.items():
            if count := int((rows & usable).sum()):
                notes.append(left_out(count, f"{name} is {fault}"))
            usable &= ~rows
        columns.append(values)
    if not usable.any():
        where = table.attrs.get("source") if group is None else f"group {group}"
        raise TableError(
            "no row can be used", where=where, given="; ".join(notes) or "no rows", allowed="rows with numbers"
        )
    sizes = np.array([values[usable] for values in columns[: len(x)]]).reshape(len(x), usable.sum())
    return Points(
        sizes, columns[len(x)][usable], table.index.to_numpy()[usable], tuple(notes),
        seeds=np.ones(usable.sum(), dtype=np.int64), weight=None if weight is None else columns[-1][usable],
    )  # fmt: skip


def left_out(count: int, reason: str) -> str:
    """The warning about rows that are not used."""
    return f"{count} {'row' if count == 1 else 'rows'} left out: {reason}"


def _numbers(raw: pd.Series, name: str, positive: bool) -> tuple[Array, dict[str, npt.NDArray[np.bool_]]]:
    """A column as float64, and which rows cannot be used, by reason."""
    _check_kind(raw, name)
    missing = raw.isna().to_numpy(dtype=bool)
    if not pd.api.types.is_numeric_dtype(raw):
        blank = raw.astype("string").str.strip().str.lower().isin(["", "nan", "na", "n/a", "none", "null", "-"])
        missing = missing | blank.to_numpy(dtype=bool)
        raw = raw.map(_plain_number) if raw.dtype == object else raw
    values = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    text = np.isnan(values) & ~missing
    example = repr(raw[text].iloc[0])[:_SHOWN] if text.any() else ""
    if text.any() and text.sum() + missing.sum() == len(raw):
        raise TableError("a column holds text, not numbers", given=f"{name} = {example}", allowed=_PLAIN)
    # Squares of numbers beyond these leave the range of floats; no measure comes near them.
    size = np.abs(values)
    faults = {"missing": missing, f"text, as {example}": text, "infinite": np.isinf(values)}
    faults["out of range"] = ((size > _RANGE) | ((size < 1 / _RANGE) & (size > 0))) & np.isfinite(values)
    if positive:
        # NaN compares false: rows that are missing or text are counted above, once.
        faults["zero or negative"] = (values <= 0) & ~np.isinf(values)
    return values, faults


def _check_kind(raw: pd.Series, name: str) -> None:
    """Raise ``TableError`` for kinds of columns that pandas would silently turn into numbers."""
    types = pd.api.types
    kinds = {"true and false": types.is_bool_dtype, "dates": types.is_datetime64_any_dtype,
             "lengths of time": types.is_timedelta64_dtype, "complex numbers": types.is_complex_dtype}  # fmt: skip
    dtype = raw.dtype.categories.dtype if isinstance(raw.dtype, pd.CategoricalDtype) else raw.dtype
    kind = next((words for words, is_one in kinds.items() if is_one(dtype)), None)
    if isinstance(dtype, pd.PeriodDtype):
        kind = "dates"
    if kind is not None:
        example = raw.dropna().iloc[0] if raw.notna().any() else raw.dtype
        raise TableError(f"a column holds {kind}, not numbers", given=f"{name} = {example}", allowed=_PLAIN)


def _plain_number(cell: Any) -> Any:
    """A cell of a mixed column so that ``pandas.to_numeric`` takes it for a number only if it is one."""
    if isinstance(cell, (bool, np.bool_, complex, np.complexfloating, bytes)):
        return str(cell)
    if isinstance(cell, numbers.Rational):  # fractions, and integers of any length
        try:
            return float(cell)
        except OverflowError:
            return sys.float_info.max  # counted as out of range
    return cell
