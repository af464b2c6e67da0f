"""The report keeps its promises: one file, the answer first, every trial and note, and the fits' own numbers."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.fitting import Fit, fit
from analysis.report import write_report
from analysis.report.answers import bracket, mean_interval, paired_differences, per_doubling
from analysis.report.load import find_sweep
from analysis.report.markup import Html, tag
from tokscale.errors import StoreError, UsageError

NOTES = [
    "Features 'random-conv' stand in for Inception.",
    "3 files of the data set could not be read & were skipped: <a.jpg>.",
]
DECODERS = {"S": 0.4e6, "B": 1.6e6}


def trial_row(kind: str, size: int, decoder: str, noise: np.random.Generator) -> dict[str, Any]:
    """A row as a trial leaves it: PSNR 2 dB a doubling of E, 0.5 dB for the larger decoder, MSE that fits to it."""
    bits = 16 * size if kind == "fsq" else math.nan
    floats = 16 * size
    rate = (bits * 0.8 if kind == "fsq" else 3.1 * floats**0.9) * math.exp(noise.normal(0, 0.03))
    psnr = 8.0 + 2.0 * math.log2(floats) + (0.5 if decoder == "B" else 0.0) + noise.normal(0, 0.12)
    name = f"{kind}{size}-{decoder}"
    return {
        "sweep": "sizes", "trial": f"{name}-0123456789", "label": f"S-{decoder}/8 n16 {kind}{size}", "status": "done",
        "seed": 0, "encoder": "S", "decoder": decoder, "bottleneck": kind, "dataset": "procedural",
        "features": "random-conv", "reference": "val-512", "encoder_params": 0.4e6,
        "decoder_params": DECODERS[decoder], "tokenizer_params": 0.4e6 + DECODERS[decoder], "bottleneck_tokens": 16,
        "bottleneck_channels": size if kind == "kl" else 3, "bottleneck_floats": floats if kind == "kl" else 48,
        "bottleneck_bits": bits, "codebook_size": 2**size if kind == "fsq" else math.nan, "train_images": 20480,
        "train_flops": 1.3e13, "wall_seconds": 21.5, "mse": 10 ** (-psnr / 10), "psnr": psnr,
        "ssim": 0.2 + 0.06 * math.log2(floats) + noise.normal(0, 0.004),
        "rfd": 900 * floats**-1.1 * math.exp(noise.normal(0, 0.05)), "ar_loss": rate * math.log(2) / 16,
        "ar_bits_per_image": rate, "ar_bits_per_pixel": rate / 1024, "gfd": math.nan,
        "tokenizer.bottleneck.kind": kind, "tokenizer.bottleneck.channels": size if kind == "kl" else math.nan,
        "tokenizer.decoder.width": 64 if decoder == "S" else 128, "training.lr": 1e-3, "data.resolution": 32,
        "pictures": f"stages/reconstruction/{name}/artifacts/reconstructions.png",
        "originals": f"stages/reconstruction/{name}/artifacts/originals.png",
        "samples": f"stages/generation/{name}/artifacts/samples.png",
    }  # fmt: skip


def tiles(sharpness: int, noise: np.random.Generator) -> np.ndarray:
    """Eight discs on gradients, 32 pixels each, averaged over blocks of 32 / sharpness: the size is seen."""
    y, x = np.mgrid[:32, :32]
    strip = []
    for k in range(8):
        disc = ((x - 16) ** 2 + (y - 12 - k) ** 2 < (5 + k) ** 2)[..., None]
        image = np.where(disc, noise.integers(40, 255, 3), np.stack([4 * x + 60, 5 * y + 40, 8 * (x % 16) + 60], -1))
        block = max(1, 32 // sharpness)
        coarse = image.reshape(32 // block, block, 32 // block, block, 3).mean((1, 3))
        strip.append(coarse.repeat(block, 0).repeat(block, 1))
    return np.concatenate(strip, axis=1).clip(0, 255).astype(np.uint8)


def write_pictures(runs: Path, row: dict[str, Any], sharpness: int) -> None:
    for column, blocks in (("pictures", sharpness), ("originals", 32), ("samples", max(2, sharpness // 2))):
        path = runs / row[column]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiles(blocks, np.random.default_rng(3))).save(path)


def make_table(runs: Path | None = None) -> pd.DataFrame:
    """16 trials: five KL sizes and three FSQ sizes, each with two decoders."""
    noise = np.random.default_rng(0)
    sizes = [("kl", s, b) for s, b in ((2, 2), (4, 4), (8, 8), (16, 16), (32, 32))] + [
        ("fsq", s, b) for s, b in ((4, 2), (8, 4), (12, 8))
    ]
    rows = []
    for kind, size, sharpness in sizes:
        for decoder in DECODERS:
            rows.append(trial_row(kind, size, decoder, noise))
            if runs is not None:
                write_pictures(runs, rows[-1], sharpness)
    return pd.DataFrame(rows)


def make_sweep(root: Path, table: pd.DataFrame | None = None, **summary: Any) -> Path:
    """A sweep's folder as a finished sweep leaves it."""
    folder = root / "runs" / "sweeps" / "sizes"
    folder.mkdir(parents=True)
    (make_table(root / "runs") if table is None else table).to_parquet(folder / "results.parquet")
    (folder / "spec.yaml").write_text("name: sizes\ngrid:\n  tokenizer.bottleneck.channels: [2, 4, 8, 16, 32]  # <c>\n")
    content = {
        "sweep": "sizes", "title": "How large should the bottleneck be?", "command": "tokscale run sizes.yaml",
        "started": "2026-01-05T10:00:00+00:00", "finished": "2026-01-05T10:05:12+00:00", "wall_seconds": 312.4,
        "gpu_seconds": 0.0, "trials": {"done": 16, "failed": 1, "running": 0},
        "stages": [
            {"kind": "tokenizer", "done": 16, "failed": 1, "running": 0, "new": 0, "seconds": 344.0},
            {"kind": "reconstruction", "done": 16, "failed": 0, "running": 0, "new": 0, "seconds": 40.0},
            {"kind": "probe", "done": 16, "failed": 0, "running": 0, "new": 0, "seconds": 120.0},
        ],
        "failures": [{"cause": "DivergedError: loss is nan", "count": 1, "trials": ["kl64-B"],
                      "log_tail": "step 210 loss nan\nDivergedError: <loss> is no longer finite"}],
        "notes": NOTES,
        "environment": {"tokscale": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "host": "laptop",
                        "device": "2 CPU cores", "git_commit": "0123abc"},
    } | summary  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(content))
    return folder


