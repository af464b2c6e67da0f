"""What the report is asked first: the questions of the field, put to one results table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pandas as pd

from analysis import questions
from analysis.questions import Answer, BestSize
from analysis.questions.settings import varied
from analysis.report.questions import CONTINUOUS, DISCRETE, GO_ALONG, rows_of_kind, scaled_columns, varying
from tokscale.errors import TableError

GENERATION = ("gfid", "gfd", "gfdd", "gfvd", "gfcd")
RECONSTRUCTION = ("rfid", "rfd", "rfdd", "rfvd", "rfcd")
_RATE = "ar_bits_per_image"
PARTS = ("encoder_params", "decoder_params")
NEXT_PARAMETERS = 100e6
_LARGE = 20e6  # parameters of a tokenizer; below it the next 100 M are no question, and a share of what there is
_VARIED = 1.25
_PAIRS = 4  # values of a setting, of which every two are compared
_EQUAL = ("dataset", "data.resolution", "data.frames", "bottleneck", "encoder", "decoder", "training.images")


AnyAnswer = TypeVar("AnyAnswer", bound=Answer)


@dataclass(frozen=True)
class Decision:
    """A question in words with its answers, one a group or measure; ``refused`` says why it could not be asked."""

    heading: str
    answers: tuple[Answer, ...] = ()
    refused: str = ""

    @property
    def resolved(self) -> bool:
        """Whether any of the answers is more than "not resolved"."""
        return any(is_resolved(answer) for answer in self.answers)


def is_resolved(answer: Answer) -> bool:
    """Whether an answer says something for sure."""
    for name in ("resolved", "verdict", "outcome"):
        if hasattr(answer, name):
            return getattr(answer, name) not in (False, "unresolved", "no dilemma")
    return True


def decisions(table: pd.DataFrame) -> list[Decision]:
    """Every question that the table's columns allow, in the order of the report, those without an answer too."""
    if table.empty:
        return []
    asked = (_best_sizes, _spending, _frontiers, _sizes, _cures, _kinds, _layouts, _fronts)
    return [one for question in asked for one in question(table)]


def answers_of(found: Sequence[Decision], kind: type[AnyAnswer]) -> list[AnyAnswer]:
    """All answers of one kind."""
    return [answer for one in found for answer in one.answers if isinstance(answer, kind)]


