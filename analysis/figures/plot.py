"""One figure from a table's file to a figure's file: what ``tokscale plot`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.curve import scaling_curve
from analysis.figures.files import FORMATS, rendered
from analysis.figures.references import references
from analysis.figures.series import Series, finite, split
from analysis.fitting import Fit, fit
from analysis.style import style
from analysis.table import column, load_table, select
from tokscale.errors import TableError, UsageError, one_of
from tokscale.record import write_atomically


def plot(
    table: str | Path, x: str, y: str, output: Path, *, law: str | None = None, by: str | None = None,
    where: str | None = None, look: str = "paper", overlays: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Draw column y against column x with the law's fit, one line a value of ``by``, and hand back the written path.

    Without a law the points are drawn alone. Raises ``UsageError`` for an unknown ending, style or folder, and
    ``TableError`` for a table or a column that cannot be used, or when a group cannot be fitted.
    """
    ending = output.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise UsageError(
            "a figure's ending says its format", given=str(output), allowed=one_of(f".{f}" for f in FORMATS)
        )
    if not output.parent.is_dir():
        raise UsageError("a figure's folder does not exist", given=str(output.parent), allowed="a folder that exists")
    rows = select(load_table(table), where)
    for name in (x, y, *([by] if by else [])):
        column(rows, name)
    points = finite(rows, x, y)
    if points.empty:
        raise TableError("no row has a number in both columns", where=str(table), given=f"{x}, {y}")
    groups = split(points, [by] if by else [])
    with style(look):
        series = [Series(label, group, _law(group, law, x, y)) for label, group in groups]
        figure = Figure(layout="constrained")
        scaling_curve(series, figure.subplots(), x=x, y=y, references=references(overlays, points, x, y))
        write_atomically(output, rendered(figure, ending, look))
    return output


def _law(rows: pd.DataFrame, law: str | None, x: str, y: str) -> Fit | None:
    if law is None:
        return None
    found = fit(rows, law=law, x=x, y=y)
    assert isinstance(found, Fit), "one law of one group gives one fit"
    return found
