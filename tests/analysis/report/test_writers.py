"""One page, three writers: HTML, Markdown and PDF say the same, and none of them can be broken by what it says."""

import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from analysis.report.markdown import Files, markdown
from analysis.report.markup import Embedded, Html, Raw, join, tag
from analysis.report.pdf import pdf
from analysis.report.reading import cells, rows

HOSTILE = "<script>alert('x')</script> & | * _ ` [a](b) # \\"


class Text(HTMLParser):
    """The text of a page, and the elements that are open."""

    def __init__(self, content):
        super().__init__()
        self.text, self.names = "", []
        self.feed(content)

    def handle_starttag(self, name, attributes):
        self.names.append(name)

    def handle_data(self, data):
        self.text += data


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(buffer, "PNG")
    return Embedded(buffer.getvalue(), "image/png")


def svg():
    figure, buffer = Figure(figsize=(3, 2)), io.BytesIO()
    figure.subplots().plot([1, 2], [1, 2])
    figure.savefig(buffer, format="svg")
    return Embedded(buffer.getvalue(), "image/svg+xml")


def figure(picture, caption, name):
    image = tag("img", src=picture, alt=f"alt of {name}", width=40, height=20, data_name=name)
    return tag("figure", image, tag("figcaption", caption))


PAGE = tag(
    "body",
    tag("h1", "The best size"),
    tag("nav", tag("a", "to the curves", href="#curves")),
    tag("p", "Loss falls by ", tag("strong", "7 %"), " a doubling; see ", tag("a", "the paper", href="https://x.org/1")),
    tag("ul", tag("li", tag("strong", "Answer: "), "E = 512"), tag("li", "not resolved")),
    tag("h2", "Curves", id="curves"),
    tag("div", figure(svg(), "A curve", "curve"), figure(png(), "A picture", "picture"), class_="figures"),
    tag(
        "table",
        tag("thead", tag("tr", tag("th", "trial"), tag("th", "psnr"), tag("th", "lpips"))),
        tag("tbody", tag("tr", tag("th", "decoder S", colspan=3)),
            tag("tr", [tag("td", text) for text in ("a", "21", HOSTILE)])),
    ),
    tag("pre", "```\nTraceback\n  <b>"),
    tag("dl", tag("dt", "E"), tag("dd", "floats of the bottleneck")),
    tag("script", Raw("var a = 1 < 2;")),
)  # fmt: skip


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\x00")))
def test_text_of_a_page_is_never_markup(text):
    page = str(tag("p", text, title=text))
    read = Text(page)
    assert read.names == ["p"]
    assert read.text == text


def test_attributes_lists_and_nothing():
    assert str(tag("p", Raw("<b>x</b>"), None, [1, ["&"]])) == "<p><b>x</b>1&amp;</p>"
    assert str(tag("img", alt='"', hidden=True, lang=None, data_value=3)) == '<img alt="&quot;" hidden data-value="3">'
    assert str(join(tag("i", "a"), "b")) == "<i>a</i>b"


def test_cells_of_a_table_with_a_wide_one():
    table = next(child for child in PAGE.children if isinstance(child, Html) and child.name == "table")
    assert [[None if cell is None else cell.text() for cell in cells(row)] for row in rows(table)] == [
        ["trial", "psnr", "lpips"], ["decoder S", None, None], ["a", "21", HOSTILE],
    ]  # fmt: skip


def test_markdown_has_all_text_all_pictures_and_a_table_of_equal_rows():
    files = Files("figures")
    text = markdown(PAGE, files)
    assert set(files.contents) == {"figures/curve.svg", "figures/picture.png"}
    assert text.startswith("# The best size\n")
    assert "Loss falls by **7 %** a doubling; see [the paper](https://x.org/1)" in text
    assert "- **Answer:** E = 512\n- not resolved" in text
    assert "![alt of curve](figures/curve.svg)\n\nA curve" in text
    assert "to the curves" not in text
    assert "var a" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}
    assert "````\n```\nTraceback\n  <b>\n````" in text, "a listing that holds a fence has a longer one"
    assert "- **E**\n  floats of the bottleneck" in text


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"))))
def test_no_text_breaks_a_row_of_a_markdown_table(text):
    table = tag("table", tag("thead", tag("tr", tag("th", "a"))), tag("tr", tag("td", text)))
    lines = markdown(table, Files("figures")).splitlines()
    assert len(lines) == 3
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[2])) == 2


def test_pdf_has_pages_an_outline_and_vector_figures():
    content = pdf(PAGE, "The best size")
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", content)) == 1
    assert b"/Outlines" in content
    assert content.count(b"/Subtype /Image") == 1, "the photograph is an image, the curve is drawn"


def test_pdf_of_a_table_of_many_rows_and_columns_goes_on_over_pages():
    head = tag("thead", tag("tr", [tag("th", f"column {number}") for number in range(25)]))
    body = [tag("tr", [tag("td", f"{row * column:.3f}") for column in range(25)]) for row in range(120)]
    content = pdf(tag("body", tag("h1", "Trials"), tag("table", head, tag("tbody", body))), "Trials")
    assert len(re.findall(rb"/Type /Page\b", content)) > 3


@pytest.mark.parametrize("text", [HOSTILE, "x" * 500, "\N{GREEK SMALL LETTER ALPHA}\N{MINUS SIGN}\N{SNOWMAN}", " "])
def test_pdf_takes_any_text(text):
    page = tag("body", tag("h2", text), tag("p", text), tag("ul", tag("li", text)), tag("pre", text),
               tag("table", tag("tr", tag("td", text), tag("td", "1"))))  # fmt: skip
    assert pdf(page, text).startswith(b"%PDF-")
