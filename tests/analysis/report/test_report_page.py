"""The page of a finished sweep: one file, the answer first, every trial and note, and the fits' own numbers."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from analysis.fitting import Fit, fit
from analysis.report import FORMATS, write_report
from analysis.report.answers import bracket
from tokscale.errors import UsageError

# One worker makes the page that all of them read.
pytestmark = pytest.mark.xdist_group("report-page")


def test_page_loads_nothing(page: Any) -> None:
    for name, values in page.elements:
        for attribute in ("src", "srcset", "data", "poster", "action"):
            assert values.get(attribute, "data:").startswith("data:"), (name, attribute)
        assert values.get("href", "#").startswith("#")
    assert not page.all("link")
    assert not page.all("iframe")


def test_style_script_and_figures_name_no_address(sweep: Path) -> None:
    text = (sweep / "report" / "report.html").read_text(encoding="utf-8")
    style, script = (re.search(f"<{t}>(.*?)</{t}>", text, re.S) for t in ("style", "script"))
    for found in (style, script):
        assert found is not None
        assert not re.search(r"url\(|@import|https?:|fetch\(|import ", found[1])
    for svg in (sweep / "report" / "figures").glob("*.svg"):
        assert not re.search(r'(?:href|src)="(?!#)', svg.read_text()), f"{svg.name} loads something"


def test_sections_are_in_the_order_of_reading(page: Any) -> None:
    assert [values["id"] for values in page.all("section")] == [
        "curves", "plane", "pictures", "training", "fits", "trials", "failures", "costs", "limits", "reproduce",
    ]  # fmt: skip


def test_ids_are_unique_and_every_link_leads_to_one(page: Any) -> None:
    ids = [values["id"] for _, values in page.elements if "id" in values]
    assert len(ids) == len(set(ids))
    assert {values["href"].removeprefix("#") for values in page.all("a")} <= set(ids)


def test_every_trial_leads_to_its_pictures(page: Any, table_of: Any) -> None:
    links = {values["href"] for values in page.all("a")}
    assert {f"#pictures-{trial}" for trial in table_of()["trial"]} <= links


def test_headings_go_down_one_level_at_a_time(page: Any) -> None:
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_image_says_what_it_shows(page: Any) -> None:
    images = page.all("img")
    assert len(images) > 40
    assert all(len(image["alt"]) > 10 for image in images)


def test_every_head_of_a_table_says_what_it_is_the_head_of(page: Any) -> None:
    heads = page.all("th")
    assert heads
    assert {values.get("scope") for values in heads} <= {"col", "row", "rowgroup"}


def test_language_title_and_keyboard(page: Any) -> None:
    assert page.all("html") == [{"lang": "en"}]
    regions = [values for values in page.all("div") if values.get("class") == "scroll"]
    assert all(values["tabindex"] == "0" and values["role"] == "region" and values["aria-label"] for values in regions)


def test_every_trial_and_every_note_is_there(page: Any, table_of: Any, notes: list[str]) -> None:
    table = table_of()
    rows = {values.get("id") for values in page.all("tr")}
    assert {f"trial-{trial}" for trial in table["trial"]} <= rows
    for label in table["label"]:
        assert label in page.text["trials"]
        assert label in page.text["pictures"]
    for note in notes:
        assert note in page.text["limits"]
    assert "not FIDs" in page.text["limits"]


def test_numbers_are_the_fits(page: Any, table_of: Any) -> None:
    table = table_of()
    kl = table[table["bottleneck_bits"].isna()]
    for decoder in ("S", "B"):
        found = fit(kl[kl["decoder"] == decoder], law="semilog", x="bottleneck_floats", y="psnr")
        assert isinstance(found, Fit)
        slope = found.parameters["slope"]
        assert slope.low is not None
        assert slope.high is not None
        assert f"slope = {bracket(slope.value, slope.low, slope.high)}" in page.text["fits"]
        assert bracket(slope.value, slope.low, slope.high, "dB") in page.text["head"]
        assert f"{found.r2:.3f}" in page.text["fits"]


def test_answers_tell_what_the_rows_were_made_of(page: Any) -> None:
    """The larger decoder is four times the smaller one and adds 0.5 dB: 0.25 dB a doubling."""
    answers = page.text["head"].replace("\N{NO-BREAK SPACE}", " ")
    assert "17 trials, of which 16 done and 1 failed: KL bottlenecks" in answers
    assert "KL bottlenecks of E = 32 to 512 floats (5 sizes)" in answers
    assert "FSQ bottlenecks of 64 to 192 bits (3 sizes)" in answers
    found = re.search(r"Decoder parameters, PSNR gets better: [\d.]+ dB \[([\d.]+), ([\d.]+)\] \(n = 16", answers)
    assert found is not None
    assert float(found[1]) <= 0.25 <= float(found[2])
    assert "rFD (random-conv) falls by" in answers
    assert answers.index("gets better") < answers.index("Asked, and not resolved")


def test_absent_measures_are_dashes_never_zeros(page: Any) -> None:
    fsq = [values for values in page.all("td") if values.get("data-value") == ""]
    assert fsq, "an FSQ trial has no KL channels, a KL trial no bits"
    assert "gFD" in page.text["fits"].split("What is not fitted")[1]
    assert "gFD" not in page.text["trials"]
    assert "nan" not in "".join(page.text.values()).replace("loss nan", "").replace("loss is nan", "").lower()


def test_text_of_specs_and_logs_is_escaped(page: Any) -> None:
    assert "# <c>" in page.text["reproduce"]
    assert "<loss> is no longer finite" in page.text["failures"]
    assert "DivergedError: loss is nan: 1 time" in page.text["failures"]


def test_figures_are_written_beside_the_page(sweep: Path) -> None:
    names = {path.name for path in (sweep / "report" / "figures").iterdir()}
    for stem in ("overview", "psnr-bottleneck_floats", "psnr-bottleneck_bits", "rate-distortion-psnr"):
        assert {f"{stem}.png", f"{stem}.svg"} <= names
    assert not [name for name in names if name.startswith("gfd")]


def test_originals_are_shown_once(page: Any) -> None:
    assert sum(image["alt"].startswith("Original") for image in page.all("img")) == 1


def test_all_formats_say_the_same(tmp_path: Path, table_of: Any, sweep_of: Any, read: Any) -> None:
    """A sweep of which only PSNR is known, so that few figures are drawn."""
    few = table_of(tmp_path / "runs").drop(columns=["ssim", "mse", "rfd", "gfd", "ar_loss", "ar_bits_per_image"])
    folder = sweep_of(tmp_path, few)
    pages = {form: write_report(folder, form=form) for form in FORMATS}
    assert {path.name for path in pages.values()} == {"report.html", "report.md", "report.pdf"}
    said = " ".join(read(pages["html"]).text["head"].split())
    text = re.sub(r"\\(.)", r"\1", pages["md"].read_text(encoding="utf-8"))
    sentences = re.findall(r"(?:For|With) each doubling of [^()]+\(", said)
    assert len(sentences) >= 2
    for sentence in sentences:
        assert sentence in " ".join(text.split())
    pictures = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert len(pictures) > 20
    assert all((folder / "report" / path).is_file() for path in pictures)
    pdf = pages["pdf"].read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", pdf)) > 2


def test_unknown_formats_and_styles_are_refused(sweep: Path) -> None:
    with pytest.raises(UsageError, match="no such format"):
        write_report(sweep, form="docx")
    with pytest.raises(UsageError, match="no such figure style"):
        write_report(sweep, look="poster")
