"""A page about the published points of a study: our refits beside what is printed, and what the points can tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from analysis import figures
from analysis.published_tables import published
from analysis.report import tables
from analysis.report.answered import by_heading, listed
from analysis.report.answers import bracket, ends, optimum_text
from analysis.report.gigatok import gigatok
from analysis.report.markup import Embedded, Html, tag
from analysis.report.page import check_form, contents, write_page
from analysis.report.studies import Refit, Sketch, Study, how_read, sources
from analysis.report.vitok import vitok
from tokscale.errors import UsageError, one_of

_MAKERS: Mapping[str, Callable[[], Study]] = {"vitok": vitok, "gigatok": gigatok}
STUDIES = tuple(_MAKERS)
_CONTENTS = {
    "answers": "Answers", "figures": "Figures", "refits": "Refits", "limits": "Limits", "sources": "Sources",
    "reproduce": "Reproduce",
}  # fmt: skip


def write_published(name: str, folder: Path, *, form: str = "html", look: str = "paper") -> Path:
    """Write ``published-NAME.html`` (or ``.md``, ``.pdf``) into ``folder``, which is made if need be; the page's path.

    Raises ``UsageError`` for a study, a format or a style of figures that is none.
    """
    check_form(form)
    if name not in _MAKERS:
        raise UsageError("no published points under this name", given=name, allowed=one_of(STUDIES, name))
    study = _MAKERS[name]()
    main = tag(
        "main", _head(study), contents(_CONTENTS), _figures(study.sketches, look), _refits(study.refits),
        _section("limits", "What these points can and cannot support", tag("ul", [tag("li", t) for t in study.limits])),
        _sources(study),
        _section("reproduce", "How to reproduce", tag("pre", f"tokscale report --published {study.name}", tabindex=0)),
    )  # fmt: skip
    return write_page(main, study.title, folder / f"published-{study.name}", form)


def _section(name: str, title: str, *children: object) -> Html:
    return tag("section", tag("h2", title), *children, id=name)


def _head(study: Study) -> Html:
    resolved, in_vain = by_heading(study.found)
    note = (
        "Brackets are 95 % intervals of Student's t or of the profile likelihood; E = L x c is the number of floats in "
        "the bottleneck. What is not resolved may still be so: these points do not show it."
    )
    return tag(
        "header",
        tag("p", "tokscale, published points", class_="kicker"),
        tag("h1", study.title),
        tag("p", study.lead, class_="lead"),
        tag("h2", "Answers", id="answers"),
        tag("p", note, class_="fine"),
        listed(resolved),
        [tag("h3", "Asked, and not resolved by these points"), listed(in_vain)] if in_vain else None,
    )


def _figures(sketches: Sequence[Sketch], look: str) -> Html:
    cards = []
    for one in sketches:
        svg = figures.rendered(figures.panel(one.draw, look=look), "svg", look)
        image = tag("img", src=Embedded(svg, "image/svg+xml"), alt=one.alt, data_name=one.name)
        cards.append(tag("figure", image, tag("figcaption", one.caption)))
    reading = (
        "Lines are laws fitted here; the shaded band is the 95 % confidence band, the lighter one the prediction's."
    )
    return _section("figures", "Figures", tag("p", reading), tag("div", cards, class_="figures"))


def _refits(refits: Sequence[Refit]) -> Html:
    heads = ("Figure", "Curve", "Law", "n", "R² printed", "R² here", "Parameters [95 % interval]", "Warnings")
    head = tag("thead", tag("tr", [tag("th", text, scope="col") for text in heads]))
    reading = (
        "The same points with the law of the same form. R² is on the scale of the law's residuals: FIDs in their "
        "logarithm, other measures as they are. The papers print no interval for any parameter."
    )
    printed = [one for one in refits if one.printed is not None]
    same = sum(f"{one.fit.r2 or 0.0:.2f}" == f"{one.printed:.2f}" for one in printed)
    agree = f" Of {len(printed)} printed R², {same} come out of the points to both digits." if printed else ""
    table = tag("table", head, tag("tbody", [_refit(one) for one in refits]), class_="refits")
    return _section("refits", "Refits", tag("p", reading, agree), tables.scrolling(table, "Table of refits"))


def _refit(one: Refit) -> Html:
    parameters = [tag("div", f"{name} = {bracket(*ends(p))}") for name, p in one.fit.parameters.items()]
    if one.fit.optimum is not None:
        parameters.append(tag("div", f"{one.fit.optimum['kind']} at x = {optimum_text(one.fit.optimum)}"))
    printed = tables.ABSENT if one.printed is None else f"{one.printed:.2f}"
    ours = tables.ABSENT if one.fit.r2 is None else f"{one.fit.r2:.2f}"
    return tag(
        "tr",
        tag("td", one.figure), tag("th", one.what, scope="row"), tag("td", one.fit.law),
        [tag("td", text, class_="number") for text in (one.fit.n, printed, ours)],
        tag("td", parameters, class_="parameters"),
        tag("td", "; ".join(one.fit.warnings) or "none"),
    )  # fmt: skip


def _sources(study: Study) -> Html:
    heads = ("Points", "Table", "Rows", "How they were read", "Source")
    head = tag("thead", tag("tr", [tag("th", text, scope="col") for text in heads]))
    rows = []
    for name, what in study.tables.items():
        table = published(name)
        cells = (tag("code", f"published:{name}"), len(table), how_read(table), sources(table))
        rows.append(tag("tr", tag("th", what, scope="row"), [tag("td", cell) for cell in cells]))
    note = "Each table is shipped with tokscale: its name stands wherever the command line takes a file."
    table = tables.scrolling(tag("table", head, tag("tbody", rows), class_="sources"), "Table of sources")
    return _section("sources", "Sources", tag("p", note), table)
