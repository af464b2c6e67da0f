"""The page: its frame, and writing it as HTML, Markdown or PDF."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from analysis.report import sections
from analysis.report.costs import costs
from analysis.report.decisions import decisions
from analysis.report.drawing import Drawing
from analysis.report.load import load_sweep
from analysis.report.markdown import Files, markdown
from analysis.report.markup import Html, Raw, tag
from analysis.report.pdf import pdf
from analysis.report.questions import ask
from tokscale.errors import UsageError, one_of
from tokscale.record import write_atomically

FORMATS = ("html", "md", "pdf")
CONTENTS = {
    "answers": "Answers", "curves": "Curves", "plane": "Plane", "pictures": "Pictures", "training": "Training",
    "fits": "Fits", "trials": "Trials", "failures": "Failures", "costs": "Cost", "limits": "Limits",
    "reproduce": "Reproduce",
}  # fmt: skip


def write_report(
    folder: Path, *, published: Sequence[str] = (), form: str = "html", look: str = "paper"
) -> Path:  # fmt: skip
    """Write ``report/report.html`` (or ``.md``, ``.pdf``) and ``report/figures/`` of a sweep's folder; the page's path.

    ``published`` names published curves to lay under this sweep's own (``vitok``); ``look`` is the figures' style.
    Raises ``UsageError`` for an unknown one and ``StoreError`` for damaged files or a folder that cannot be written.
    """
    check_form(form)
    sweep = load_sweep(folder)
    answers, found = ask(sweep.table), decisions(sweep.table)
    content = sections.Content(sweep, answers, found, Drawing(sweep, look).all(answers, found, published))
    parts = (
        sections.curves, sections.plane, sections.picture_rows, sections.training, sections.fits, sections.trials,
        sections.failures,
    )  # fmt: skip
    main = tag(
        "main", sections.head(content), contents(CONTENTS), [part(content) for part in parts], costs(sweep),
        sections.stand_ins(content), sections.reproduce(content),
    )  # fmt: skip
    return write_page(main, sweep.title, folder / "report" / "report", form)


def check_form(form: str) -> None:
    """``UsageError`` for a format that no writer knows."""
    if form not in FORMATS:
        raise UsageError("no such format of a report", given=form, allowed=one_of(FORMATS, form))


def contents(links: dict[str, str]) -> Html:
    """Links to the sections, by their anchors."""
    return tag("nav", [tag("a", text, href=f"#{anchor}") for anchor, text in links.items()], aria_label="Sections")


def write_page(main: Html, title: str, stem: Path, form: str) -> Path:
    """Write the page beside ``stem``, with the ending of its format; pictures of Markdown go into ``figures/``."""
    path = stem.with_suffix(f".{form}")
    if form == "html":
        write_atomically(path, html(main, title).encode())
    elif form == "pdf":
        write_atomically(path, pdf(main, title))
    else:
        files = Files("figures")
        text = markdown(main, files)
        for name, content in files.contents.items():
            write_atomically(path.parent / name, content)
        write_atomically(path, text.encode())
    return path


def html(main: Html, title: str) -> str:
    """The whole page as text: no other file and no network is needed to read it."""
    templates = resources.files("analysis") / "templates"
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} | tokscale report"),
        tag("style", Raw(style)),
    )
    body = tag("body", main, tag("script", Raw(script)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"
