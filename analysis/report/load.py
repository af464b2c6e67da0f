"""A sweep's folder, read: the spec's text, the results table and the summary of how it ran."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tokscale.errors import StoreError, UsageError, one_of
from tokscale.record import COLUMNS


@dataclass(frozen=True)
class Sweep:
    """What a report is made from. Absent files are None or empty; the page says so."""

    folder: Path
    name: str
    table: pd.DataFrame
    summary: dict[str, Any]
    spec: str | None

    @property
    def runs(self) -> Path:
        """The runs folder, below which the table's picture paths lie."""
        return self.folder.parent.parent

    @property
    def title(self) -> str:
        """The title of the summary, or the sweep's name."""
        return str(self.summary.get("title") or self.name)

    def has(self, column: str) -> bool:
        """Whether at least one trial has this measure."""
        return column in self.table and bool(self.table[column].notna().any())


def find_sweep(given: str, runs: Path) -> Path:
    """The folder of a sweep given by name or by path; raises ``UsageError`` with the sweeps that there are."""
    by_name = runs / "sweeps" / given
    for folder in (by_name, Path(given)):
        if folder.is_dir() and any(
            (folder / name).exists() for name in ("results.parquet", "summary.json", "spec.yaml")
        ):
            return folder.resolve()
    sweeps = runs / "sweeps"
    names = sorted(f.name for f in sweeps.iterdir() if f.is_dir()) if sweeps.is_dir() else []
    allowed = one_of(names, given) if names else "a sweep's name or folder; this runs folder has no sweeps yet"
    raise UsageError("no such sweep", where=str(sweeps), given=given, allowed=allowed)


def load_sweep(folder: Path) -> Sweep:
    """Read a sweep's folder; raises ``StoreError`` if one of its files is damaged."""
    table, summary = pd.DataFrame(), {}
    if (path := folder / "results.parquet").exists():
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise _damaged(path, error, "tokscale results") from error
    if (path := folder / "summary.json").exists():
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise _damaged(path, error, "tokscale run") from error
    spec = folder / "spec.yaml"
    text = spec.read_text(encoding="utf-8") if spec.exists() else None
    return Sweep(folder, folder.name, _clean(table), summary, text)


def _damaged(path: Path, error: Exception, command: str) -> StoreError:
    return StoreError(
        f"cannot read {path.name}", where=str(path), given=" ".join(str(error).split())[:200],
        allowed=f"remove the file and let `{command}` write it again",
    )  # fmt: skip


def _clean(table: pd.DataFrame) -> pd.DataFrame:
    """Measures and sizes as floats with NaN for absent or infinite, whatever kind of missing the file held."""
    table = table.reset_index(drop=True)
    for name in COLUMNS.among(table.columns):
        if COLUMNS[name].kind != "identity":
            numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
            table[name] = numbers.replace([math.inf, -math.inf], math.nan)
    # Continuous bottlenecks (without bits) first, small before large.
    order = [c for c in ("bottleneck_bits", "bottleneck_floats", "decoder_params", "seed") if c in table]
    return table.sort_values(order, na_position="first", kind="stable", ignore_index=True) if order else table
