"""Numbers and columns as a person writes them, for the sentences of answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.questions.answers import Estimate
from tokscale.record import COLUMNS

_LETTERS = (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


_SHORT = {"bottleneck_floats": "E", "bottleneck_bits": "bottleneck bits"}


def label(column: str) -> str:
    """A column's name in a sentence: that of the results table where it is one of its columns."""
    return _SHORT.get(column) or (COLUMNS[column].label if column in COLUMNS else column)


def number(value: float, digits: int = 3) -> str:
    """So many significant digits, no exponent between 0.001 and ten million, a dash for what is not finite."""
    if not math.isfinite(value):
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        shown = f"{value:.{digits}g}"
        return f"{value:.0f}" if "e" in shown else shown
    return f"{value:.{digits - 1}e}"


def count(value: float) -> str:
    """A large number: 43.3 M, 512 k; plain below ten thousand."""
    if not math.isfinite(value) or abs(value) < 1e4:
        return f"{value:,.0f}" if math.isfinite(value) and float(value).is_integer() else number(value)
    letter, size = next(pair for pair in _LETTERS if abs(value) >= pair[1])
    return f"{number(value / size)} {letter}"


def bracket(value: float, low: float | None, high: float | None, unit: str = "") -> str:
    """``2.01 dB [1.86, 2.15]``, with digits enough to tell the ends apart; no bracket where there is no interval."""
    unit = unit if not unit or unit == "%" else f" {unit}"
    if low is None or high is None or not math.isfinite(high - low):
        return f"{number(value)}{unit}"
    width = high - low
    digits = max(0, min(1 - math.floor(math.log10(width)), 12)) if width > 0 else 3
    if abs(value) >= 1e7 or (0 < abs(value) < 1e-6):
        return f"{number(value)}{unit} [{number(low)}, {number(high)}]"
    # Adding zero takes the sign off what is rounded to -0.
    shown = [f"{round(side, digits) + 0.0:.{digits}f}" for side in (value, low, high)]
    return f"{shown[0]}{unit} [{shown[1]}, {shown[2]}]"


def effect(one: Estimate, relative: bool, unit: str = "") -> str:
    """An effect with its interval; one in logarithms as a share in percent."""
    if not relative:
        return bracket(one.value, one.low, one.high, unit)
    value, low, high = (None if side is None else percent(side) for side in (one.value, one.low, one.high))
    assert value is not None
    return bracket(value, low, high, "%")


def percent(log_ratio: float) -> float:
    """A difference of natural logarithms as a change in percent."""
    return 100 * math.expm1(min(log_ratio, 700.0))


def chance(p: float | None, alternative: str = "two-sided") -> str:
    """A p value and which test it is of."""
    if p is None:
        return "no test"
    sides = "two-sided" if alternative == "two-sided" else "one-sided"
    return f"{sides} p < 0.001" if p < 0.001 else f"{sides} p = {p:.2g}"


def of_group(group: Mapping[str, Any] | None) -> str:
    """A group in front of a sentence: ``decoder B, probe_params 111000000: ``, or nothing."""
    named = listed(f"{label(name)} {count(value) if isinstance(value, (int, float)) else value}"
                   for name, value in (group or {}).items())  # fmt: skip
    return f"{named}: " if named else ""


def listed(words: Iterable[str], most: int = 6) -> str:
    """Words in a row with commas; the last of many are counted only."""
    found = list(words)
    return ", ".join(found if len(found) <= most else [*found[: most - 1], f"{len(found) - most + 1} more"])


def plural(amount: int, word: str) -> str:
    """``1 pair``, ``3 pairs``."""
    return f"{amount} {word}{'' if amount == 1 else 's'}"