def first_of(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The first of these measures that a trial has."""
    return next((name for name in names if name in table and table[name].notna().any()), None)


def _ask(heading: str, question: Callable[[], Answer | Sequence[Answer]]) -> Decision:
    try:
        found = question()
    except TableError as error:
        given = f" ({error.given})" if isinstance(error.given, str) else ""
        return Decision(heading, refused=f"{error.what}{given}")
    return Decision(heading, (found,) if isinstance(found, Answer) else tuple(found))


def _best_sizes(table: pd.DataFrame) -> Iterator[Decision]:
    """The best bottleneck for generation, and how it moves with the probe's size."""
    y = first_of(table, GENERATION)
    if y is None:
        return
    best: list[BestSize] = []
    for kind, x in ((CONTINUOUS, "bottleneck_floats"), (DISCRETE, "bottleneck_bits")):
        rows = rows_of_kind(table, kind)
        if _levels(rows, x) < 2:
            continue
        one = _ask(f"Best {kind} bottleneck", partial(questions.best_bottleneck, rows, y, x))
        best += [answer for answer in one.answers if isinstance(answer, BestSize)]
        yield one
        for guided in scaled_columns(rows, (y,)):
            yield _ask(f"Best {kind} bottleneck", partial(questions.best_bottleneck, rows, guided, x))
    if _levels(table, "probe_params") > 1 and any(one.resolved for one in best):
        yield _ask("Best bottleneck and probe size", partial(questions.optimum_shift, best))


def _spending(table: pd.DataFrame) -> Iterator[Decision]:
    """Where the next parameters go, where both parts were varied."""
    if not scaled_together(table):
        return
    amount = next_parameters(table)
    for y in measures(table):
        yield _ask("The next parameters", partial(questions.where_to_spend, table, y, amount))


def next_parameters(table: pd.DataFrame) -> float:
    """How many parameters the question is about: 100 M, or for small tokenizers a round number near their size."""
    largest = float(table[list(PARTS)].max().max())
    return NEXT_PARAMETERS if largest >= _LARGE else 10.0 ** round(math.log10(largest))


def _sizes(table: pd.DataFrame) -> Iterator[Decision]:
    """What a doubling of each part does to reconstruction and to generation."""
    for size, heading in (
        ("decoder_params", "Decoder size"), ("encoder_params", "Encoder size"), ("tokenizer_params", "Tokenizer size"),
    ):  # fmt: skip
        if not _spans(table, size) or (size == "tokenizer_params" and not scaled_together(table)):
            continue
        for y in measures(table):
            yield _ask(heading, partial(questions.size_effect, table, y, size))


def _frontiers(table: pd.DataFrame) -> Iterator[Decision]:
    """How a budget is best divided between encoder and decoder."""
    y = first_of(table, (*RECONSTRUCTION, "mse"))
    if y is None or not scaled_together(table):
        return
    for budget in ("tokenizer_params", "train_flops"):
        if _spans(table, budget):
            yield _ask("Dividing a budget", partial(questions.iso_frontier, table, y, budget, PARTS))


def scaled_together(table: pd.DataFrame) -> bool:
    """Whether encoder and decoder were both varied in size."""
    return all(_spans(table, name) for name in PARTS)


def _cures(table: pd.DataFrame) -> Iterator[Decision]:
    """What semantic regularisation does, whether larger tokenizers generate worse, and whether it mends that."""
    heading, setting = "Semantic regularisation", "losses.semantic.weight"
    if setting not in table:
        return
    weights = table[setting].fillna(0.0)
    if not ((weights == 0).any() and (weights > 0).any()):
        return
    rows, on = table.assign(**{setting: weights}), float(weights[weights > 0].mode().iloc[0])
    rate = "ar_loss" if _levels(table, "bottleneck_floats") == 1 and _levels(table, "codebook_size") < 2 else _RATE
    generated = [y for y in (first_of(table, GENERATION), first_of(table, (rate,))) if y is not None]
    for y in [name for name in ("psnr", *generated, "ar_linear_accuracy") if first_of(table, (name,))]:
        yield _ask(heading, partial(questions.paired_effect, rows, y, setting, 0.0, on))
    for y in generated if _spans(table, "tokenizer_params") else ():
        yield _ask(heading, partial(questions.cure, rows, y, "tokenizer_params", setting, 0.0, on))


def _kinds(table: pd.DataFrame) -> Iterator[Decision]:
    """Kinds of bottleneck at equal distortion, by the rate under the probe."""
    if "bottleneck" not in table or first_of(table, (_RATE,)) is None:
        return
    kinds = table.loc[table[_RATE].notna(), "bottleneck"].nunique()
    if 2 <= kinds <= _PAIRS and (distortion := first_of(table, ("mse", "psnr"))) is not None:
        yield _ask("Kinds of bottleneck", partial(questions.rate_distortion, table, distortion))


def _layouts(table: pd.DataFrame) -> Iterator[Decision]:
    """Patches, tubelets and learned tokens at equal distortion, by the floats of continuous bottlenecks."""
    rows = rows_of_kind(table, CONTINUOUS)
    rate = "floats_per_pixel" if varying(rows, ("data.resolution", "data.frames")) else "bottleneck_floats"
    if "layout" not in rows or rate not in rows or first_of(rows, ("psnr",)) is None:
        return
    sizes = rows.groupby("layout")[rate].nunique()
    if 2 <= (sizes > 1).sum() <= _PAIRS:
        # Frames, and the budget that is counted in clips, cannot be held equal where they go along with the layout.
        layouts = [one for _, one in rows.groupby("layout")]
        within = [name for name in varying(rows, _EQUAL)
                  if name not in GO_ALONG or any(varying(one, [name]) for one in layouts)]  # fmt: skip
        yield _ask(
            "Layouts of the bottleneck", partial(questions.rate_distortion, rows, "psnr", rate, "layout", within=within)
        )


def _fronts(table: pd.DataFrame) -> Iterator[Decision]:
    """Which trials nothing beats in reconstruction and generation."""
    x, y = first_of(table, (*RECONSTRUCTION, "psnr")), first_of(table, (*GENERATION, _RATE))
    if x is not None and y is not None and len(table) > 2:
        yield _ask("The front", partial(questions.pareto_front, table, x, y))


def measures(table: pd.DataFrame) -> list[str]:
    """PSNR, and the Fréchet distances of reconstruction and generation that there are."""
    found = [first_of(table, names) for names in (("psnr",), RECONSTRUCTION, GENERATION)]
    return [name for name in found if name is not None]


def _levels(table: pd.DataFrame, column: str) -> int:
    return int(table[column].nunique()) if column in table else 0


def _spans(table: pd.DataFrame, size: str) -> bool:
    """Whether a size was varied on purpose: channels of a bottleneck alone change parameters by a little."""
    sizes = table[size].dropna() if size in table else pd.Series(dtype=float)
    return bool(len(sizes)) and float(sizes.max()) >= _VARIED * float(sizes.min()) and varied(table, size)
