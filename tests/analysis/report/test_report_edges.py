"""A page stands whatever the sweep left: nothing, one trial, failures alone, a thousand trials, hostile names."""

from __future__ import annotations

import base64
import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.report import write_report
from analysis.report.load import find_sweep
from tokscale.errors import StoreError, UsageError

HOSTILE = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&|`"


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        (
            lambda t: t[t["decoder"] == "B"].drop(columns=["ssim", "mse", "ar_loss", "ar_bits_per_image"]),
            "No probe was trained",
        ),
        (lambda t: t[t["decoder"] == "S"].drop(columns=["ssim", "mse"]), "decoder S (400 k parameters)"),
        (lambda t: t.iloc[:1], "only one size"),
        (lambda t: t[["trial", "status"]], "No answer can be drawn yet"),
        (lambda t: t[t["decoder"] == "S"].assign(psnr=math.nan, ssim=math.inf), "PSNR, SSIM, LPIPS"),
        (lambda t: t.iloc[:0], "no finished trial"),
    ],
    ids=["no-probe", "one-decoder", "one-trial", "two-columns", "no-psnr", "nothing-done"],
)
def test_page_stands_without(tmp_path: Path, table_of: Any, sweep_of: Any, read: Any, keep: Any, says: str) -> None:
    few = table_of().drop(columns=["rfd"])  # fewer figures to draw
    text = read(write_report(sweep_of(tmp_path, keep(few)))).text
    assert says in "".join(text.values())
    assert "inf" not in re.findall(r"\b(?:nan|inf)\b", text.get("trials", ""))


def test_page_of_an_empty_folder(tmp_path: Path, read: Any) -> None:
    folder = tmp_path / "runs" / "sweeps" / "new"
    folder.mkdir(parents=True)
    page = read(write_report(folder))
    assert "no finished trial" in page.text["head"]
    assert "summary of this sweep is missing" in page.text["head"]


def test_page_of_a_sweep_in_which_all_failed(tmp_path: Path, sweep_of: Any, read: Any) -> None:
    failures = [{"cause": "out of memory", "count": 3, "trials": ["a", "b", "c"], "log_tail": "CUDA error",
                 "remedy": "a smaller batch"}]  # fmt: skip
    folder = sweep_of(tmp_path, pd.DataFrame(), trials={"failed": 3}, failures=failures)
    text = read(write_report(folder)).text
    assert "no finished trial" in text["head"]
    assert "out of memory: 3 times" in text["failures"]
    assert "What to do: a smaller batch" in text["failures"]


def test_hostile_names_and_logs_stay_text(tmp_path: Path, table_of: Any, sweep_of: Any, read: Any) -> None:
    table = table_of().iloc[:4].drop(columns=["ssim", "mse", "rfd", "ar_bits_per_image"])
    table = table.assign(label=[f"{HOSTILE} {place}" for place in range(4)], encoder=HOSTILE, dataset=HOSTILE)
    failures = [{"cause": HOSTILE, "count": 1, "trials": [HOSTILE], "log_tail": HOSTILE}]
    folder = sweep_of(tmp_path, table, title=HOSTILE, command=HOSTILE, notes=[HOSTILE], failures=failures)
    (folder / "spec.yaml").write_text(HOSTILE)
    page = read(write_report(folder))
    assert len(page.all("script")) == 1
    assert not any("onerror" in values for _, values in page.elements)
    for section in ("head", "trials", "failures", "limits", "reproduce"):
        assert HOSTILE in page.text[section], section
    assert write_report(folder, form="pdf").read_bytes().startswith(b"%PDF-")
    assert "<script>" not in write_report(folder, form="md").read_text(encoding="utf-8").split("```")[0]


def test_a_thousand_trials_are_less_than_five_megabytes(tmp_path: Path, table_of: Any, sweep_of: Any) -> None:
    noise, one = np.random.default_rng(1), table_of().drop(columns=["ssim", "rfd", "mse", "ar_bits_per_image"])
    parts = [one.assign(seed=seed, trial=one["trial"] + f"-{seed}", psnr=one["psnr"] + noise.normal(0, 0.1, len(one)))
             for seed in range(63)]  # fmt: skip
    table = pd.concat(parts, ignore_index=True).iloc[:1000]
    page = write_report(sweep_of(tmp_path, table))
    assert page.stat().st_size < 5e6
    assert page.read_text(encoding="utf-8").count('<tr id="trial-') == 1000


def test_damaged_picture_is_left_out(tmp_path: Path, table_of: Any, sweep_of: Any, read: Any) -> None:
    folder = sweep_of(tmp_path, table_of(tmp_path / "runs").iloc[:2])
    first = table_of().iloc[0]
    (tmp_path / "runs" / first["pictures"]).write_bytes(b"no picture")
    page = read(write_report(folder))
    assert sum(image["alt"].startswith("Reconstructions") for image in page.all("img")) == 1
    assert f"#pictures-{first['trial']}" not in {values["href"] for values in page.all("a")}


def test_long_strips_are_cut_to_whole_tiles(tmp_path: Path, table_of: Any, sweep_of: Any, read: Any) -> None:
    table = table_of().iloc[:1]
    path = tmp_path / "runs" / table["pictures"].iloc[0]
    path.parent.mkdir(parents=True)
    Image.new("RGB", (32 * 20, 32)).save(path)
    page = read(write_report(sweep_of(tmp_path, table)))
    image = next(image for image in page.all("img") if image["alt"].startswith("Reconstructions"))
    with Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) as shown:
        assert shown.size == (256, 32)


def test_damaged_table_is_one_message(tmp_path: Path, table_of: Any, sweep_of: Any) -> None:
    folder = sweep_of(tmp_path, table_of().iloc[:1])
    (folder / "results.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match=r"cannot read results\.parquet"):
        write_report(folder)


def test_sweeps_are_found_by_name_and_by_path(tmp_path: Path, table_of: Any, sweep_of: Any) -> None:
    folder = sweep_of(tmp_path, table_of().iloc[:1])
    assert find_sweep("sizes", tmp_path / "runs") == folder.resolve()
    assert find_sweep(str(folder), tmp_path / "elsewhere") == folder.resolve()
    with pytest.raises(UsageError, match="did you mean 'sizes'"):
        find_sweep("size", tmp_path / "runs")
