"""What the sweep cost: time, images, FLOPs and GPU hours, by stage and by trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.report import tables
from analysis.report.answers import count
from analysis.report.load import Sweep
from analysis.report.markup import Html, tag
from analysis.report.prose import duration
from analysis.style import plain

_DEAREST = 5
_FIRST = ("data.", "tokenizer.", "losses.", "training.")
# Columns of what training took, their words, and the settings in which trials that share a training agree.
_TRAINED = {
    "train_images": ("training images", _FIRST),
    "train_flops": ("training FLOPs", _FIRST),
    "finetune_images": ("training images of second stages", (*_FIRST, "decoder_finetune.")),
    "finetune_flops": ("training FLOPs of second stages", (*_FIRST, "decoder_finetune.")),
}


def costs(sweep: Sweep) -> Html:
    """Totals in a sentence, the stages by kind, and the trials that took most."""
    return tag(
        "section", tag("h2", "What it cost"), _totals(sweep), tag("h3", "Stages"),
        _stages(sweep.summary.get("stages") or []), _dearest(sweep.table), id="costs",
    )  # fmt: skip


def _totals(sweep: Sweep) -> Html:
    table, summary = sweep.table, sweep.summary
    parts = []
    gpu_seconds = _number(summary.get("gpu_seconds"))
    if gpu_seconds:
        parts.append(f"{plain(gpu_seconds / 3600)} GPU hours")
        if price := _number(summary.get("cost_per_gpu_hour")):
            parts.append(f"{plain(gpu_seconds / 3600 * price, 4)} at {plain(price)} a GPU hour")
    seconds = _number(summary.get("stage_seconds"))
    if seconds:
        parts.append(f"{duration(seconds)} of work in all stages")
    for column, (words, sections) in _TRAINED.items():
        if sweep.has(column):
            parts.append(f"{count(_spent(table, column, sections))} {words}")
    if not parts:
        return tag("p", "Not recorded.", class_="absent")
    without = "" if gpu_seconds or not seconds else " No GPU was used."
    return tag("p", f"{', '.join(parts)}.{without} Stages that several trials share are counted once.")


def _spent(table: pd.DataFrame, column: str, sections: tuple[str, ...]) -> float:
    """The sum of a column, a training that several trials share taken once."""
    settings = [name for name in table.columns if str(name).startswith(sections)]
    if settings:
        table = table.drop_duplicates([*settings, *(name for name in ("seed",) if name in table)])
    return float(table[column].sum())


def _stages(stages: Sequence[dict[str, Any]]) -> Html:
    if not stages:
        return tag("p", "Not recorded.", class_="absent")
    heads = ("Stage", "Done", "Failed", "Running", "New", "Time", "GPU hours")
    rows = []
    for stage in stages:
        seconds, gpu_seconds = _number(stage.get("seconds")), _number(stage.get("gpu_seconds"))
        counts = [tables.number(stage.get(key), 6) for key in ("done", "failed", "running", "new")]
        took = tables.ABSENT if seconds is None else duration(seconds)
        cells = [*counts, took, plain(gpu_seconds / 3600) if gpu_seconds else tables.ABSENT]
        rows.append(
            tag("tr", tag("th", stage.get("kind"), scope="row"), [tag("td", c, class_="number") for c in cells])
        )
    head = tag("thead", tag("tr", [tag("th", text, scope="col") for text in heads]))
    return tables.scrolling(tag("table", head, tag("tbody", rows)), "Stages")


def _dearest(table: pd.DataFrame) -> Html | None:
    """The trials that took most time, with their share of it all."""
    column = next((c for c in ("gpu_seconds", "wall_seconds") if c in table and (table[c].fillna(0) > 0).any()), None)
    if column is None or len(table) < 2 or "label" not in table:
        return None
    spent = table[table[column] > 0]  # a trial that failed has no time of its own
    most = spent.nlargest(_DEAREST, column)
    total = float(spent[column].sum())
    items = [tag("li", f"{row['label']}: {duration(float(row[column]))}, {plain(100 * row[column] / total, 2)} %")
             for _, row in most.iterrows()]  # fmt: skip
    return tag("div", tag("h3", "The trials that took most"), tag("ul", items))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
