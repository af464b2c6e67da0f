"""Fits in sentences: each only where its numbers carry it, with its interval and its number of points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.figures.series import share
from analysis.fitting import Fit, Optimum, Parameter
from analysis.report.questions import CONTINUOUS, DISCRETE, Answer
from analysis.style import axis_label, is_frechet, plain
from tokscale.record import COLUMNS

SIZE = {"bottleneck_floats": "E", "bottleneck_bits": "the bottleneck's bits"}
FEW = 5
NBSP = "\N{NO-BREAK SPACE}"


def trends(table: pd.DataFrame, answers: Sequence[Answer]) -> list[tuple[str, str]]:
    """What a doubling of the bottleneck does to each measure, a heading and a sentence each; fitted ones only."""
    found = [
        _trend(table, answers, "psnr", CONTINUOUS, "Bottleneck size"),
        _trend(table, answers, "psnr", DISCRETE, "Discrete bottlenecks"),
        _trend(table, answers, "ar_bits_per_image", CONTINUOUS, "What it costs to model"),
        _first(_trend(table, answers, y, CONTINUOUS, "Fréchet distance") for y in ("rfid", "rfd", "rfdd")),
    ]
    return [one for one in found if one is not None]


def _first(candidates: Iterable[tuple[str, str] | None]) -> tuple[str, str] | None:
    return next((one for one in candidates if one is not None), None)


def per_doubling(fit: Fit) -> tuple[float, float, float] | None:
    """What a doubling of x does to y, with its interval: a difference for ``semilog``, a factor less 1 for ``power``.

    None for laws in which that depends on where one stands. Limits that the points do not set are infinite.
    """
    if fit.law == "semilog":
        return ends(fit.parameters["slope"])
    if fit.law == "power":
        value, low, high = ends(fit.parameters["exponent"])
        return 2.0**-value - 1, 2.0**-high - 1, 2.0**-low - 1
    return None


def ends(parameter: Parameter) -> tuple[float, float, float]:
    """Value, low and high of a parameter as numbers."""
    low = -math.inf if parameter.low is None else parameter.low
    return parameter.value, low, math.inf if parameter.high is None else parameter.high


def bracket(value: float, low: float, high: float, unit: str = "") -> str:
    """A value with its unit and interval in one form, ``2.01 dB [1.86, 2.15]``: digits enough to tell the ends apart.

    An interval that the points do not set is said to be none.
    """
    width = high - low
    unit = f"{NBSP}{unit}" if unit else ""
    if not math.isfinite(width):
        return f"{plain(value)}{unit} [no interval]"
    if value and width > 0 and _magnitude(width) - _magnitude(value) > 2:
        # No number of decimals serves ends that lie thousands of values apart.
        return f"{plain(value, 2)}{unit} [{plain(low, 2)}, {plain(high, 2)}]"
    digits = 1 - _magnitude(width) if width > 0 else 3
    if value:
        # Two significant digits at least, so that nothing reads as zero that is not; four at most.
        digits = min(max(digits, 1 - _magnitude(value)), 3 - _magnitude(value), digits + 2)
    digits = max(0, digits)
    shown = [f"{number:.{digits}f}".replace("-", "\N{MINUS SIGN}") for number in (value, low, high)]
    return f"{shown[0]}{unit} [{shown[1]}, {shown[2]}]"


def _magnitude(number: float) -> int:
    return math.floor(math.log10(abs(number)))


def _trend(table: pd.DataFrame, answers: Sequence[Answer], y: str, kind: str, heading: str) -> tuple[str, str] | None:
    """What a doubling of the bottleneck does to y, group by group."""
    answer = next((a for a in answers if (a.question.y, a.question.kind) == (y, kind)), None)
    if answer is None or not answer.fits:
        return None
    clauses = [_clause(label, fit) for label, fit in answer.fits]
    # "rises by a, by b; shows no resolved trend: c": a verb is said once for neighbours that share it.
    said = [f"{verb} {rest}" if i == 0 or clauses[i - 1][0] != verb else rest for i, (verb, rest) in enumerate(clauses)]
    return heading, f"For each doubling of {SIZE[answer.question.x]}, {name(y, table)} {'; '.join(said)}."


def _clause(label: str, fit: Fit) -> tuple[str, str]:
    """A verb, and by how much, with the evidence."""
    change = per_doubling(fit)
    assert change is not None, f"{fit.law} has no change per doubling"
    relative = fit.law == "power"
    unit = "%" if relative else {"psnr": "dB"}.get(fit.y, "")
    value, low, high = (100 * c if relative else c for c in change)
    if fit.task.freedom < 2:
        # One degree of freedom makes a t interval so wide and so unsteady that it says nothing.
        steep = f"{plain(abs(value))}{NBSP + unit if unit else ''}"
        evidence = f"n{NBSP}={NBSP}{fit.n}, too few points for an interval"
        return (
            "rises by" if value > 0 else "falls by",
            f"{steep} ({label}; {evidence})" if label else f"{steep} ({evidence})",
        )
    evidence = f"{r_squared(fit)}n{NBSP}={NBSP}{fit.n}" + (", few points" if fit.n < FEW else "")
    group = f"({label}; {evidence})" if label else f"({evidence})"
    if not (low > 0 or high < 0):
        return "shows no resolved trend:", f"{bracket(value, low, high, unit)} {group}"
    size = (value, low, high) if value > 0 else (-value, -high, -low)
    return "rises by" if value > 0 else "falls by", f"{bracket(*size, unit)} {group}"


def name(column: str, table: pd.DataFrame) -> str:
    """A measure in a sentence: its label without the unit; a Fréchet distance with its features."""
    return axis_label(column, table) if is_frechet(column) else COLUMNS[column].label


def count(number: float) -> str:
    """A large number for people: 43.3 M, 512 k; plain below ten thousand."""
    if abs(number) < 1e4:
        return f"{number:,.0f}"
    letter, size = next(pair for pair in _LETTERS if abs(number) >= pair[1])
    return f"{plain(number / size)} {letter}"


def parameters(table: pd.DataFrame, part: str, preset: str) -> str:
    """The parameters of a preset for people; "about" and their mean where they differ between its trials."""
    sizes = table.loc[table[part].astype(str) == preset, f"{part}_params"].dropna()
    return f"{'about ' if sizes.nunique() > 1 else ''}{count(sizes.mean())}"


_LETTERS = (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def optimum_text(optimum: Optimum) -> str:
    """Where a curve turns, with its interval."""
    return f"{count(optimum['x'])} [{count(optimum['low'])}, {count(optimum['high'])}]"


def r_squared(fit: Fit) -> str:
    """``R² 0.98, ``, or nothing where it does not exist."""
    return "" if fit.r2 is None else f"R²{NBSP}{share(fit.r2)}, "
