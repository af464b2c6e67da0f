"""One figure from a table's or a sweep's name to a figure's file: what ``tokscale plot`` does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.figures.files import FORMATS, panel, rendered
from analysis.figures.kinds import KINDS, Request
from analysis.style import STYLES
from analysis.table import load_table, select
from tokscale.errors import UsageError, one_of
from tokscale.record import write_atomically

_TABLES = (".csv", ".parquet", ".json")
_INCHES = (1.0, 40.0)


@dataclass(frozen=True)
class Plotted:
    """The written file, and notes on what the figure leaves out or rests on."""

    path: Path
    notes: tuple[str, ...]


def plot(
    given: str | Path, output: Path, *, kind: str = "curve", x: str | None = None, y: str | None = None,
    z: str | None = None, law: str | None = None, by: str | None = None, where: str | None = None,
    exclude: str | None = None, look: str = "paper", size: str | None = None, overlays: Sequence[str] = (),
    runs: Path = Path("runs"),
) -> Plotted:  # fmt: skip
    """Draw one kind of figure (``analysis.figures.kinds``) of a table or a sweep, and write it.

    Raises ``UsageError`` for an unknown ending, kind, style, size or folder, and ``TableError`` for a table or a column
    that cannot be used, or when a group cannot be fitted. Nothing is written then.
    """
    ending = output.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise UsageError(
            "a figure's ending says its format", given=str(output), allowed=one_of(f".{f}" for f in FORMATS)
        )
    if not output.parent.is_dir():
        raise UsageError("a figure's folder does not exist", given=str(output.parent), allowed="a folder that exists")
    for what, word, known in (("kind of figure", kind, KINDS), ("figure style", look, STYLES)):
        if word not in known:
            raise UsageError(f"no such {what}", given=word, allowed=one_of(known, word))
    inches = None if size is None else inches_of(size)
    table, folder = _read(given, runs)
    rows = table if kind == "losses" else select(table, where)
    if not rows.index.is_unique:
        rows = rows.reset_index(drop=True)
    request = Request(rows, folder, runs, x, y, z, law, by, where, exclude, overlays)
    figure = panel(lambda axes: KINDS[kind](request, axes), look=look, size=inches)
    write_atomically(output, rendered(figure, ending, look))
    return Plotted(output, tuple(dict.fromkeys(request.notes)))


def inches_of(size: str) -> tuple[float, float]:
    """Width and height in inches of a text such as ``3.35x2.5``; ``UsageError`` for any other."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*[xX]\s*(\d+(?:\.\d*)?|\.\d+)\s*", size)
    sides = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    if not all(_INCHES[0] <= side <= _INCHES[1] for side in sides):
        raise UsageError("a figure's size is WIDTHxHEIGHT in inches", given=size, allowed="from 1 to 40, as 3.35x2.5")
    return sides


def _read(given: str | Path, runs: Path) -> tuple[pd.DataFrame, Path | None]:
    """The table that a file, a published name or a sweep stands for, and the sweep's folder if it is one."""
    from analysis.report.load import find_sweep, load_sweep  # the report draws with these figures: no circle at import

    path = Path(given)
    if ":" in str(given) or path.suffix.lower() in _TABLES or path.is_file():
        return load_table(given), None
    folder = find_sweep(str(given), runs)
    sweep = load_sweep(folder)
    if sweep.table.empty:
        raise UsageError("a sweep has no results yet", where=str(folder), allowed="a sweep with finished trials")
    sweep.table.attrs["source"] = str(folder)
    return sweep.table, folder
