"""What a column of the results table is, and the set of all columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

GUIDED = frozenset({"gfid", "gfdd", "gfd", "gfid_inf", "gfdd_inf", "gfd_inf", "gis", "precision", "recall", "gfvd",
                    "gfcd"})  # fmt: skip
"""measures of generated images, which a trial may have at several scales of guidance"""
_AT_SCALE = re.compile(r"(?P<name>[a-z_]+)_cfg(?P<scale>[0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True)
class Column:
    """One column of the results table: its name, what it is, its unit, how to say it on an axis, and what is better."""

    name: str
    kind: str  # identity, size, budget, measure
    label: str
    unit: str = ""
    better: str | None = None  # "lower", "higher", or None where neither is
    definition: str = ""

    @property
    def axis(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


def at_scale(name: str, scale: float) -> str:
    """The column of a generation measure at one scale of guidance: ``gfid_cfg1.5``, ``gis_cfg3``."""
    assert name in GUIDED, f"{name} is not taken at several scales"
    return f"{name}_cfg{scale:.10g}"


def without_scale(name: str) -> str:
    """The measure behind a column: ``gfid`` for ``gfid_cfg1.5``, and any other name as it is."""
    match = _AT_SCALE.fullmatch(name)
    return match["name"] if match is not None and match["name"] in GUIDED else name


class Columns(Mapping[str, Column]):
    """All columns by name, in the order of the table.

    Those of a measure at one scale of guidance can be asked for too. Nobody can list them all, so going through the
    columns leaves them out; ``among`` finds those that a table has.
    """

    def __init__(self, *columns: Column) -> None:
        self._listed = {column.name: column for column in columns}

    def __getitem__(self, name: str) -> Column:
        known = self._listed.get(name)
        if known is not None:
            return known
        measure = without_scale(name)
        if measure == name:
            raise KeyError(name)
        scale, column = name.rpartition("_cfg")[2], self._listed[measure]
        return replace(column, name=name, label=f"{column.label} at CFG {scale}",
                       definition=f"{column.definition or column.label}, with guidance of scale {scale}")  # fmt: skip

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)

    def among(self, names: Iterable[object]) -> list[str]:
        """Those of some names that are columns, in the order of the table, scales of guidance after their measure."""
        present = [str(name) for name in names if str(name) in self]
        places = {name: place for place, name in enumerate(self._listed)}

        def place(name: str) -> tuple[int, float]:
            scale = name.rpartition("_cfg")[2] if without_scale(name) != name else "0"
            return places[without_scale(name)], float(scale)

        return sorted(dict.fromkeys(present), key=place)
