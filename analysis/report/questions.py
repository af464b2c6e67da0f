"""Which laws are asked of which columns, and what came of it: fits, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from analysis.figures import Series, split
from analysis.figures.series import finite
from analysis.fitting import Fit, fit
from analysis.points import measured_against
from analysis.questions.settings import equal_for, needed, varied
from analysis.shared import counted_once
from analysis.style import axis_label, is_frechet
from tokscale.columns import without_scale
from tokscale.errors import TableError

CONTINUOUS, DISCRETE, ANY = "continuous", "discrete", "all"


@dataclass(frozen=True)
class Question:
    """A law of ``y`` against ``x`` for one kind of bottleneck; the laws are those the published studies used."""

    y: str
    x: str
    law: str
    kind: str
    section: str


def _both(y: str, law: str, section: str) -> tuple[Question, Question]:
    return (
        Question(y, "bottleneck_floats", law, CONTINUOUS, section),
        Question(y, "bottleneck_bits", law, DISCRETE, section),
    )


QUESTIONS: tuple[Question, ...] = (
    *_both("psnr", "semilog", "reconstruction"),
    *_both("ssim", "semilog", "reconstruction"),
    *_both("mse", "power", "reconstruction"),
    *_both("lpips", "power", "reconstruction"),
    *_both("rfid", "power", "reconstruction"),
    *_both("rfd", "power", "reconstruction"),
    *_both("rfdd", "power", "reconstruction"),
    *_both("rfvd", "power", "reconstruction"),
    *_both("rfcd", "power", "reconstruction"),
    *_both("ar_bits_per_image", "power", "generation"),
    *_both("gfid", "quadratic", "generation"),
    *_both("gfd", "quadratic", "generation"),
    *_both("gfdd", "quadratic", "generation"),
    *_both("gfvd", "quadratic", "generation"),
    *_both("gfcd", "quadratic", "generation"),
    Question("psnr", "ar_bits_per_image", "semilog", ANY, "plane"),
)

# Of trials that all have one bottleneck: laws of the tokenizer's size, as GigaTok draws them. Only there does the
# probing loss compare.
_OF_SIZE: tuple[tuple[str, str, str], ...] = (
    ("psnr", "semilog", "reconstruction"),
    ("ssim", "semilog", "reconstruction"),
    ("mse", "power", "reconstruction"),
    ("lpips", "power", "reconstruction"),
    ("rfid", "power", "reconstruction"),
    ("rfd", "power", "reconstruction"),
    ("ar_loss", "power", "generation"),
    ("ar_bits_per_image", "power", "generation"),
    ("gfid", "power", "generation"),
    ("gfd", "power", "generation"),
    ("ar_linear_accuracy", "semilog", "generation"),
)
SIZE = "tokenizer_params"

# Across images and clips, or resolutions, E is not what compares: laws of E by the pixel.
_OF_DENSITY: tuple[tuple[str, str], ...] = (
    ("psnr", "semilog"), ("ssim", "semilog"), ("mse", "power"), ("lpips", "power"), ("rfid", "power"), ("rfd", "power"),
)  # fmt: skip
DENSITY = "floats_per_pixel"
_EXTENT = ("data.resolution", "data.frames")

# Trials that differ in one of these are not one curve; whatever else differs is pooled: spread about the law.
SEPARATE = (
    "dataset",
    "layout",
    "data.resolution",
    "data.frames",
    "bottleneck",
    "encoder",
    "decoder",
    "training.images",
    "probe.kind",
    "probe.size.width",
    "probe.size.depth",
)
_PLANE: tuple[str, ...] = ("dataset", "layout", "data.resolution", "data.frames", "bottleneck")
GO_ALONG = ("data.frames", "training.images")
"""named beside the layout only where it does not tell them"""


@dataclass(frozen=True)
class Answer:
    """What came of a question: a series for every group, and for each group without a fit the reason."""

    question: Question
    series: tuple[Series, ...]
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def fits(self) -> list[tuple[str, Fit]]:
        """The groups that have a fit, with their names."""
        return [(one.label, one.fit) for one in self.series if one.fit is not None]

    @property
    def measured(self) -> bool:
        """Whether any trial has both columns."""
        return bool(self.series)


def ask(table: pd.DataFrame, questions: Sequence[Question] | None = None) -> list[Answer]:
    """Every question put to the table; a group that cannot be fitted gets a reason instead of a fit."""
    asked = (
        (*QUESTIONS, *guided_questions(table), *density_questions(table), *size_questions(table))
        if questions is None
        else questions
    )
    return [_answer(table, question) for question in asked]


def density_questions(table: pd.DataFrame) -> list[Question]:
    """Laws of the floats per pixel, of continuous bottlenecks of images and clips or of several resolutions."""
    rows = rows_of_kind(table, CONTINUOUS)
    if DENSITY not in rows or not varying(rows, _EXTENT):
        return []
    return [Question(y, DENSITY, law, CONTINUOUS, "reconstruction") for y, law in _OF_DENSITY]


def guided_questions(table: pd.DataFrame) -> list[Question]:
    """Laws of generation at each scale of guidance, where trials have several; the column without one is the best's."""
    scaled = scaled_columns(table, [q.y for q in QUESTIONS if q.section == "generation"])
    return [replace(q, y=name) for q in QUESTIONS for name in scaled if without_scale(name) == q.y]


