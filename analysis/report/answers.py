"""Fits in sentences: each only where its numbers carry it, with its interval and its number of points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.figures.series import NAMES, finite, share
from analysis.fitting import Fit, Optimum, Parameter
from analysis.report.questions import ANY, CONTINUOUS, DISCRETE, Answer, varying
from analysis.style import FRECHET, axis_label, plain
from tokscale.record import COLUMNS

SIZE = {"bottleneck_floats": "E", "bottleneck_bits": "the bottleneck's bits"}
FEW = 5
NBSP = "\N{NO-BREAK SPACE}"
MOST = 6


def sentences(table: pd.DataFrame, answers: Sequence[Answer]) -> list[tuple[str, str]]:
    """Three to six answers, each a heading and a sentence; none where nothing could be fitted."""
    found = [
        _trend(table, answers, "psnr", CONTINUOUS, "Bottleneck size"),
        _decoder(table),
        _trend(table, answers, "psnr", DISCRETE, "Discrete bottlenecks"),
        _trend(table, answers, "ar_bits_per_image", CONTINUOUS, "What it costs to model"),
        _kinds(answers),
        _first(_best_size(table, answers, y) for y in ("gfid", "gfd")),
        _first(_trend(table, answers, y, CONTINUOUS, "Fréchet distance") for y in ("rfid", "rfd")),
    ]
    return [one for one in found if one is not None][:MOST]


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
    return axis_label(column, table) if column in FRECHET else COLUMNS[column].label


def _decoder(table: pd.DataFrame) -> tuple[str, str] | None:
    """The largest decoder against the smallest: the mean of paired differences in PSNR, with its t interval."""
    if not {"decoder", "decoder_params", "psnr"} <= set(table) or table["psnr"].notna().sum() < 4:
        return None
    sizes = table.groupby("decoder")["decoder_params"].mean().dropna().sort_values()
    if len(sizes) < 2 or sizes.iloc[0] == sizes.iloc[-1]:
        return None
    small, large = str(sizes.index[0]), str(sizes.index[-1])
    gains = paired_differences(table, "decoder", small, large, "psnr")
    if len(gains) < 2:
        return None
    value, low, high = mean_interval(gains)
    named = f"decoder {large} ({parameters(table, 'decoder', large)} parameters) instead of "
    named += f"{small} ({parameters(table, 'decoder', small)})"
    pairs = f"mean over {len(gains)} pairs of trials that differ in nothing else" + (
        ", few" if len(gains) < FEW else ""
    )
    if not (low > 0 or high < 0):
        return (
            "Decoder size",
            f"No effect on PSNR is resolved for {named}: {bracket(value, low, high, 'dB')} ({pairs}).",
        )
    size = (value, low, high) if value > 0 else (-value, -high, -low)
    verb = "adds" if value > 0 else "costs"
    return "Decoder size", f"{named[0].upper()}{named[1:]} {verb} {bracket(*size, 'dB')} of PSNR ({pairs})."


def paired_differences(table: pd.DataFrame, column: str, first: str, second: str, y: str) -> np.ndarray:
    """y of the trials with ``second`` less y of those with ``first``, over pairs equal in every other setting."""
    settings = [c for c in table if "." in c and not c.startswith(f"tokenizer.{column}")]
    shown = ("dataset", "encoder", "decoder", "bottleneck", "bottleneck_tokens", "bottleneck_channels", "codebook_size")
    settings += [c for c in (*shown, "seed") if c in table and c != column]
    rows = table[table[y].notna()]
    key = pd.Series([str(values) for values in rows[settings].itertuples(index=False, name=None)], index=rows.index)
    sides = [rows[rows[column].astype(str) == side].groupby(key)[y].mean() for side in (first, second)]
    return np.asarray((sides[1] - sides[0]).dropna(), dtype=float)


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % t interval of independent values."""
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half


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


