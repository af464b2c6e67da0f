"""What a sweep cost: totals, stages, and the dearest trials; what is not recorded is not made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.report.costs import costs
from analysis.report.load import Sweep

STAGE = {"kind": "tokenizer", "done": 3, "failed": 1, "running": 0, "new": 0, "seconds": 7200.0, "gpu_seconds": 3600.0}


def text_of(table: pd.DataFrame, **summary: Any) -> str:
    return costs(Sweep(Path("sizes"), "sizes", table, summary, None)).text()


def test_totals_and_price() -> None:
    table = pd.DataFrame({"train_images": [1e6, 3e6], "train_flops": [1e18, 2e18]})
    text = text_of(table, gpu_seconds=7200.0, cost_per_gpu_hour=2.5, stage_seconds=9000.0, stages=[STAGE])
    assert "2 GPU hours, 5 at 2.5 a GPU hour, 2 h 30 min of work in all stages" in text
    assert "4 M training images, 3000 P training FLOPs" in text
    assert "counted once" in text
    assert "No GPU was used" not in text


def test_a_training_that_trials_share_is_counted_once() -> None:
    rows = [(2, 0, 0.1, 50.0), (2, 0, 0.2, 50.0), (2, 1, 0.1, 50.0), (4, 0, None, None)]
    table = pd.DataFrame(
        rows, columns=["tokenizer.patch", "seed", "decoder_finetune.losses.gan.weight", "finetune_images"]
    )
    text = text_of(table.assign(train_images=1000.0))
    assert "3,000 training images, 150 training images of second stages" in text


def test_stages_by_kind() -> None:
    text = text_of(pd.DataFrame(), stages=[STAGE, {"kind": "probe", "done": 3}])
    assert "tokenizer31002 h1" in text
    assert "probe3\N{EN DASH}\N{EN DASH}\N{EN DASH}\N{EN DASH}\N{EN DASH}" in text, "what is not known is a dash"


def test_a_sweep_on_processors_says_so() -> None:
    text = text_of(pd.DataFrame({"train_images": [8000.0]}), stage_seconds=60.0, gpu_seconds=0.0)
    assert "No GPU was used." in text
    assert "GPU hours" not in text.split("Stages")[0]


def test_the_dearest_trials_come_first_with_their_share() -> None:
    table = pd.DataFrame({"label": ["a", "b", "c"], "wall_seconds": [60.0, 180.0, 0.0]})
    text = text_of(table)
    assert text.index("b: 3 min, 75 %") < text.index("a: 1 min, 25 %")


def test_a_trial_that_has_not_got_that_far_has_no_time_and_no_part_in_the_shares() -> None:
    text = text_of(pd.DataFrame({"label": ["a", "b", "lost"], "wall_seconds": [60.0, 180.0, float("nan")]}))
    assert "b: 3 min, 75 %" in text
    assert "lost" not in text


def test_nothing_recorded() -> None:
    assert text_of(pd.DataFrame()).count("Not recorded.") == 2
