"""A tokenizer's measures count once, however many probes stand on it."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis import fit
from analysis.questions.configurations import configurations
from analysis.shared import counted_once

TABLE = pd.DataFrame([
    {"trial": f"{kind} {floats} {seed}", "seed": seed, "bottleneck_floats": floats, "psnr": 10.0 + number + 0.1 * seed,
     "gfd": 5.0 + number, "tokenizer.patch": 8, "tokenizer.bottleneck.channels": floats // 64, "probe.kind": kind}
    for number, floats in enumerate([256, 512, 1024, 2048])
    for seed in (0, 1)
    for kind in ("autoregressive", "diffusion")
])  # fmt: skip


def test_intervals_are_those_of_the_table_without_the_second_probe() -> None:
    one = TABLE[TABLE["probe.kind"] == "diffusion"]
    both, alone = (fit(rows, x="bottleneck_floats", y="psnr", law="semilog") for rows in (TABLE, one))
    assert both.n == alone.n == 4
    assert both.parameters == alone.parameters
    assert "8 rows are of a tokenizer that stands in another row, and counts once" in both.warnings
    assert configurations(TABLE, ["bottleneck_floats"], "psnr", relative=False).y.shape == (4,)


def test_what_probes_measure_stays_theirs() -> None:
    for names in (["bottleneck_floats", "gfd"], ["psnr", "gfd_cfg1.5"], ["psnr", "probe.size.width"]):
        assert counted_once(TABLE, names)[0] is TABLE


def test_tokenizers_that_agree_by_chance_stay() -> None:
    chance = TABLE.assign(psnr=20.0)
    kept, notes = counted_once(chance, ["psnr"])
    assert len(kept) == 8
    assert len(notes) == 1
    only = TABLE[TABLE["probe.kind"] == "diffusion"]
    assert counted_once(only, ["psnr"])[0] is only


@pytest.mark.parametrize("missing", ["trial", "probe.kind"])
def test_other_tables_stay_as_they_are(missing: str) -> None:
    table = TABLE.drop(columns=missing)
    assert counted_once(table, ["psnr"])[0] is table
