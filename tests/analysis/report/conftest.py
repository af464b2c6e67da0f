"""Sweeps as they lie on disk when they are finished, and a reader of the pages that are made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.report import write_report

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


@pytest.fixture(name="table_of", scope="session")
def fixture_table_of() -> Callable[..., pd.DataFrame]:
    return make_table


@pytest.fixture(name="sweep_of", scope="session")
def fixture_sweep_of() -> Callable[..., Path]:
    return make_sweep


@pytest.fixture(name="read", scope="session")
def fixture_read() -> Callable[[Path], Page]:
    return read


@pytest.fixture(name="notes", scope="session")
def fixture_notes() -> list[str]:
    return NOTES


@pytest.fixture(name="sweep", scope="session")
def fixture_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of 16 trials with its report as HTML."""
    folder = make_sweep(tmp_path_factory.mktemp("report"))
    write_report(folder)
    return folder


@pytest.fixture(name="page", scope="session")
def fixture_page(sweep: Path) -> Page:
    return read(sweep / "report" / "report.html")
