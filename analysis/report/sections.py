"""The parts of the page, in the order in which they are read: the answer first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.report import pictures, tables
from analysis.report.answered import by_heading, listed
from analysis.report.answers import trends
from analysis.report.decisions import Decision
from analysis.report.drawing import Drawn
from analysis.report.load import Sweep
from analysis.report.markup import Embedded, Html, tag
from analysis.report.prose import limits, what_was_run
from analysis.report.questions import CONTINUOUS, DISCRETE, Answer, not_fitted

_NOTE = "Brackets are 95 % intervals, n counts configurations. E = L x c is the number of floats in the bottleneck."
_FURTHER = (
    "Not resolved is not zero: these trials do not show it. What trials would narrow an answer the most for their "
    "hours says "
)


@dataclass(frozen=True)
class Content:
    """All that the sections draw from."""

    sweep: Sweep
    answers: Sequence[Answer]
    found: Sequence[Decision]
    figures: dict[str, list[Drawn]]


def section(name: str, title: str, *children: object) -> Html:
    """One section with its heading; ``name`` is its anchor."""
    return tag("section", tag("h2", title), *children, id=name)


def head(content: Content) -> Html:
    """Title, what was run, and the answers: what is resolved first, then what was asked in vain."""
    sweep = content.sweep
    missing = (
        None if sweep.summary else tag("p", "The summary of this sweep is missing, so times and failures are unknown.")
    )
    return tag(
        "header",
        tag("p", f"tokscale sweep {sweep.name}", class_="kicker"),
        tag("h1", sweep.title),
        tag("p", what_was_run(sweep), class_="lead"),
        missing,
        tag("h2", "Answers", id="answers"),
        _answers(content),
    )


def _answers(content: Content) -> Html:
    """One entry a question; what these trials cannot tell is said too, below."""
    resolved, in_vain = by_heading(content.found)
    for heading, sentence in trends(content.sweep.table, content.answers):
        resolved.setdefault(heading, []).append(sentence)
    if not resolved and not in_vain:
        return tag("p", "No answer can be drawn yet: no law could be fitted (see the table of fits for why).",
                   class_="absent")  # fmt: skip
    note = tag("p", _NOTE, class_="fine")
    further = tag("p", _FURTHER, tag("code", "tokscale next SPEC --target WORDS --budget HOURS"), ".", class_="fine")
    nothing = tag("p", "Nothing is resolved by these trials.", class_="absent")
    return tag(
        "div",
        note,
        listed(resolved) if resolved else nothing,
        [tag("h3", "Asked, and not resolved by these trials"), further, listed(in_vain)] if in_vain else None,
    )


def curves(content: Content) -> Html:
    """Reconstruction, then generation, against the size of the bottleneck, or the tokenizer's where that is one."""
    reading = (
        "Each point is one trial. The line is the fitted law, the shaded band its 95 % confidence band, and the "
        "lighter band says where a further trial would fall. Continuous bottlenecks are drawn against their floats E, "
        "discrete ones against their bits; where all have one size, measures are drawn against the tokenizer's."
    )
    parts: list[Html] = []
    for what, absent in (
        ("reconstruction", "No reconstruction was measured."),
        ("generation", "The generation side was not measured in this sweep."),
    ):
        figures = [f for kind in (CONTINUOUS, DISCRETE) for f in content.figures.get(f"{what} {kind}", [])]
        if any(one.measured for one in content.answers if one.question.section == what):
            absent = "Measured at one size only: there is no curve to draw."
        parts += [tag("h3", what.capitalize()), _grid(figures) if figures else tag("p", absent, class_="absent")]
    for name, title in (("best", "The best bottleneck"), ("sizes", "Encoder and decoder")):
        if content.figures[name]:
            parts += [tag("h3", title), _grid(content.figures[name])]
    return section("curves", "Curves", tag("p", reading), parts)


def training(content: Content) -> Html:
    """The losses of all trainings."""
    figures = content.figures["training"]
    absent = tag("p", "No training of this sweep has left a progress file.", class_="absent")
    return section("training", "Training curves", _grid(figures) if figures else absent)


def plane(content: Content) -> Html:
    """Reconstruction against generation."""
    figures = content.figures["plane"]
    text = (
        "What a tokenizer keeps of an image against what its tokens cost to model. The rate under the AR probe is the "
        "one generation-side measure that compares bottlenecks of different kinds and sizes."
    )
    absent = tag("p", "The AR rate was not measured, so this plane is empty.", class_="absent")
    return section("plane", "Reconstruction versus generation", tag("p", text), _grid(figures) if figures else absent)


