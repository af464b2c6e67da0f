"""The tables of the page: fits, what is not fitted, every trial's row. What is absent is a dash, never a zero."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import pandas as pd

from analysis.fitting import Fit
from analysis.laws import LAWS
from analysis.report.answers import bracket, count, ends, optimum_text
from analysis.report.markup import Html, join, tag
from analysis.report.questions import Answer, varying
from analysis.style import axis_label, is_frechet, plain
from tokscale.record import COLUMNS

ABSENT = "\N{EN DASH}"
# Told by the page's head, by the pictures, or by other columns.
HIDDEN = frozenset({"sweep", "trial", "pictures", "originals", "samples"})
SPOKEN_FOR = ("tokenizer.encoder", "tokenizer.decoder", "tokenizer.bottleneck.kind", "tokenizer.bottleneck.channels",
              "tokenizer.bottleneck.codebook_size", "seed", "data.kind")  # fmt: skip
FIRST = ("label", "status", "seed", "bottleneck_floats", "bottleneck_bits")


def scrolling(table: Html, label: str) -> Html:
    """A wide table scrolls inside its own frame, which the keyboard can reach."""
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)


def fits_table(table: pd.DataFrame, answers: Sequence[Answer]) -> Html:
    """A head row a question (what against what, which law), then a row a fit: parameters, diagnostics, warnings."""
    rows = [_question_rows(table, answer) for answer in answers if answer.fits]
    if not rows:
        return tag("p", "No law could be fitted in this sweep; the list below says why.", class_="absent")
    heads = ("Trials", "Parameters [95 % interval]", "R²", "AICc", "Hold-out RMSLE", "n", "Warnings")
    head = tag("thead", tag("tr", [tag("th", text, scope="col") for text in heads]))
    return scrolling(tag("table", head, rows, class_="fits"), "Table of fits")


def _question_rows(table: pd.DataFrame, answer: Answer) -> Html:
    q = answer.question
    what = f"{axis_label(q.y, table)} against {axis_label(q.x, table)}"
    law = tag("span", f"{q.law}: {LAWS[q.law].formula}", class_="formula")
    head = tag("tr", tag("th", what, " ", law, colspan=7, scope="rowgroup"), class_="question")
    return tag("tbody", head, [_fit_row(label, fit) for label, fit in answer.fits])


def _fit_row(label: str, fit: Fit) -> Html:
    parameters = [tag("div", f"{name} = {bracket(*ends(p))}") for name, p in fit.parameters.items()]
    if fit.optimum is not None:
        parameters.append(tag("div", f"{fit.optimum['kind']} at x = {optimum_text(fit.optimum)}"))
    r2 = ABSENT if fit.r2 is None else f"{fit.r2:.3f}"
    return tag(
        "tr",
        tag("td", label or "all"),
        tag("td", parameters, class_="parameters"),
        *(tag("td", text, class_="number") for text in (r2, number(fit.aicc), number(fit.holdout_rmsle), fit.n)),
        tag("td", "; ".join(fit.warnings) or "none"),
    )


def number(value: object, digits: int = 3) -> str:
    """A number for a cell; a dash where there is none."""
    if value is None or not isinstance(value, (int, float)) or not math.isfinite(value):
        return ABSENT
    return plain(float(value), digits)


def unfitted_list(lines: Sequence[tuple[str, str]]) -> Html:
    """What is not fitted, and why."""
    if not lines:
        return tag("p", "Every law that this sweep's measures allow was fitted.")
    return tag("ul", [tag("li", tag("strong", what), ": ", reason, ".") for what, reason in lines])


def trial_columns(table: pd.DataFrame) -> list[str]:
    """Name and size first, then the measures, then the settings that were swept, then everything else that is known."""
    known = [c for c in COLUMNS.among(table.columns) if c not in HIDDEN and table[c].notna().any()]
    first = [c for c in FIRST if c in known]
    measures = [c for c in known if COLUMNS[c].kind == "measure"]
    swept = varying(table, [c for c in table if "." in c and not c.startswith(SPOKEN_FOR)])
    shown = [*first, *measures, *swept]
    return shown + [c for c in known if c not in shown]


def constant_columns(table: pd.DataFrame) -> list[str]:
    """Of these columns, the ones that tell no trial from another; measures are shown for every trial in any case."""
    candidates = [c for c in trial_columns(table) if c in COLUMNS and COLUMNS[c].kind != "measure"]
    return [c for c in candidates if not varying(table, [c])] if len(table) > 1 else []


def trials_table(table: pd.DataFrame, pictured: Collection[str] = ()) -> Html:
    """Every trial's row; a click on a head sorts, and without scripts the table stands as it is.

    The trials whose pictures are at one of the anchors ``pictured`` lead there.
    """
    if table.empty:
        return tag("p", "No trial has left a row yet.", class_="absent")
    constant = constant_columns(table)
    columns = [c for c in trial_columns(table) if c not in constant or c == "label"]
    head = tag("thead", tag("tr", [_head(table, column) for column in columns]))
    body = tag("tbody", [_trial(row, columns, pictured) for _, row in table.iterrows()])
    same = "; ".join(f"{COLUMNS[c].axis}: {_text(table[c].iloc[0], c)}" for c in constant if c != "label")
    note = tag("p", tag("strong", "The same in all trials: "), same, ".", class_="fine") if same else None
    return join(note, scrolling(tag("table", head, body, class_="trials sortable"), "Table of all trials"))


def _head(table: pd.DataFrame, column: str) -> Html:
    known = COLUMNS.get(column)
    text = axis_label(column, table if is_frechet(column) else None) if known is not None else column
    arrow = {"lower": " ↓", "higher": " ↑"}.get((known.better if known else None) or "", "")
    meaning = {"lower": ", lower is better", "higher": ", higher is better"}.get(
        known.better or "" if known else "", ""
    )
    definition = known.definition if known is not None else "a setting of the sweep"
    return tag("th", text, arrow, scope="col", title=f"{definition or text}{meaning}".replace("`", ""))


def _trial(row: pd.Series, columns: Sequence[str], pictured: Collection[str]) -> Html:
    cells = [_cell(row[column], column) for column in columns]
    trial = row.get("trial")
    if f"pictures-{trial}" in pictured and "label" in columns:
        link = tag("a", row["label"], href=f"#pictures-{trial}")
        cells[columns.index("label")] = tag("td", link, data_value=row["label"])
    return tag("tr", cells, id=f"trial-{trial}" if isinstance(trial, str) else None)


def _cell(value: object, column: str) -> Html:
    shown = _text(value, column)
    if shown == ABSENT:
        return tag("td", ABSENT, data_value="", class_="number")
    if pd.api.types.is_number(value):
        return tag("td", shown, data_value=value, class_="number")
    return tag("td", shown, data_value=shown)


def _text(value: object, column: str) -> str:
    """A value as its column shows it; lists, such as the levels of FSQ, with commas."""
    if not pd.api.types.is_scalar(value):
        return ", ".join(str(item) for item in value) if isinstance(value, Iterable) else str(value)
    if pd.isna(value):
        return ABSENT
    if pd.api.types.is_bool(value) or not pd.api.types.is_number(value):
        return str(value)
    number, known = float(str(value)), COLUMNS.get(column)
    if known is None or known.kind not in ("size", "budget"):
        return plain(number, 4)
    return count(number) if column.endswith(("params", "flops")) else f"{number:,.0f}"


def definitions(table: pd.DataFrame) -> Html | None:
    """What the measures of this sweep mean, for a reader who meets them for the first time."""
    known = [COLUMNS[c] for c in trial_columns(table) if c in COLUMNS and COLUMNS[c].definition]
    entries = [join(tag("dt", axis_label(c.name, table)), tag("dd", c.definition.replace("`", ""))) for c in known]
    return tag("dl", entries, class_="definitions") if entries else None
