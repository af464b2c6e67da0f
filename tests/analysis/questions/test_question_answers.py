"""Every answer says itself: JSON without NaN, and one sentence with its evidence."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from analysis import questions
from analysis.published_tables import published
from analysis.questions import Answer
from analysis.questions.measures import better_of, frechet, on_log_scale
from analysis.questions.settings import same, settings
from tokscale.errors import TableError

SWEEP, FIG5 = "vitok_fig6to9_encoder_decoder_sweep", "vitok_fig5_generation_vs_E"
SEMREG = "gigatok_fig3_fig7_semreg_scaling"
PARTS = ("enc_params_M", "dec_params_M")

ASKED: dict[str, Callable[[], Answer]] = {
    "size": lambda: questions.size_effect(published(SWEEP), "rFID", "dec_params_M"),  # type: ignore[dict-item,return-value]
    "paired": lambda: questions.paired_effect(published(SWEEP), "PSNR", "decoder", "S", "L"),
    "cure": lambda: questions.cure(published(SEMREG), "ar_probe_gFID", "params_M", "semantic_regularization", "without",
                                   "with (lambda 0.5)"),
    "best": lambda: questions.best_bottleneck(published(FIG5), "gFID_cfg1.5", "E", ["patch"])[0],
    "shift": lambda: questions.optimum_shift(
        questions.best_bottleneck(published(FIG5), "gFID_cfg1.5", "E", ["patch"]), "patch"),
    "spend": lambda: questions.where_to_spend(published(SWEEP), "rFID", 100, PARTS),
    "frontier": lambda: questions.iso_frontier(published(SWEEP), "rFID", "total_params_M", PARTS),
    "pareto": lambda: questions.pareto_front(published(FIG5), "rFID_of_tokenizer", "gFID_cfg1.5"),
    "rates": lambda: questions.rate_distortion(published("vitok_fig20_masking"), "PSNR", "E", "model"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_is_plain_json_and_a_sentence(name: str) -> None:
    answer = ASKED[name]()
    content = json.loads(json.dumps(answer.to_json(), allow_nan=False))
    assert content["sentence"] == answer.sentence()
    assert answer.sentence().endswith(".")
    assert any(character.isdigit() for character in answer.sentence())
    with pytest.raises(AttributeError):
        answer.y = "other"  # type: ignore[attr-defined]


SPOILT: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "missing": lambda table: table.assign(rFID=np.nan, PSNR=np.nan),
    "text": lambda table: table.assign(rFID="good", PSNR="better"),
    "negative": lambda table: table.assign(rFID=-1.0, PSNR=np.inf),
    "empty": lambda table: table.iloc[:0],
    "no column": lambda table: table.drop(columns=["rFID", "PSNR", "encoder"]),
}  # fmt: skip


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_table_that_cannot_be_asked_says_so(spoilt: str) -> None:
    table = SPOILT[spoilt](published(SWEEP))
    for ask in (
        lambda: questions.size_effect(table, "rFID", "enc_params_M", by="encoder"),
        lambda: questions.size_effect(table, "PSNR", "enc_params_M"),
        lambda: questions.where_to_spend(table, "rFID", 100, PARTS),
        lambda: questions.iso_frontier(table, "rFID", "total_params_M", PARTS),
    ):
        with pytest.raises(TableError):
            ask()


def test_words_of_names_tell_measures() -> None:
    assert [frechet(name) for name in ("gFID_cfg1.5", "ar_probe_gFID", "rFID_of_tokenizer", "rfd", "psnr", "confidence")
            ] == ["gfid", "gfid", "rfid", "rfd", None, None]  # fmt: skip
    assert [better_of(name) for name in ("PSNR", "gIS_cfg3.0", "lin_acc_pct")] == ["higher"] * 3
    assert [better_of(name) for name in ("val_loss", "LPIPS", "train_flops")] == ["lower"] * 3
    assert [on_log_scale(name) for name in ("gFID_cfg1.5", "mse", "ar_bits_per_image", "psnr", "ar_loss")] == [
        True, True, True, False, False]  # fmt: skip


def test_settings_are_what_was_chosen_and_varies() -> None:
    table = pd.DataFrame({
        "model": ["a", "b"], "encoder": ["S", "B"], "layers": [1, 2], "seed": [0, 1], "dropout": [0.1, 0.2],
        "patch": [16, 16], "psnr": [20, 21], "source": ["x", "y"],
    })  # fmt: skip
    assert settings(table, ("psnr",)) == ["encoder", "layers"]
    results = table.assign(**{"trial": ["t1", "t2"], "training.lr": [1e-3, 1e-4], "tokenizer_params": [1, 2]})
    assert settings(results, ("psnr",)) == ["encoder", "training.lr"]


def test_values_are_told_as_numbers_or_text() -> None:
    assert same(pd.Series([0.5, 1.0, np.nan]), "0.5").tolist() == [True, False, False]
    assert same(pd.Series([0.5, 1.0, np.nan]), None).tolist() == [False, False, True]
    assert same(pd.Series(["S", "B", None]), "S").tolist() == [True, False, False]
    assert same(pd.Series([True, False]), True).tolist() == [True, False]