def _kinds(answers: Sequence[Answer]) -> tuple[str, str] | None:
    """Two bottleneck kinds at equal rate, in the middle of the rates that every curve of both reaches."""
    answer = next((a for a in answers if a.question.kind == ANY), None)
    if answer is None or len(answer.series) != 2:
        return None
    x, y = answer.question.x, answer.question.y
    rows = finite(pd.concat([one.points for one in answer.series]), x, y)
    if varying(rows, ("dataset", "data.resolution")) or "bottleneck" not in rows or rows["bottleneck"].nunique() != 2:
        return None
    pairs = _paired_curves(rows[rows[x] > 0], x, y)
    curves = [curve for pair in pairs for curve in pair]
    low = max((curve[x].iloc[0] for curve in curves), default=0.0)
    high = min((curve[x].iloc[-1] for curve in curves), default=0.0)
    if not low < high:
        return None
    middle = (low + high) / 2
    gains = [np.interp(middle, first[x], first[y]) - np.interp(middle, second[x], second[y]) for first, second in pairs]
    return "Kinds of bottleneck", _at_equal_rate(rows, 2.0**middle, float(np.mean(gains)), len(pairs))


def _paired_curves(rows: pd.DataFrame, x: str, y: str) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """For each encoder, decoder and seed of both kinds their two curves: mean y and log2 x of every bottleneck size."""
    settings = ("encoder", "decoder", "seed")
    of = ["bottleneck_tokens", "bottleneck_channels", "bottleneck_floats", "bottleneck_bits", "codebook_size"]
    rows = rows.assign(**{x: np.log2(rows[x])})
    pairs = []
    for _, group in rows.groupby([c for c in settings if c in rows] or (lambda _: 0), dropna=False):
        curves = []
        for kind in _two_kinds(rows):
            one = group[group["bottleneck"] == kind]
            sizes = [c for c in of if c in one] or [x]
            curves.append(
                one.groupby(sizes, dropna=False)
                .agg(**{x: (x, "mean"), y: (y, "mean")})
                .reset_index(drop=True)
                .sort_values(x)
            )
        if all(curve[x].nunique() > 1 for curve in curves):
            pairs.append((curves[0], curves[1]))
    return pairs


def _two_kinds(rows: pd.DataFrame) -> list[str]:
    return sorted(rows["bottleneck"].dropna().unique())


def _at_equal_rate(rows: pd.DataFrame, rate: float, gain: float, pairs: int) -> str:
    """The difference in words. No interval: the pairs are few, chosen, and share their curves' curvature."""
    names = [NAMES.get(kind, kind) for kind in _two_kinds(rows)]
    better, worse = names if gain > 0 else names[::-1]
    seeds = int(rows["seed"].nunique()) if "seed" in rows else 1
    how = "by interpolation" + (f", mean over {pairs} pairs of equal encoder, decoder and seed" if pairs > 1 else "")
    seeded = "one seed" if seeds < 2 else f"{seeds} seeds"
    return (
        f"At equal rate ({rate:,.0f} bits per image under the AR probe, the middle of what both kinds reach), {better} "
        f"scores {plain(abs(gain), 2)}{NBSP}dB PSNR more than {worse} ({how}; {seeded}, no interval)."
    )


def _best_size(table: pd.DataFrame, answers: Sequence[Answer], y: str) -> tuple[str, str] | None:
    """The bottleneck size at which generation is best, where the curve turns for certain between measured sizes."""
    answer = next((a for a in answers if (a.question.y, a.question.kind) == (y, CONTINUOUS)), None)
    clauses = []
    for label, fit in answer.fits if answer is not None else []:
        group = f"{label}; n = {fit.n}" if label else f"n = {fit.n}"
        if fit.optimum is not None and fit.optimum["kind"] == "minimum":
            clauses.append(f"is lowest at E = {optimum_text(fit.optimum)} ({group})")
        else:
            clauses.append(f"shows no resolved best size ({group})")
    return ("Best size for generation", f"{name(y, table)} {'; '.join(clauses)}.") if clauses else None


def optimum_text(optimum: Optimum) -> str:
    """Where a curve turns, with its interval."""
    return f"{count(optimum['x'])} [{count(optimum['low'])}, {count(optimum['high'])}]"


def r_squared(fit: Fit) -> str:
    """``R² 0.98, ``, or nothing where it does not exist."""
    return "" if fit.r2 is None else f"R²{NBSP}{share(fit.r2)}, "
