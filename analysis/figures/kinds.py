"""What ``tokscale plot --kind`` can draw: each kind from a request to axes, with its own columns and defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.curves import scaling_curve
from analysis.figures.fronts import frontier
from analysis.figures.gallery import pictures
from analysis.figures.grids import heatmap
from analysis.figures.legends import MOST_NAMED
from analysis.figures.optima import optimum
from analysis.figures.planes import plane
from analysis.figures.progress import read_progress
from analysis.figures.rates import rate_distortion
from analysis.figures.references import references
from analysis.figures.residual import residuals
from analysis.figures.series import Series, finite, missing, split, value_label
from analysis.figures.training import losses
from analysis.fitting import Fit, fit
from analysis.questions.best_size import best_bottleneck
from analysis.questions.frontier import iso_frontier
from analysis.questions.pareto import pareto_front
from analysis.style import short
from analysis.table import column, left_out, select
from tokscale.errors import TableError, UsageError
from tokscale.record import COLUMNS

_MOST_PICTURES = 24


@dataclass
class Request:
    """The words of one plot: the table's rows, the sweep's folder if it is one, columns, and what else was said.

    ``notes`` gathers what a reader of the figure must know and the figure does not say.
    """

    table: pd.DataFrame
    folder: Path | None = None
    runs: Path = Path("runs")
    x: str | None = None
    y: str | None = None
    z: str | None = None
    law: str | None = None
    by: str | None = None
    where: str | None = None
    exclude: str | None = None
    overlays: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)

    def columns(self, **defaults: Sequence[str]) -> list[str]:
        """The columns that a kind needs, as said or the first default that the table has; all must hold numbers."""
        found = []
        for flag, names in defaults.items():
            name = getattr(self, flag) or next((n for n in names if n in self.table), names[0] if names else None)
            if name is None:
                raise UsageError(f"this kind of figure needs --{flag}", allowed="a column of the table")
            column(self.table, name)
            found.append(name)
        rows = finite(self.table, *found)
        if rows.empty:
            raise TableError("no row has a number in all columns", where=self.table.attrs.get("source"),
                             given=missing(self.table, *found))  # fmt: skip
        if count := len(self.table) - len(rows):
            self.notes.append(left_out(count, f"no number in {' or '.join(found)}"))
        return found

    @property
    def groups(self) -> list[str]:
        """The columns to draw apart."""
        if self.by is not None:
            column(self.table, self.by)
        return [self.by] if self.by is not None else []


def draw_curve(request: Request, axes: Axes) -> Axes:
    """A measure against a size, with a law's fit where one is named."""
    x, y = request.columns(x=(), y=())
    series = _series(request, x, y)
    kept = pd.concat([one.points for one in series])
    return scaling_curve(series, axes, x=x, y=y, references=references(request.overlays, kept, x, y))


def draw_residuals(request: Request, axes: Axes) -> Axes:
    """What the law leaves unexplained."""
    if request.law is None:
        raise UsageError("residuals are those of a law", allowed="--law NAME, or --law best")
    x, y = request.columns(x=(), y=())
    series = _series(request, x, y)
    return residuals([one.fit for one in series], axes, names=[one.label for one in series])


def draw_heatmap(request: Request, axes: Axes) -> Axes:
    """A measure for every pair of sizes."""
    x, y, z = request.columns(x=("encoder_params", "enc_params_M"), y=("decoder_params", "dec_params_M"), z=())
    return heatmap(request.table, axes, x=x, y=y, z=z)


def draw_plane(request: Request, axes: Axes) -> Axes:
    """Reconstruction against generation, with the probabilities to be on the front where the noise is known."""
    x, y = request.columns(x=("rfid", "rfd", "rfdd"), y=("gfid", "gfd", "gfdd"))
    if request.z is not None:
        column(request.table, request.z)
    front = pareto_front(request.table, x, y)
    label = next((name for name in ("label", "model") if name in request.table), None)
    request.notes += front.warnings
    return plane(request.table, axes, x=x, y=y, by=request.groups, size=request.z, label=label, front=front)


def draw_frontier(request: Request, axes: Axes) -> Axes:
    """The best measure at each budget."""
    budget, y = request.columns(x=("tokenizer_params", "total_params_M"), y=())
    sizes = tuple(request.z.split(",")) if request.z else None
    if sizes is not None and len(sizes) != 2:
        raise UsageError("a budget is spent on two sizes", given=str(request.z), allowed="--z FIRST,SECOND")
    answer = iso_frontier(request.table, y, budget, sizes)
    request.notes += [answer.sentence(), *answer.warnings]
    return frontier(answer, axes, table=request.table)


def draw_optimum(request: Request, axes: Axes) -> Axes:
    """Curves that turn, and the best size of each."""
    x, y = request.columns(x=("bottleneck_floats",), y=())
    found = best_bottleneck(
        request.table, y, x, request.groups or None, law=None if request.law == "best" else request.law
    )
    request.notes += [one.sentence() for one in found]
    return optimum(found, axes, table=request.table)