def picture_rows(content: Content) -> Html:
    """Originals, reconstructions and samples."""
    return section(
        "pictures", "Pictures",
        tag("h3", "Reconstructions by bottleneck size"), pictures.reconstructions(content.sweep),
        tag("h3", "Samples of the probe"), pictures.samples(content.sweep),
    )  # fmt: skip


def fits(content: Content) -> Html:
    """Every fit, and what is not fitted."""
    reading = (
        "R² is on the scale on which each law was fitted (log y for power laws). The hold-out error is that of ln y at "
        "the largest size, predicted from the other sizes. AICc compares laws on the same points; lower is "
        "better. Seeds of one configuration are averaged: n counts configurations."
    )
    table = content.sweep.table
    return section(
        "fits", "Fits",
        tag("p", reading), tables.fits_table(table, content.answers),
        tag("h3", "What is not fitted, and why"), tables.unfitted_list(not_fitted(table, content.answers)),
    )  # fmt: skip


def trials(content: Content) -> Html:
    """Every trial's row."""
    note = (
        f"One row a trial; ↑ higher is better, ↓ lower is better, {tables.ABSENT} not measured. A click on a column's "
        "head sorts by it; a name in colour leads to the trial's pictures."
    )
    defined = tables.definitions(content.sweep.table)
    return section(
        "trials", "Every trial", tag("p", note),
        tables.trials_table(content.sweep.table, pictures.shown_trials(content.sweep)),
        tag("h3", "What the columns mean") if defined is not None else None, defined,
    )  # fmt: skip


def failures(content: Content) -> Html:
    """What failed: cause, count, trials and the tail of the log."""
    summary = content.sweep.summary
    failed = summary.get("failures") or []
    if not failed:
        return section("failures", "What failed", tag("p", "Nothing failed." if summary else "Not known."))
    return section("failures", "What failed", [_failure(one) for one in failed])


def _failure(one: dict[str, Any]) -> Html:
    trials = ", ".join(str(t) for t in one.get("trials") or [])
    times = one.get("count", 1)
    return tag(
        "div",
        tag("p", tag("strong", one.get("cause") or "unknown cause"), f": {times} {'time' if times == 1 else 'times'}"),
        tag("p", f"What to do: {one['remedy']}") if one.get("remedy") else None,
        tag("p", f"Trials: {trials}", class_="fine") if trials else None,
        tag("pre", one.get("log_tail"), tabindex=0) if one.get("log_tail") else None,
        class_="failure",
    )


def stand_ins(content: Content) -> Html:
    """Stand-ins and limits: every note."""
    lines = limits(content.sweep)
    body = tag("ul", [tag("li", line) for line in lines]) if lines else tag("p", "None is known.")
    return section("limits", "Stand-ins and limits", body)


def reproduce(content: Content) -> Html:
    """Command, spec, environment, and where the time went."""
    summary = content.sweep.summary
    command = summary.get("command")
    spec = content.sweep.spec
    return section(
        "reproduce", "How to reproduce",
        tag("pre", command, tabindex=0) if command else tag("p", "The command was not recorded.", class_="absent"),
        tag("h3", "Spec"),
        tag("pre", spec, tabindex=0) if spec else tag("p", "The sweep's folder has no spec.yaml.", class_="absent"),
        tag("h3", "Environment"), _environment(summary),
    )  # fmt: skip


def _environment(summary: dict[str, Any]) -> Html:
    facts = {key: summary.get(key) for key in ("started", "finished")} | dict(summary.get("environment") or {})
    rows = [
        tag("tr", tag("th", key, scope="row"), tag("td", value)) for key, value in facts.items() if value is not None
    ]
    return tag("table", tag("tbody", rows)) if rows else tag("p", "Not recorded.", class_="absent")


def _grid(figures: Sequence[Drawn]) -> Html:
    return tag("div", [figure(one) for one in figures], class_="figures")


def figure(one: Drawn) -> Html:
    """A figure with its caption."""
    image = tag("img", src=Embedded(one.svg, "image/svg+xml"), alt=one.alt, data_name=one.name)
    return tag("figure", image, tag("figcaption", one.caption))
