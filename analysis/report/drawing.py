"""The report's figures: drawn once, written as PNG and SVG, and kept as SVG for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import figures
from analysis.figures.references import references
from analysis.figures.series import finite
from analysis.laws import law_named
from analysis.questions import BestSize, IsoFrontier, ParetoFront
from analysis.report.decisions import Decision, answers_of, measures, scaled_together
from analysis.report.load import Sweep
from analysis.report.questions import ANY, CONTINUOUS, DISCRETE, SIZE, Answer, rows_of_kind, varying
from analysis.style import axis_label, plain, same_looks
from tokscale.record import write_atomically

_MOST_CURVES = 40  # trainings of which the losses can be told apart in one panel


_ENDINGS = (".png", ".svg")
_KINDS = {"bottleneck_floats": CONTINUOUS, "bottleneck_bits": DISCRETE}


@dataclass(frozen=True)
class Drawn:
    """One figure of the page: SVG without any address to load, what it shows in words, and what stands below it."""

    name: str
    svg: bytes
    alt: str
    caption: str


@dataclass(frozen=True)
class Drawing:
    """Draws a sweep's figures in a style, into ``report/figures``."""

    sweep: Sweep
    look: str = "paper"

    def all(self, answers: Sequence[Answer], found: Sequence[Decision], names: Sequence[str]) -> dict[str, list[Drawn]]:
        """Every figure that the sweep's measures allow, by section (``reconstruction continuous``, ..., ``plane``).

        ``names`` are published curves to lay under this sweep's own. The overview of the sweep is written beside them.
        """
        drawn: dict[str, list[Drawn]] = {}
        curves = [one for one in answers if one.measured and one.question.kind != ANY and _is_curve(one)]
        with same_looks([[one.label for one in curve.series] for curve in curves]):
            for curve in curves:
                section = f"{curve.question.section} {curve.question.kind}"
                drawn.setdefault(section, []).append(self._curve(curve, names))
            drawn["best"] = list(self._optima(answers_of(found, BestSize)))
            drawn["sizes"] = [*self._maps(), *self._frontiers(answers_of(found, IsoFrontier))]
            drawn["plane"] = [*self._rates(), *self._planes(answers_of(found, ParetoFront))]
            drawn["training"] = list(self._losses())
            names_drawn = {one.name for ones in drawn.values() for one in ones}
            if names_drawn:
                self._save(figures.overview(self.sweep.table, look=self.look), "overview")
        self._clear(names_drawn | {"overview"})
        return drawn

    def _clear(self, kept: set[str]) -> None:
        """Take away the figures of an earlier report that this one does not have: nobody should cite them.

        They come with both endings; what has one alone belongs to a page in Markdown.
        """
        for stem in {path.stem for path in self._folder.glob("*.svg")} - kept:
            both = [self._folder / f"{stem}{ending}" for ending in _ENDINGS]
            if all(path.is_file() for path in both):
                for path in both:
                    path.unlink()

    @property
    def _folder(self) -> Path:
        return self.sweep.folder / "report" / "figures"

    def _curve(self, answer: Answer, names: Sequence[str]) -> Drawn:
        q, table = answer.question, self.sweep.table
        overlays = references(names, table, q.x, q.y) if q.kind == CONTINUOUS or q.x == SIZE else []
        y, x = axis_label(q.y, table), axis_label(q.x, table)
        points = pd.concat([one.points for one in answer.series])
        ends = f"{y} from {plain(points[q.y].min())} to {plain(points[q.y].max())}"
        groups = "; ".join(one.legend() for one in answer.series)
        caption = f"Law: {law_named(q.law).formula}." if answer.fits else "No law fitted: the section Fits says why."
        if overlays:
            caption += " Grey marks are published, with other data and budgets: compare the slope, not the height."
        return self._draw(
            partial(figures.scaling_curve, answer.series, x=q.x, y=q.y, references=overlays, bands=_has_bands(answer)),
            f"{q.y}-{q.x}", f"{y} against {x}, {len(points)} trials, {ends}. {groups}.", caption,
        )  # fmt: skip

    def _optima(self, best: Sequence[BestSize]) -> Iterator[Drawn]:
        for x in dict.fromkeys(one.x for one in best):
            group = [one for one in best if one.x == x]
            y = group[0].y
            yield self._draw(
                partial(figures.optimum, group, table=rows_of_kind(self.sweep.table, _KINDS[x])),
                f"best-{y}-{x}",
                f"{axis_label(y, self.sweep.table)} against {axis_label(x)}, with the best size of each group.",
                "A bar above the panel is the interval of the best size; without a bar none is resolved.",
            )

    def _maps(self) -> Iterator[Drawn]:
        table = self.sweep.table
        for z in measures(table) if scaled_together(table) else ():
            yield self._draw(
                partial(figures.heatmap, table, z=z), f"encoder-decoder-{z}",
                f"Mean {axis_label(z, table)} for every pair of encoder and decoder sizes.",
                "Means over seeds and whatever else was varied, as the colour bar says; the best cell is framed.",
            )  # fmt: skip

    def _frontiers(self, found: Sequence[IsoFrontier]) -> Iterator[Drawn]:
        for one in found:
            if one.surface:
                yield self._draw(
                    partial(figures.frontier, one, table=self.sweep.table),
                    f"frontier-{one.y}-{one.budget}",
                    f"The best {axis_label(one.y, self.sweep.table)} at each {axis_label(one.budget)}.",
                    "The staircase is the best trial at each budget; the line and its band are the fitted surface's.",
                )

    def _rates(self) -> Iterator[Drawn]:
        table = self.sweep.table
        for y in ("psnr", "mse"):
            points = finite(table, "ar_bits_per_image", y)
            if points.empty:
                continue
            by = varying(points, ("dataset", "layout", "data.resolution", "bottleneck", "encoder", "decoder"))
            better = "up and to the left" if y == "psnr" else "down and to the left"
            yield self._draw(
                partial(figures.rate_distortion, points, y=y, by=by),
                f"rate-distortion-{y}",
                f"{axis_label(y, table)} against the AR rate in bits per image for {len(points)} trials.",
                f"Better is {better}: less lost, at fewer bits. Numbers are sizes of the trials on the grey front.",
            )

    def _planes(self, fronts: Sequence[ParetoFront]) -> Iterator[Drawn]:
        table = self.sweep.table
        for front in fronts:
            label = "label" if "label" in table else None
            yield self._draw(
                partial(figures.plane, table, x=front.x, y=front.y, label=label, front=front),
                f"plane-{front.x}-{front.y}",
                f"{axis_label(front.y, table)} against {axis_label(front.x, table)}, {len(front.members)} points.",
                "Nothing beats what is on the grey front; filled points are on it for certain, hollow ones may be.",
            )  # fmt: skip

    def _losses(self) -> Iterator[Drawn]:
        frame = figures.read_progress(self.sweep.folder, self.sweep.table)
        if frame.empty or "loss" not in frame:
            return
        for stage, rows in frame[frame["loss"].notna()].groupby("stage", sort=False):
            if rows["trial"].nunique() > _MOST_CURVES:
                rows = rows[rows["trial"].isin(rows["trial"].drop_duplicates().iloc[:_MOST_CURVES])]
            size = "tokenizer_params" if stage == "tokenizer" and "tokenizer_params" in rows else None
            yield self._draw(
                partial(figures.losses, rows, size=size),
                f"training-{stage}",
                f"The training loss of stage {stage} against images, {rows['trial'].nunique()} trainings.",
                f"Stage {stage}: what was logged is faint, its moving average is drawn over it.",
            )

    def _draw(self, draw: Callable[[Axes], Any], name: str, alt: str, caption: str) -> Drawn:
        return Drawn(name, self._save(figures.panel(draw, look=self.look), name), alt, caption)

    def _save(self, figure: Figure, name: str) -> bytes:
        """Write the figure as PNG and as SVG, and hand back the SVG."""
        contents = {ending: figures.rendered(figure, ending.removeprefix("."), self.look) for ending in _ENDINGS}
        for ending, content in contents.items():
            write_atomically(self._folder / f"{name}{ending}", content)
        return contents[".svg"]


def _is_curve(answer: Answer) -> bool:
    """Whether there is more than one size to draw."""
    return any(one.points[answer.question.x].nunique() > 1 for one in answer.series)


def _has_bands(answer: Answer) -> bool:
    """Whether any fit leaves more than one degree of freedom: with one, its bands fill the panel."""
    return any(fit.task.freedom > 1 for _, fit in answer.fits)
