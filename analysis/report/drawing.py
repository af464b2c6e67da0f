"""The report's figures: drawn once, written as PNG and SVG, and kept as SVG for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import overview, rate_distortion, scaling_curve
from analysis.figures.files import rendered
from analysis.figures.references import references
from analysis.figures.series import finite
from analysis.laws import LAWS
from analysis.report.load import Sweep
from analysis.report.questions import ANY, CONTINUOUS, Answer, varying
from analysis.style import axis_label, plain, style
from tokscale.record import write_atomically


@dataclass(frozen=True)
class Drawn:
    """One figure of the page: SVG without any address to load, what it shows in words, and what stands below it."""

    name: str
    svg: bytes
    alt: str
    caption: str


def draw_all(sweep: Sweep, answers: Sequence[Answer], names: Sequence[str]) -> dict[str, list[Drawn]]:
    """Every figure that the sweep's measures allow, by section (``reconstruction continuous``, ..., ``plane``).

    All are written to ``report/figures`` as PNG and SVG, with the overview of the sweep beside them.
    """
    drawn: dict[str, list[Drawn]] = {}
    folder = sweep.folder / "report" / "figures"
    for answer in answers:
        q = answer.question
        if answer.measured and q.kind != ANY:
            drawn.setdefault(f"{q.section} {q.kind}", []).append(_curve(sweep.table, answer, names, folder))
    drawn["plane"] = [d for y in ("psnr", "mse") if (d := _plane(sweep.table, y, folder)) is not None]
    if any(drawn.values()):
        _save(overview(sweep.table), folder / "overview")
    return drawn


def _curve(table: pd.DataFrame, answer: Answer, names: Sequence[str], folder: Path) -> Drawn:
    q = answer.question
    overlays = references(names, table, q.x, q.y) if q.kind == CONTINUOUS else []
    path = folder / f"{q.y}-{q.x}"
    content = _draw(lambda axes: scaling_curve(answer.series, axes, x=q.x, y=q.y, references=overlays), path)
    y, x = axis_label(q.y, table), axis_label(q.x, table)
    points = pd.concat([one.points for one in answer.series])
    ends = f"{y} from {plain(points[q.y].min())} to {plain(points[q.y].max())}"
    groups = "; ".join(one.legend() for one in answer.series)
    alt = f"{y} against {x}, {len(points)} trials, {ends}. {groups}."
    caption = f"Law: {LAWS[q.law].formula}." if answer.fits else "No law fitted: the section Fits says why."
    if overlays:
        caption += " Grey stars are published, with other data and budgets: compare the slope, not the height."
    return Drawn(path.name, content, alt, caption)


def _plane(table: pd.DataFrame, y: str, folder: Path) -> Drawn | None:
    points = finite(table, "ar_bits_per_image", y)
    if points.empty:
        return None
    by = varying(points, ("dataset", "data.resolution", "bottleneck", "encoder", "decoder"))
    path = folder / f"rate-distortion-{y}"
    content = _draw(lambda axes: rate_distortion(points, axes, y=y, by=by), path, (5.4, 4.2))
    alt = f"{axis_label(y)} against the AR rate in bits per image for {len(points)} trials of all bottleneck kinds."
    better = "up and to the left" if y == "psnr" else "down and to the left"
    caption = f"Better is {better}: less lost, at fewer bits. Numbers are sizes of the trials on the grey front."
    return Drawn(path.name, content, alt, caption)


def _draw(draw: Callable[[Axes], Axes], path: Path, size: tuple[float, float] | None = None) -> bytes:
    with style("paper"):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        return _save(figure, path)


def _save(figure: Figure, path: Path) -> bytes:
    """Write the figure as PNG at twice the screen's resolution and as SVG, and hand back the SVG."""
    contents = {ending: rendered(figure, ending) for ending in ("png", "svg")}
    for ending, content in contents.items():
        write_atomically(path.with_suffix(f".{ending}"), content)
    return contents["svg"]
