"""The page: its frame, and writing it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from analysis.report import sections
from analysis.report.drawing import draw_all
from analysis.report.load import load_sweep
from analysis.report.markup import Html, join, tag
from analysis.report.questions import ask
from tokscale.record import write_atomically

CONTENTS = {
    "answers": "Answers", "curves": "Curves", "plane": "Plane", "pictures": "Pictures", "fits": "Fits",
    "trials": "Trials", "failures": "Failures", "limits": "Limits", "reproduce": "Reproduce",
}  # fmt: skip


def write_report(folder: Path, *, published: Sequence[str] = ()) -> Path:
    """Write ``report/report.html`` and ``report/figures/`` of a sweep's folder, and hand back the page's path.

    ``published`` names published curves to lay under this sweep's own (``vitok``). Raises ``UsageError`` for an unknown
    one and ``StoreError`` for damaged files or a folder that cannot be written.
    """
    sweep = load_sweep(folder)
    answers = ask(sweep.table)
    content = sections.Content(sweep, answers, draw_all(sweep, answers, published))
    path = folder / "report" / "report.html"
    write_atomically(path, page(content).encode())
    return path


def page(content: sections.Content) -> str:
    """The whole page as text: no other file and no network is needed to read it."""
    templates = resources.files("analysis") / "templates"
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{content.sweep.title} | tokscale report"),
        tag("style", Html(style)),
    )
    links = [tag("a", text, href=f"#{anchor}") for anchor, text in CONTENTS.items()]
    parts = (
        sections.curves, sections.plane, sections.picture_rows, sections.fits, sections.trials, sections.failures,
        sections.stand_ins, sections.reproduce,
    )  # fmt: skip
    main = tag(
        "main", sections.head(content), tag("nav", links, aria_label="Sections"), [part(content) for part in parts]
    )
    body = tag("body", main, tag("script", Html(script)))
    return join([Html("<!doctype html>\n"), tag("html", head, body, lang="en"), Html("\n")])
