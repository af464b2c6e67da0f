"""From tables to places and offers: which trials may be run, what they need, which configurations have runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.next_trials.choosing import Offers
from analysis.next_trials.target import Target
from analysis.table import select
from tokscale.errors import TableError

Array = npt.NDArray[np.float64]

CONFIGURATION = "configuration"
"""column that tells configurations apart: rows that share it differ in nothing but their seed"""
_LOST = ("failed", "cancelled", "blocked")
_UNDER_WAY = ("running", "queued")


@dataclass(frozen=True)
class Candidates:
    """Trials that may be run (rows of ``table``), those under way, and words about the rest."""

    table: pd.DataFrame
    under_way: pd.DataFrame
    warnings: tuple[str, ...]

    @property
    def cheapest(self) -> float:
        """Hours of the cheapest trial; 0 without any."""
        return float(self.table["gpu_hours"].min()) if len(self.table) else 0.0

    def offers(self, places: npt.NDArray[np.int64]) -> Offers:
        """The trials at their places, with the stages and hours that each still needs."""
        if "stages" not in self.table:
            return Offers.apart(places, self.table["gpu_hours"].to_numpy(dtype=np.float64))
        hours: dict[str, float] = {}
        for stages in self.table["stages"]:
            hours |= stages
        number = {key: place for place, key in enumerate(hours)}
        needs = np.zeros((len(self.table), len(hours)), dtype=np.bool_)
        for row, stages in enumerate(self.table["stages"]):
            needs[row, [number[key] for key in stages]] = True
        return Offers(places, needs, np.array(list(hours.values()), dtype=np.float64))


def open_candidates(table: pd.DataFrame, results: pd.DataFrame, target: Target, where: str | None) -> Candidates:
    """The rows of a candidate table that may be run for a target.

    Columns: the law's sizes, ``trial`` and ``gpu_hours``; and where they exist ``status``, ``configuration`` and
    ``stages`` (key -> hours that are left). Raises ``TableError`` for sizes or hours that are no positive numbers.
    """
    words = []
    chosen = select(table, where) if len(table) else pd.DataFrame(columns=["trial", "gpu_hours", *target.x])
    if "status" in chosen:
        lost = chosen["status"].isin(_LOST)
        if count := int(lost.sum()):
            words.append(
                f"{count} trials failed or were cancelled: no candidates, until tokscale retry brings them back"
            )
        chosen = chosen[~lost]
    if target.y in results and "trial" in results:
        known = chosen["trial"].isin(results.loc[results[target.y].notna(), "trial"])
        chosen = chosen[~known]  # what is left of them says nothing about this measure
    waiting = chosen["status"].isin(_UNDER_WAY) if "status" in chosen else pd.Series(False, index=chosen.index)
    if count := int(waiting.sum()):
        words.append(f"{count} trials are under way: their sizes are taken as known, their hours as spent")
    rest = chosen[~waiting].reset_index(drop=True)
    for name in (*target.x, "gpu_hours"):
        if len(rest) and not (pd.to_numeric(rest[name], errors="coerce") >= 0).all():
            raise TableError("a candidate has no such number", given=name, where=f"trial {rest['trial'].iloc[0]}",
                             allowed="a positive number in every row of the candidates")  # fmt: skip
    return Candidates(rest, chosen[waiting].reset_index(drop=True), tuple(words))


@dataclass
class Places:
    """The configurations of all tables, each once, with their sizes."""

    x: tuple[str, ...]

    def __post_init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._sizes: list[Array] = []

    def of(self, table: pd.DataFrame) -> npt.NDArray[np.int64]:
        """The place of each row of a table; rows of one configuration share theirs."""
        numbers = []
        for row, key in enumerate(self._keys(table)):
            if key not in self._numbers:
                self._numbers[key] = len(self._sizes)
                self._sizes.append(table[list(self.x)].iloc[row].to_numpy(dtype=np.float64))
            numbers.append(self._numbers[key])
        return np.array(numbers, dtype=np.int64)

    def _keys(self, table: pd.DataFrame) -> list[Any]:
        if CONFIGURATION in table:
            return list(table[CONFIGURATION])
        if "seed" in table:  # rows that differ in their seed alone, as far as the law's columns tell
            return [tuple(row) for row in table[list(self.x)].to_numpy(dtype=np.float64)]
        return [(id(table), row) for row in range(len(table))]

    @property
    def count(self) -> int:
        return len(self._sizes)

    @property
    def log_sizes(self) -> Array:
        """ln x of all places so far (k, m)."""
        return np.asarray(np.log(np.array(self._sizes).reshape(-1, len(self.x)).T))
