"""The report's sentences claim no more than their points carry."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.fitting import Fit, fit
from analysis.report.answers import bracket, per_doubling, trends
from analysis.report.load import Sweep, load_sweep
from analysis.report.prose import limits, what_was_run
from analysis.report.questions import ask


def said(table: pd.DataFrame) -> dict[str, str]:
    return {k: v.replace("\N{NO-BREAK SPACE}", " ") for k, v in trends(table, ask(table))}


def sweep_from(root: Path, table: pd.DataFrame) -> Sweep:
    folder = root / "sweeps" / "sizes"
    folder.mkdir(parents=True)
    table.to_parquet(folder / "results.parquet")
    return load_sweep(folder)


def row(kind: str, size: int, decoder: str, rate: float, psnr: float, **more: Any) -> dict[str, Any]:
    return {
        "bottleneck": kind, "bottleneck_floats": 16.0 * size,
        "bottleneck_bits": np.nan if kind == "kl" else 16.0 * size,
        "decoder": decoder, "decoder_params": 4e5 if decoder == "S" else 2e6, "seed": 0, "dataset": "procedural",
        "ar_bits_per_image": rate, "psnr": psnr,
    } | more  # fmt: skip


def test_three_sizes_give_a_slope_without_an_interval() -> None:
    table = pd.DataFrame([row("kl", s, "S", 10.0 * s, p) for s, p in ((2, 20.0), (4, 22.1), (8, 23.9))])
    sentence = said(table)["Bottleneck size"]
    assert "PSNR rises by 1.95 dB (n = 3, too few points for an interval)" in sentence
    assert "[" not in sentence


def test_a_slope_that_could_be_none_is_not_resolved() -> None:
    values = (20.0, 20.9, 19.6, 20.7, 20.1)
    table = pd.DataFrame([row("kl", 2**i, "S", 10.0 * 2**i, p) for i, p in enumerate(values)])
    sentence = said(table)["Bottleneck size"]
    assert "PSNR shows no resolved trend: " in sentence
    assert "rises" not in sentence
    assert "falls" not in sentence


def test_limits_of_the_rate_and_of_generated_images(tmp_path: Path) -> None:
    more = {"gfd": 3.0, "data.classes": 10, "generation.images": 2048}
    table = pd.DataFrame([row("fsq", s, "S", 10.0 * s, 20.0, **more) for s in (2, 4)])
    lines = " ".join(limits(sweep_from(tmp_path, table)))
    assert "upper bound for every bottleneck" in lines
    assert "up to log2(10) = 3.3 bits per image more" in lines
    assert "(2,048 generated) and compare only at equal numbers" in lines


def test_probes_of_both_kinds_are_named(tmp_path: Path) -> None:
    table = pd.DataFrame([row("kl", s, "S", 10.0 * s, 20.0, gfd=1.0) for s in (2, 4)])
    both = pd.concat([table, table.assign(ar_bits_per_image=math.nan, diffusion_loss=0.2)])
    said = what_was_run(sweep_from(tmp_path, both))
    assert "(the AR probe) and a diffusion model (the diffusion probe) were then trained" in said
    assert "images were sampled from them" in said
    alone = what_was_run(sweep_from(tmp_path / "alone", both[both["ar_bits_per_image"].isna()]))
    assert "A diffusion model (the diffusion probe) was then trained" in alone
    assert "images were sampled from it" in alone


def test_parameters_that_vary_within_a_preset_are_about(tmp_path: Path) -> None:
    rows = [row("kl", s, "S", 10.0 * s, 20.0, decoder_params=4e5 + 1e4 * s) for s in (2, 4)]
    rows += [row("kl", s, "B", 10.0 * s, 20.0) for s in (2, 4)]
    text = what_was_run(sweep_from(tmp_path, pd.DataFrame(rows)))
    assert "S (about 430 k parameters)" in text
    assert "B (2 M parameters)" in text


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
    ("value", "low", "high", "expected"),
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
def test_brackets_show_digits_that_mean_something(value: float, low: float, high: float, expected: str) -> None:
    assert bracket(value, low, high) == expected