def scaled_columns(table: pd.DataFrame, measures: Sequence[str]) -> list[str]:
    """The columns of these measures at single scales of guidance, in the order of the table."""
    return [str(name) for name in table.columns if without_scale(str(name)) in measures and str(name) not in measures]


def size_questions(table: pd.DataFrame) -> list[Question]:
    """Laws of the tokenizer's size, of the kinds of bottleneck that have one size where tokenizers have several."""
    found = []
    for kind, bottleneck in ((CONTINUOUS, "bottleneck_floats"), (DISCRETE, "bottleneck_bits")):
        rows = rows_of_kind(table, kind)
        if not {bottleneck, SIZE} <= set(rows.columns):
            continue
        if rows[bottleneck].nunique() == 1 and rows[SIZE].nunique() > 1 and varied(rows, SIZE):
            found += [Question(y, SIZE, law, kind, section) for y, law, section in _OF_SIZE]
    return found


def rows_of_kind(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The trials with a continuous bottleneck (no bits), with a discrete one, or all."""
    if kind == ANY or table.empty:
        return table
    bits = table["bottleneck_bits"].notna() if "bottleneck_bits" in table else pd.Series(False, index=table.index)
    return table[bits] if kind == DISCRETE else table[~bits]


def varying(table: pd.DataFrame, candidates: Sequence[str]) -> list[str]:
    """Those of the columns that hold more than one value."""
    return [c for c in candidates if c in table and len({str(value) for value in table[c]}) > 1]


def _answer(table: pd.DataFrame, question: Question) -> Answer:
    points = finite(rows_of_kind(table, question.kind), question.x, question.y)
    if points.empty:
        return Answer(question, ())
    # Across the plane the question is one of bottleneck kinds; decoders of one kind are pooled there.
    separate = _PLANE if question.kind == ANY else SEPARATE
    if question.section == "reconstruction":  # a tokenizer's own, whatever probes stand on it
        separate = tuple(name for name in separate if not name.startswith("probe."))
        points, _ = counted_once(points, (question.x, question.y))
    by = _apart(points, separate) if question.x != SIZE else _held(points, question)
    if is_frechet(question.y):  # different features or reference sets are different measures
        points, against = measured_against(points, question.y)
        kinds = varying(points, ("features", against))
        by += [name for name in needed(points, [*by, *kinds]) if name in kinds]
    series, reasons = [], {}
    for label, rows in split(points, by):
        found, reason = _fit(rows, question)
        series.append(Series(label, rows, found))
        if reason:
            reasons[label] = reason
    return Answer(question, tuple(series), reasons)


def _apart(points: pd.DataFrame, separate: Sequence[str]) -> list[str]:
    """The columns that tell curves apart, less what the layout tells already."""
    by = varying(points, separate)
    told = needed(points, by) if "layout" in by else by
    return [name for name in by if name in told or name not in GO_ALONG]


def _held(points: pd.DataFrame, question: Question) -> list[str]:
    """The settings that tell curves of the tokenizer's size apart: all that do not go along with it."""
    held, _ = equal_for(points, SIZE, (question.y,))
    return [name for name in held if question.section != "reconstruction" or not name.startswith("probe.")]


def _fit(rows: pd.DataFrame, question: Question) -> tuple[Fit | None, str | None]:
    sizes, least = rows[question.x].nunique(), 4 if question.law == "quadratic" else 3
    if sizes < least:
        sizes_word = "one size" if sizes == 1 else f"{sizes} sizes"
        return None, f"only {sizes_word}; a {question.law} law needs at least {least} to be more than a drawing"
    try:
        found = fit(rows, law=question.law, x=question.x, y=question.y)
    except TableError as error:
        return None, error.what
    assert isinstance(found, Fit)
    return found, None


def not_fitted(table: pd.DataFrame, answers: Sequence[Answer]) -> list[tuple[str, str]]:
    """What has no fit, and why, one line each: measures that no trial has come last, together."""
    lines: list[tuple[str, str]] = []
    absent: list[str] = []
    for answer in answers:
        q = answer.question
        kind = {CONTINUOUS: ", continuous bottlenecks", DISCRETE: ", discrete bottlenecks", ANY: ""}[q.kind]
        what = f"{axis_label(q.y, table)} against {axis_label(q.x, table)}{kind}"
        lines += [(f"{what}, {label}" if label else what, reason) for label, reason in answer.reasons.items()]
        if not answer.measured and q.y not in absent and not any(a.measured for a in answers if a.question.y == q.y):
            absent.append(q.y)
    if "ar_loss" in table and table["ar_loss"].notna().any():
        lines.append((
            axis_label("ar_loss"),
            "compares only tokenizers of equal vocabulary and length; the AR rate in bits is fitted instead",
        ))  # fmt: skip
    if absent:
        names = ", ".join(axis_label(y).split(" (")[0] for y in absent)
        lines.append((names, "not measured in any trial of this sweep"))
    return lines
