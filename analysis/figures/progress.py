"""The progress files of a sweep's trainings as one table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tokscale.errors import StoreError

_NOT_LOSSES = frozenset({"time", "done", "total", "per_second"})


def read_progress(sweep: Path, table: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row for every line that a sweep's trainings logged: ``trial``, ``stage``, ``images``, and each loss.

    ``sweep`` is the sweep's folder; ``table`` its results, whose label and sizes are joined by trial. Lines that a
    later attempt trained again, from an older checkpoint, are left out. Raises ``StoreError`` for a damaged list of
    trials.
    """
    stages = sweep.parent.parent / "stages"
    rows = [{"trial": trial, "stage": key.split("/")[0], "id": key} | line
            for trial, keys in _trials(sweep) for key in keys for line in _kept(_lines(stages / key))]  # fmt: skip
    frame = pd.DataFrame(rows, columns=None if rows else ["trial", "stage", "id", "images"])
    if table is not None and "trial" in table:
        names = [
            n for n in table.columns if n not in frame.columns and (n == "label" or n.endswith(("_params", "_floats")))
        ]
        frame = frame.merge(table[["trial", *names]].drop_duplicates("trial"), how="left", on="trial")
    return frame


def _trials(sweep: Path) -> list[tuple[str, list[str]]]:
    path = sweep / "trials.jsonl"
    if not path.exists():
        return []
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [(str(entry["trial"]), [str(key) for key in entry["stages"]]) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            "the list of trials is damaged", where=str(path), given=str(error),
            allowed="plan the sweep again with `tokscale plan`",
        ) from error  # fmt: skip


def _lines(stage: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a stage's progress file; the last may be torn by a crash."""
    path = stage / "progress.jsonl"
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("done"), (int, float)):
            losses = {n: v for n, v in line.items() if n not in _NOT_LOSSES and isinstance(v, (int, float))}
            yield {"images": float(line["done"]), **losses}


def _kept(lines: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of the training that led to the end: none that a later attempt passed once more."""
    kept: list[dict[str, Any]] = []
    for line in lines:
        while kept and kept[-1]["images"] >= line["images"]:
            kept.pop()
        kept.append(line)
    return kept
