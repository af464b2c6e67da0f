"""The page as a paginated PDF: the same text, tables that break across pages, and vector figures.

Written by fpdf2, which is pure Python: no browser and no system package is needed. The fonts are those that come with
matplotlib.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

from analysis.report.markup import Embedded, Html
from analysis.report.reading import cells, head_rows, is_block, is_inline, rows
from tokscale.errors import UsageError

if TYPE_CHECKING:
    from fpdf import FPDF

_MARGIN, _WIDTH = 16.0, 178.0  # mm, on A4
_BODY, _SMALL, _TINY = 9.5, 8.0, 6.5  # points
_SIZES = {"h1": 18.0, "h2": 14.0, "h3": 11.5, "h4": 10.0}
_LINE = 0.46  # mm of line height for a point of size
_FIGURE, _GAP, _PIXELS = 86.0, 6.0, 0.2646  # mm: a figure, between two of them, a pixel at 96 to the inch
_LEFT_OUT = frozenset({"head", "nav", "script", "style", "button"})
_MOST_COLUMNS = 9
_WORD = 24  # characters of one word after which a cell may break it


def pdf(page: Html, title: str) -> bytes:
    """The page as a PDF; raises ``UsageError`` where fpdf2 is not installed."""
    try:
        from fpdf import FPDF
    except ImportError:
        raise UsageError("writing PDF needs a library that is not installed", given="fpdf2",
                         allowed="pip install 'tokscale[pdf]', or --format html or md") from None  # fmt: skip
    logging.getLogger("fpdf.svg").setLevel(logging.ERROR)  # it remarks on every element that is no drawing

    class Pages(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font("text", size=_SMALL)
            self.set_text_color(110)
            self.cell(0, 5, f"{title}   {self.page_no()} / {{nb}}", align="C")
            self.set_text_color(0)

    paper = Pages(format="A4")
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for style, name in (("", "DejaVuSans"), ("B", "DejaVuSans-Bold"), ("I", "DejaVuSans-Oblique")):
        paper.add_font("text", style, folder / f"{name}.ttf")
    paper.add_font("code", "", folder / "DejaVuSansMono.ttf")
    paper.set_title(title)
    paper.set_margin(_MARGIN)
    paper.set_auto_page_break(True, margin=18)
    paper.add_page()
    _Writer(paper).block(page)
    return bytes(paper.output())


class _Writer:
    """Walks a page and puts it on paper."""

    def __init__(self, paper: FPDF) -> None:
        self.paper = paper

    def block(self, part: Html | str) -> None:
        if isinstance(part, str):
            self.paragraph([part])
        elif part.name in _LEFT_OUT:
            return
        elif part.name in _SIZES:
            self.heading(part)
        elif part.name == "pre":
            self.listing(part.text())
        elif part.name in ("ul", "ol"):
            for item in part.children:
                self.paragraph([item], bullet=True)
        elif part.name == "dl":
            self.definitions(part)
        elif part.name == "table":
            self.table(part)
        elif part.name == "figure":
            self.figures([part])
        elif part.attributes.get("class") == "figures":
            figures = [one for one in part.children if isinstance(one, Html)]
            for start in range(0, len(figures), 2):
                self.figures(figures[start : start + 2])
        elif part.name == "p" or not any(is_block(child) for child in part.children):
            self.paragraph([part])
        else:
            self.mixed(part)

    def mixed(self, part: Html) -> None:
        """Blocks, with what stands between them as paragraphs."""
        loose: list[Html | str] = []
        for child in part.children:
            if is_inline(child):
                loose.append(child)
                continue
            self.paragraph(loose)
            loose = []
            self.block(child)
        self.paragraph(loose)

    def heading(self, part: Html) -> None:
        size = _SIZES[part.name]
        if self.paper.will_page_break(size * _LINE * 6):  # a heading stays with what follows it
            self.paper.add_page()
        self.paper.ln(size * 0.18)
        self.paper.set_font("text", "B", size)
        self.paper.start_section(part.text(), level=int(part.name[1]) - 1)
        self.paper.multi_cell(0, size * _LINE, part.text(), align="L", new_x="LMARGIN", new_y="NEXT")
        self.paper.ln(1.2)

    def paragraph(self, parts: Sequence[Html | str], bullet: bool = False) -> None:
        runs = [run for part in parts for run in _runs(part)]
        if not "".join(text for text, _ in runs).strip():
            return
        if bullet:
            self.paper.set_left_margin(_MARGIN + 5)
            self.paper.set_x(_MARGIN)
            self.paper.set_font("text", size=_BODY)
            self.paper.cell(5, _BODY * _LINE, "\N{BULLET}")
        for text, style in runs:
            code = style == "code"
            self.paper.set_font("code" if code else "text", "" if code else style, _BODY)
            self.paper.write(_BODY * _LINE, text)
        self.paper.set_left_margin(_MARGIN)
        self.paper.ln(_BODY * _LINE + 1.5)

    def listing(self, text: str) -> None:
        from fpdf.enums import WrapMode

        self.paper.set_font("code", size=_TINY)
        self.paper.set_fill_color(245)
        self.paper.multi_cell(0, _TINY * _LINE, text.rstrip(), align="L", fill=True, new_x="LMARGIN", new_y="NEXT",
                              wrapmode=WrapMode.CHAR)  # fmt: skip
        self.paper.ln(2)

    def definitions(self, part: Html) -> None:
        for child in part.children:
            if isinstance(child, Html) and child.name == "dt":
                self.paragraph([Html("strong", {}, child.children)])
            elif isinstance(child, Html):
                self.definitions(child) if child.name != "dd" else self.paragraph([child])

    def figures(self, parts: Sequence[Html]) -> None:
        """Pictures side by side, each with its caption below, on one page."""
        pictures = [next(one for one in _elements(part) if one.name == "img") for part in parts]
        sizes = [_size(picture) for picture in pictures]
        if self.paper.will_page_break(max(height for _, height in sizes) + 12):
            self.paper.add_page()
        top, bottom = self.paper.get_y(), 0.0
        for place, (part, picture, (width, height)) in enumerate(zip(parts, pictures, sizes, strict=True)):
            left = _MARGIN + place * (_FIGURE + _GAP)
            self.paper.image(
                _source(picture), x=left, y=top, w=width, h=height, alt_text=str(picture.attributes.get("alt", ""))
            )
            self.paper.set_font("text", size=_SMALL)
            self.paper.set_xy(left, top + height + 1)
            words = " ".join(word for one in _elements(part) if one.name == "figcaption" for word in _words(one))
            self.paper.multi_cell(max(width, _FIGURE), _SMALL * _LINE, words, align="L", new_x="LMARGIN", new_y="NEXT")
            bottom = max(bottom, self.paper.get_y())
        self.paper.set_y(bottom + 2.5)

    def table(self, part: Html) -> None:
        """A table; one of many columns as several, each with the first column again."""
        lines = [[None if cell is None else _breakable(_words(cell)) for cell in cells(row)] for row in rows(part)]
        width, heads = max((len(line) for line in lines), default=0), head_rows(part)
        if not width:
            return
        lines = [[*line, *[""] * (width - len(line))] for line in lines]
        step = _MOST_COLUMNS - 1
        groups = [range(width)] if width <= _MOST_COLUMNS else [
            (0, *range(start, min(start + step, width))) for start in range(1, width, step)]  # fmt: skip
        for group in groups:
            self._grid([[line[place] for place in group] for line in lines], heads)

    def _grid(self, lines: Sequence[Sequence[str | None]], heads: int) -> None:
        """Rows of equal length; None is a place that the cell before it covers too."""
        from fpdf.fonts import FontFace

        self.paper.set_font("text", size=_TINY)
        longest = [
            max(6.0, min(30.0, max((len(line[place] or "") for line in lines if None not in line), default=0)))
            for place in range(len(lines[0]))
        ]
        with self.paper.table(
            col_widths=tuple(longest), line_height=_TINY * _LINE, text_align="LEFT", num_heading_rows=heads,
            headings_style=FontFace(emphasis="BOLD", fill_color=240), borders_layout="HORIZONTAL_LINES",
            first_row_as_headings=heads > 0, width=min(_WIDTH, 3.2 * sum(longest)), align="LEFT", padding=0.7,
        ) as table:  # fmt: skip
            for line in lines:
                row = table.row()
                places = [place for place, text in enumerate(line) if text is not None]
                for place, after in zip(places, [*places[1:], len(line)], strict=True):
                    row.cell(line[place] or "", colspan=after - place)
        self.paper.ln(3)


def _runs(part: Html | str, style: str = "") -> Iterator[tuple[str, str]]:
    """Pieces of text, each with ``B``, ``I``, ``code`` or nothing."""
    if isinstance(part, str):
        yield re.sub(r"\s+", " ", part), style
    elif part.name == "br":
        yield "\n", style
    elif part.name not in _LEFT_OUT:
        own = {"strong": "B", "b": "B", "th": "B", "em": "I", "i": "I", "code": "code"}.get(part.name, style)
        for place, child in enumerate(part.children):
            if place and is_block(child):
                yield " ", style
            yield from _runs(child, own)


def _words(part: Html | str) -> Iterator[str]:
    """The text of a cell, its blocks apart from each other."""
    if isinstance(part, str):
        yield from part.split()
    else:
        for child in part.children:
            yield from _words(child)


def _breakable(words: Iterable[str]) -> str:
    """Words in one line; the long ones, such as a path, may be broken in a narrow cell."""
    return " ".join(re.sub(rf"(\S{{{_WORD}}})(?=\S)", "\\1\N{ZERO WIDTH SPACE}", word) for word in words)


def _elements(part: Html | str) -> Iterator[Html]:
    if isinstance(part, Html):
        yield part
        for child in part.children:
            yield from _elements(child)


def _source(picture: Html) -> io.BytesIO:
    source = picture.attributes["src"]
    assert isinstance(source, Embedded), "a page needs no other file"
    if source.kind != "image/svg+xml":
        return io.BytesIO(source.content)
    return io.BytesIO(re.sub(rb"<metadata>.*?</metadata>", b"", source.content, flags=re.DOTALL))


def _size(picture: Html) -> tuple[float, float]:
    """Width and height in mm: half the paper's width for a figure, all of it at most for a row of pictures."""
    source = picture.attributes["src"]
    assert isinstance(source, Embedded), "a page needs no other file"
    if source.kind == "image/svg+xml":
        found: Any = re.search(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"', source.content)
        width, height = float(found.group(1)), float(found.group(2))
        most = _FIGURE
    else:
        width, height = (float(str(picture.attributes[name])) for name in ("width", "height"))
        most = min(_WIDTH, max(2 * width * _PIXELS, 60.0))
    return most, most * height / width