def draw_rate_distortion(request: Request, axes: Axes) -> Axes:
    """Bottlenecks of all kinds in one plane of rate and distortion."""
    x, y = request.columns(x=("ar_bits_per_image",), y=("mse", "psnr"))
    return rate_distortion(request.table, axes, x=x, y=y, by=request.groups or ["bottleneck"], hull=True)


def draw_losses(request: Request, axes: Axes) -> Axes:
    """Training curves, from the progress files of a sweep."""
    frame, y = request.table, request.y or "loss"
    if request.folder is not None:
        frame = read_progress(request.folder, request.table)
        if frame.empty:
            raise TableError("no training of this sweep has logged anything", where=str(request.folder))
        if "label" in frame and frame.groupby("label")["trial"].nunique().max() == 1:
            frame = frame.assign(trial=frame["label"])
    frame = select(frame, request.where)
    x = request.x or next((name for name in ("images", "step") if name in frame), "images")
    column(frame, x)
    stages = list(frame.loc[column(frame, y).notna(), "stage"].unique()) if "stage" in frame else []
    if len(stages) > 1:
        chosen = "tokenizer" if "tokenizer" in stages else stages[0]
        request.notes.append(f"stage {chosen} is drawn; --where \"stage == '{stages[-1]}'\" draws another")
        frame = frame[frame["stage"] == chosen]
    size = request.z or ("tokenizer_params" if "tokenizer_params" in frame else None)
    return losses(frame, axes, x=x, y=y, by=request.by or "trial", size=size if size in frame else None)


def draw_pictures(request: Request, axes: Axes) -> Axes:
    """The reconstructions of a sweep's trials, one row a bottleneck size."""
    kind = request.z or "pictures"
    column(request.table, kind)
    x = request.x or "bottleneck_floats"
    rows = finite(request.table[request.table[kind].notna()], x).sort_values(x)
    if "seed" in rows and not rows.empty:
        rows = rows[rows["seed"] == rows["seed"].min()]
    if rows.empty or len(rows) > _MOST_PICTURES:
        raise UsageError(f"{len(rows)} pictures do not make a figure", where=str(request.folder or ""),
                         allowed=f"1 to {_MOST_PICTURES} trials, chosen with --where")  # fmt: skip
    runs = request.folder.parent.parent if request.folder is not None else request.runs
    y = request.y or next((name for name in ("psnr", "lpips", "rfid", "rfd", "rfdd") if name in rows), None)
    captions = [_caption(row, x, y, request.groups) for _, row in rows.iterrows()]
    return pictures([[runs / str(path)] for path in rows[kind]], axes, rows=captions)


def _caption(row: pd.Series[Any], x: str, y: str | None, groups: Sequence[str]) -> str:
    """The size, the group if there are some, and below them the measure."""
    head = f"{'E ' if x == 'bottleneck_floats' else ''}{short(float(row[x]))}"
    head = ", ".join([*(value_label(row[name]) for name in groups), head])
    if y is None or pd.isna(row[y]):
        return head
    known = COLUMNS.get(y)
    unit = known.unit if known is not None and known.unit else (known.label if known is not None else y)
    return f"{head}\n{short(float(f'{row[y]:.3g}'))} {unit}"


KINDS: Mapping[str, Callable[[Request, Axes], Axes]] = {
    "curve": draw_curve,
    "heatmap": draw_heatmap,
    "plane": draw_plane,
    "frontier": draw_frontier,
    "optimum": draw_optimum,
    "rate-distortion": draw_rate_distortion,
    "residuals": draw_residuals,
    "losses": draw_losses,
    "pictures": draw_pictures,
}


def _series(request: Request, x: str, y: str) -> list[Series]:
    """The groups with their fits, and what each leaves out, by reason."""
    away = None
    if request.exclude is not None:
        away = select(request.table, request.exclude)
        request.table = request.table.drop(away.index)
        request.columns(x=(x,), y=(y,))
    series = []
    outside = dict(split(away, request.groups)) if away is not None else {}
    for label, rows in split(finite(request.table, x, y), request.groups):
        excluded = {str(request.exclude): outside.pop(label)} if label in outside else {}
        found = _fit(rows, request.law, x, y)
        if found is not None:
            request.notes += [f"{label}: {warning}".removeprefix(": ") for warning in found.warnings]
            logs = found.task.law.log_residuals
            unusable = (rows[x] <= 0) | (logs & (rows[y] <= 0))
            if unusable.any():
                excluded["not above zero"], rows = rows[unusable], rows[~unusable]
        series.append(Series(label, rows, found, excluded))
    if len(series) > MOST_NAMED:
        request.notes.append(f"{len(series)} groups of {request.by}: the legend names {MOST_NAMED - 1}, and looks "
                             "repeat; --where chooses fewer")  # fmt: skip
    return series


def _fit(rows: pd.DataFrame, law: str | None, x: str, y: str) -> Fit | None:
    if law is None:
        return None
    found = fit(rows, law=None if law == "best" else law, x=x, y=y)
    return found[0] if isinstance(found, list) else found
