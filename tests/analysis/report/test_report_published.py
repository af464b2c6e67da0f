"""Reports of published points: what is printed beside what comes out, and no claim beyond the points."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import published, published_names
from analysis.report.correlation import correlation, of_r
from analysis.report.gigatok import gigatok
from analysis.report.printed import PRINTED
from analysis.report.published import STUDIES, write_published
from analysis.report.studies import sources
from tokscale.errors import UsageError

# One worker makes the page that all of them read.
pytestmark = pytest.mark.xdist_group("report-published")


@pytest.fixture(name="pages", scope="module")
def fixture_pages(tmp_path_factory: pytest.TempPathFactory, read: Any) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("published") / "new"
    paths = {name: write_published(name, folder) for name in STUDIES}
    assert {path.name for path in paths.values()} == {"published-vitok.html", "published-gigatok.html"}
    return {name: read(path) for name, path in paths.items()}


@pytest.mark.parametrize("name", STUDIES)
def test_page_is_whole_and_loads_nothing(pages: dict[str, Any], name: str) -> None:
    page = pages[name]
    ids = [values["id"] for _, values in page.elements if "id" in values]
    assert len(ids) == len(set(ids))
    assert {values["href"].removeprefix("#") for values in page.all("a")} <= set(ids)
    assert all(values["src"].startswith("data:") and len(values["alt"]) > 10 for values in page.all("img"))
    assert len(page.all("img")) >= 8
    assert {values.get("scope") for values in page.all("th")} <= {"col", "row"}
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert "nan" not in "".join(page.text.values()).lower().split()


def test_printed_values_stand_beside_ours(pages: dict[str, Any]) -> None:
    text = pages["vitok"].text["refits"]
    assert f"Of {len(PRINTED)} printed R²" in text
    for one in PRINTED:
        assert f"{one.y} against {one.x}" in text
    found = PRINTED[0].refit().parameters["exponent"]
    assert found.low is not None
    assert f"exponent = {found.value:.2f} [{found.low:.2f}" in text
    assert "moves exponent" in text, "warnings are told"


def test_vitok_answers(pages: dict[str, Any]) -> None:
    head = pages["vitok"].text["head"]
    resolved, in_vain = head.split("Asked, and not resolved by these points")
    assert re.search(r"CFG scale 1\.5, patch 16: gFID is best, 6\.12, at E = 3487 \[\d+, \d+\]", resolved)
    assert re.search(
        r"CFG scale 1\.5: gFID is best, 7\.65, at E = 4897 \[\d+, \d+\] \(a parabola in log x taken", resolved
    )
    assert "CFG scale 3: gFID: no interior optimum is resolved" in in_vain
    assert re.search(r"doubling of Decoder parameters, PSNR gets better: 0\.15 dB \[", resolved)
    assert "doubling of Encoder parameters, a change of rFID is not resolved" in in_vain
    assert "no seed was repeated" in pages["vitok"].text["limits"]


def test_gigatok_answers(pages: dict[str, Any]) -> None:
    resolved, in_vain = pages["gigatok"].text["head"].split("Asked, and not resolved by these points")
    assert "Regularisation on instead of off makes gFID better" in resolved
    assert "that larger is worse without the setting is not resolved" in in_vain
    assert "the paper prints R2 = 0.99 over three tokenizers" in in_vain
    assert "0.98 with the entropy loss and 0.078 without it" in in_vain
    assert "one degree of freedom" in pages["gigatok"].text["limits"]


@pytest.mark.parametrize("name", STUDIES)
def test_sources_of_every_table_are_there(pages: dict[str, Any], name: str) -> None:
    text = pages[name].text["sources"]
    named = [table for table in published_names() if f"published:{table}" in text]
    assert len(named) == 4
    for table in named:
        assert sources(published(table)) in text
    assert "text read via" not in text


def test_no_fid_of_one_study_is_laid_beside_the_other(pages: dict[str, Any]) -> None:
    assert "torchvision" in pages["vitok"].text["limits"]
    assert set(gigatok().refits[0].fit.y.split()) == {"rfid"}
    assert "ViTok" not in pages["gigatok"].text["figures"]


def test_markdown_says_the_same(tmp_path: Path, pages: dict[str, Any]) -> None:
    path = write_published("gigatok", tmp_path, form="md")
    text = re.sub(r"\\(.)", r"\1", path.read_text(encoding="utf-8"))
    for sentence in re.findall(r"doubling of [^()]+\(", " ".join(pages["gigatok"].text["head"].split())):
        assert sentence in " ".join(text.split())
    assert all((tmp_path / name).is_file() for name in re.findall(r"\]\((figures/[^)]+)\)", text))


def test_unknown_studies_and_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'vitok'"):
        write_published("vitokk", tmp_path)
    with pytest.raises(UsageError, match="no such format"):
        write_published("vitok", tmp_path, form="docx")
    assert not list(tmp_path.iterdir())


def test_a_correlation_is_scipys() -> None:
    noise = np.random.default_rng(2)
    table = pd.DataFrame({"psnr": noise.normal(size=12), "gis": noise.normal(size=12)})
    reference = stats.pearsonr(table["psnr"], table["gis"])
    low, high = reference.confidence_interval(0.95)
    found = correlation(table, "psnr", "gis")
    assert found.r == pytest.approx(reference.statistic)
    assert found.p == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert not found.resolved
    assert "is not resolved" in found.sentence()


def test_a_correlation_within_groups_forgets_their_means() -> None:
    """Two parallel lines far apart: all of the spread between them is the group's; errors enter by their logarithm."""
    x = np.array([1.0, 2.0, 3.0, 4.0] * 2)
    group = np.repeat(["a", "b"], 4)
    table = pd.DataFrame({"psnr": x + 100 * (group == "b"), "mse": np.exp(-x + 1e-3 * x**2), "kind": group})
    apart = correlation(table, "psnr", "mse", ("kind",))
    assert apart.r == pytest.approx(-1, abs=1e-4)
    assert abs(correlation(table, "psnr", "mse").r) < 0.1
    assert apart.resolved
    assert "move against each other" in apart.sentence()


def test_three_points_have_no_interval() -> None:
    """R2 = .99 of three points: t = 9.95 with one degree of freedom, of which 2 atan(1 / t) / pi is the p value."""
    found = of_r(0.99**0.5, 3, "a", "b")
    assert found.low is None
    assert found.p == pytest.approx(2 * np.arctan((0.01 / 0.99) ** 0.5) / np.pi)
    assert not found.resolved
