"""The report's sentences claim no more than their points carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.report.answers import sentences
from analysis.report.load import Sweep, load_sweep
from analysis.report.prose import limits, what_was_run
from analysis.report.questions import ask


def said(table: pd.DataFrame) -> dict[str, str]:
    return {k: v.replace("\N{NO-BREAK SPACE}", " ") for k, v in sentences(table, ask(table))}


def sweep_of(root: Path, table: pd.DataFrame) -> Sweep:
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


def test_kinds_are_compared_between_neighbours_and_decoder_by_decoder() -> None:
    """Curves that bend: at 2^6 bits KL stands between (5, 20) and (7, 26), FSQ between (4, 18) and (8, 26)."""
    kl = {3: 19.0, 5: 20.0, 7: 26.0, 9: 26.5}
    fsq = {3: 10.0, 4: 18.0, 8: 26.0, 9: 60.0}
    table = pd.DataFrame([
        row(kind, i + 1, decoder, 2.0**log_rate, psnr + offset)
        for kind, curve in (("kl", kl), ("fsq", fsq))
        for decoder, offset in (("S", 0.0), ("B", 5.0))
        for i, (log_rate, psnr) in enumerate(curve.items())
    ])  # fmt: skip
    sentence = said(table)["Kinds of bottleneck"]
    assert "At equal rate (64 bits per image" in sentence
    assert "KL scores 1 dB PSNR more than FSQ" in sentence
    assert "by interpolation, mean over 2 pairs of equal encoder, decoder and seed; one seed, no interval" in sentence
    assert "[" not in sentence
    # An unpaired decoder of one kind moves nothing.
    alone = table[~((table["bottleneck"] == "fsq") & (table["decoder"] == "B"))]
    assert (
        "KL scores 1 dB PSNR more than FSQ (by interpolation; one seed, no interval)"
        in said(alone)["Kinds of bottleneck"]
    )


def test_kinds_without_common_rates_are_not_compared() -> None:
    table = pd.DataFrame(
        [row("kl", s, "S", 2.0**s, 20.0 + s) for s in (1, 2, 3)]
        + [row("fsq", s, "S", 2.0**s, 9.0 + s) for s in (4, 5, 6)]
    )
    assert "Kinds of bottleneck" not in said(table)


def test_limits_of_the_rate_and_of_generated_images(tmp_path: Path) -> None:
    more = {"gfd": 3.0, "data.classes": 10, "generation.images": 2048}
    table = pd.DataFrame([row("fsq", s, "S", 10.0 * s, 20.0, **more) for s in (2, 4)])
    lines = " ".join(limits(sweep_of(tmp_path, table)))
    assert "upper bound for every bottleneck" in lines
    assert "up to log2(10) = 3.3 bits per image more" in lines
    assert "(2,048 generated) and compare only at equal numbers" in lines


def test_parameters_that_vary_within_a_preset_are_about(tmp_path: Path) -> None:
    rows = [row("kl", s, "S", 10.0 * s, 20.0, decoder_params=4e5 + 1e4 * s) for s in (2, 4)]
    rows += [row("kl", s, "B", 10.0 * s, 20.0) for s in (2, 4)]
    text = what_was_run(sweep_of(tmp_path, pd.DataFrame(rows)))
    assert "S (about 430 k parameters)" in text
    assert "B (2 M parameters)" in text