class Page(HTMLParser):
    """What a reader's browser sees: the elements with their attributes, and the text of each section."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {}
        self.open: list[str] = []
        self.section = "head"
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.elements.append((tag, values))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)
        if tag == "section":
            self.section = values["id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        if tag == "section":
            self.section = "after"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text[self.section] = self.text.get(self.section, "") + data

    def all(self, name: str) -> list[dict[str, str]]:
        return [values for tag, values in self.elements if tag == name]


def read(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == [], "every element is closed"
    return page


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_sweep(tmp_path_factory.mktemp("report"))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(sweep: Path) -> Page:
    return read(sweep / "report" / "report.html")


def test_page_loads_nothing(page: Page) -> None:
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


def test_sections_are_in_the_order_of_reading(page: Page) -> None:
    order = ["curves", "plane", "pictures", "fits", "trials", "failures", "limits", "reproduce"]
    assert [values["id"] for values in page.all("section")] == order
    anchors = {values["id"] for _, values in page.elements if "id" in values}
    assert {values["href"].removeprefix("#") for values in page.all("a")} <= anchors


def test_every_image_says_what_it_shows(page: Page) -> None:
    images = page.all("img")
    assert len(images) > 40
    assert all(len(image["alt"]) > 10 for image in images)


def test_every_trial_and_every_note_is_there(page: Page) -> None:
    table = make_table()
    rows = {values.get("id") for values in page.all("tr")}
    assert {f"trial-{trial}" for trial in table["trial"]} <= rows
    for label in table["label"]:
        assert label in page.text["trials"]
        assert label in page.text["pictures"]
    for note in NOTES:
        assert note in page.text["limits"]
    assert "not FIDs" in page.text["limits"]


def test_numbers_are_the_fits(page: Page) -> None:
    table = make_table()
    kl = table[table["bottleneck_bits"].isna()]
    for decoder in DECODERS:
        found = fit(kl[kl["decoder"] == decoder], law="semilog", x="bottleneck_floats", y="psnr")
        assert isinstance(found, Fit)
        slope = found.parameters["slope"]
        assert slope.low is not None
        assert slope.high is not None
        assert f"slope = {bracket(slope.value, slope.low, slope.high)}" in page.text["fits"]
        assert bracket(slope.value, slope.low, slope.high, "dB") in page.text["head"]
        assert f"{found.r2:.3f}" in page.text["fits"]


def test_answers_tell_what_the_rows_were_made_of(page: Page) -> None:
    answers = page.text["head"].replace("\N{NO-BREAK SPACE}", " ")
    assert "17 trials, of which 16 done and 1 failed: KL bottlenecks" in answers
    assert "KL bottlenecks of E = 32 to 512 floats (5 sizes)" in answers
    assert "FSQ bottlenecks of 64 to 192 bits (3 sizes)" in answers
    found = re.search(r"adds ([\d.]+) dB \[([\d.]+), ([\d.]+)\] of PSNR \(mean over 8 pairs", answers)
    assert found is not None
    assert float(found[2]) <= 0.5 <= float(found[3])
    assert "rFD (random-conv) falls by" in answers


def test_absent_measures_are_dashes_never_zeros(page: Page) -> None:
    fsq = [values for values in page.all("td") if values.get("data-value") == ""]
    assert fsq, "an FSQ trial has no KL channels, a KL trial no bits"
    assert "gFD" in page.text["fits"].split("What is not fitted")[1]
    assert "gFD" not in page.text["trials"]
    assert "nan" not in "".join(page.text.values()).replace("loss nan", "").replace("loss is nan", "").lower()


def test_text_of_specs_and_logs_is_escaped(page: Page) -> None:
    assert "# <c>" in page.text["reproduce"]
    assert "<loss> is no longer finite" in page.text["failures"]
    assert "DivergedError: loss is nan: 1 time" in page.text["failures"]


def test_figures_are_written_beside_the_page(sweep: Path) -> None:
    names = {path.name for path in (sweep / "report" / "figures").iterdir()}
    for stem in ("overview", "psnr-bottleneck_floats", "psnr-bottleneck_bits", "rate-distortion-psnr"):
        assert {f"{stem}.png", f"{stem}.svg"} <= names
    assert not [name for name in names if name.startswith("gfd")]


def test_originals_are_shown_once(page: Page) -> None:
    assert sum(image["alt"].startswith("Original") for image in page.all("img")) == 1


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        (
            lambda t: t[t["decoder"] == "B"].drop(columns=["ar_loss", "ar_bits_per_image", "ar_bits_per_pixel"]),
            "No probe was trained",
        ),
        (lambda t: t[t["decoder"] == "S"], "decoder S (400 k parameters)"),
        (lambda t: t.iloc[:1], "only one size"),
        (lambda t: t[["trial", "status"]], "No answer can be drawn yet"),
        (lambda t: t[t["decoder"] == "S"].assign(psnr=math.nan, ssim=math.inf), "PSNR, SSIM, LPIPS"),
        (lambda t: t.iloc[:0], "no finished trial"),
    ],
    ids=["no-probe", "one-decoder", "one-trial", "two-columns", "no-psnr", "nothing-done"],
)
def test_page_stands_without(tmp_path: Path, keep: Any, says: str) -> None:
    text = read(write_report(make_sweep(tmp_path, keep(make_table())))).text
    assert says in "".join(text.values())
    assert "inf" not in re.findall(r"\b(?:nan|inf)\b", text.get("trials", ""))


def test_page_of_an_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "sweeps" / "new"
    folder.mkdir(parents=True)
    page = read(write_report(folder))
    assert "no finished trial" in page.text["head"]
    assert "summary of this sweep is missing" in page.text["head"]


def test_damaged_picture_is_left_out(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path, make_table(tmp_path / "runs").iloc[:2])
    first = make_table().iloc[0]
    (tmp_path / "runs" / first["pictures"]).write_bytes(b"no picture")
    page = read(write_report(folder))
    assert sum(image["alt"].startswith("Reconstructions") for image in page.all("img")) == 1


def test_long_strips_are_cut_to_whole_tiles(tmp_path: Path) -> None:
    table = make_table().iloc[:1]
    path = tmp_path / "runs" / table["pictures"].iloc[0]
    path.parent.mkdir(parents=True)
    Image.new("RGB", (32 * 20, 32)).save(path)
    page = read(write_report(make_sweep(tmp_path, table)))
    image = next(image for image in page.all("img") if image["alt"].startswith("Reconstructions"))
    with Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) as shown:
        assert shown.size == (256, 32)


def test_damaged_table_is_one_message(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path, make_table().iloc[:1])
    (folder / "results.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match=r"cannot read results\.parquet"):
        write_report(folder)


def test_sweeps_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path, make_table().iloc[:1])
    assert find_sweep("sizes", tmp_path / "runs") == folder.resolve()
    assert find_sweep(str(folder), tmp_path / "elsewhere") == folder.resolve()
    with pytest.raises(UsageError, match="did you mean 'sizes'"):
        find_sweep("size", tmp_path / "runs")


def test_pairs_differ_in_nothing_else() -> None:
    table = pd.DataFrame({
        "decoder": ["S", "B", "S", "B", "B"], "bottleneck_channels": [4, 4, 8, 8, 16],
        "psnr": [20.0, 21.0, 22.0, 22.5, 9.0], "tokenizer.decoder.width": [64, 128, 64, 128, 128],
        "training.lr": [1e-3] * 5,
    })  # fmt: skip
    gains = paired_differences(table, "decoder", "S", "B", "psnr")
    np.testing.assert_allclose(gains, [1.0, 0.5])
    table.loc[1, "training.lr"] = 1e-4
    np.testing.assert_allclose(paired_differences(table, "decoder", "S", "B", "psnr"), [0.5])


def test_mean_interval_is_students() -> None:
    # Student's t with two degrees of freedom: 4.302653 at 97.5 %.
    mean, low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert mean == pytest.approx(2.0)
    assert (high - low) / 2 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_power_law_change_per_doubling() -> None:
    x = np.array([32.0, 64, 128, 256, 512])
    noise = np.exp(np.array([0.01, -0.02, 0.015, -0.01, 0.005]))
    found = fit(pd.DataFrame({"bottleneck_floats": x, "mse": 3 * x**-0.5 * noise}), law="power",
                x="bottleneck_floats", y="mse")  # fmt: skip
    assert isinstance(found, Fit)
    change = per_doubling(found)
    assert change is not None
    assert change[1] < 2**-0.5 - 1 < change[2]
    assert change[1] < change[0] < change[2]


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (2.0149, 1.861, 2.148, "2.01 [1.86, 2.15]"),
        (0.12, 0.008, 1.7, "0.12 [0.01, 1.70]"),
        (86.6066, 86.6061, 86.6069, "86.61 [86.61, 86.61]"),
        (-0.9, -0.95, -0.85, "\N{MINUS SIGN}0.90 [\N{MINUS SIGN}0.95, \N{MINUS SIGN}0.85]"),
        (1580.0, 1506.0, 1659.0, "1580 [1506, 1659]"),
        (2.0, -math.inf, math.inf, "2 [no interval]"),
        (5.1e-4, 1.1e-21, 2.5e14, "5.1e\N{MINUS SIGN}04 [1.1e\N{MINUS SIGN}21, 2.5e+14]"),
    ],
)
def test_brackets_show_digits_that_mean_something(value: float, low: float, high: float, said: str) -> None:
    assert bracket(value, low, high) == said


def test_markup_escapes_text_and_attributes() -> None:
    assert tag("p", "a < b", title='"x"', class_="c") == '<p title="&quot;x&quot;" class="c">a &lt; b</p>'
    assert tag("p", Html("<b>x</b>"), None, [1, "&"]) == "<p><b>x</b>1&amp;</p>"
    assert tag("td", data_value="") == '<td data-value=""></td>'
