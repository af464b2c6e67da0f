"""Sweeps over the size of tokenizers that all have one bottleneck: curves of the tokenizer's size, aligned and not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.figures.references import references
from analysis.questions import Cure, PairedEffect
from analysis.report.decisions import decisions
from analysis.report.drawing import Drawing
from analysis.report.load import load_sweep
from analysis.report.questions import SIZE, ask

SIZES = (1e6, 4e6, 16e6)


@pytest.fixture
def ladder() -> pd.DataFrame:
    """Three sizes, aligned or not, of three seeds: PSNR gains 1 dB a doubling, the rate 10 % where nothing aligns."""
    noise = np.random.default_rng(0)
    rows = []
    for seed in range(3):
        for weight in (0.0, 0.5):
            for size in SIZES:
                doublings = np.log2(size / SIZES[0])
                bits = 300 * 1.1 ** (doublings * (weight == 0)) * np.exp(noise.normal(0, 0.005))
                rows.append({
                    "sweep": "ladder", "trial": f"t{len(rows)}", "label": f"{size:g}", "status": "done", "seed": seed,
                    "encoder": f"e{size:g}", "decoder": "d", "bottleneck": "vq", "bottleneck_floats": 512,
                    "bottleneck_bits": 512.0, "codebook_size": 256, "encoder_params": size / 2,
                    "decoder_params": size / 2, "tokenizer_params": size, "dataset": "procedural",
                    "features": "random-conv", "psnr": 20 + doublings + noise.normal(0, 0.01),
                    "ar_bits_per_image": bits, "ar_loss": bits * np.log(2) / 64, "losses.semantic.weight": weight,
                    "tokenizer.encoder.width": int(size / 1e5), "seconds": 1.0,
                })  # fmt: skip
    return pd.DataFrame(rows)


def test_measures_are_asked_against_the_tokenizers_size_aligned_and_not(ladder: pd.DataFrame) -> None:
    answers = {answer.question.y: answer for answer in ask(ladder) if answer.question.x == SIZE}
    psnr = dict(answers["psnr"].fits)
    assert list(psnr) == ["semantic weight 0", "semantic weight 0.5"]
    assert all(fit.n == 3 for fit in psnr.values())
    assert all(fit.parameters["slope"].value == pytest.approx(1.0, abs=0.02) for fit in psnr.values())
    rates = [fit.parameters["exponent"].value for _, fit in answers["ar_loss"].fits]
    assert rates == pytest.approx([-np.log2(1.1), 0.0], abs=0.01)


def test_a_second_bottleneck_makes_its_size_the_question_again(ladder: pd.DataFrame) -> None:
    ladder.loc[0, "bottleneck_bits"] = 1024.0
    assert not any(answer.question.x == SIZE for answer in ask(ladder))


def test_a_patch_that_moves_parameters_makes_no_question_of_size() -> None:
    noise = np.random.default_rng(1)
    rows = [
        {"trial": f"{patch}{channels}", "encoder": "nano", "decoder": "nano", "bottleneck": "kl", "status": "done",
         "bottleneck_channels": channels, "bottleneck_floats": 1024 * channels // patch**2, "tokenizer.patch": patch,
         "tokenizer.encoder.width": 64, "tokenizer.decoder.width": 64, "tokenizer.bottleneck.channels": channels,
         "encoder_params": 5e4 + 200.0 * patch**2, "decoder_params": 5e4 + 200.0 * patch**2,
         "tokenizer_params": 1e5 + 400.0 * patch**2, "psnr": 15 + 2 * np.log2(channels) + noise.normal(0, 0.1)}
        for patch in (4, 8, 16) for channels in (4, 8, 16)
    ]  # fmt: skip
    found = decisions(pd.DataFrame(rows))
    assert not [one.heading for one in found if "size" in one.heading or "budget" in one.heading]
    equal = pd.DataFrame(rows).assign(bottleneck_floats=256)
    assert not any(answer.question.x == SIZE for answer in ask(equal))


def test_the_page_draws_them(tmp_path, ladder: pd.DataFrame) -> None:
    folder = tmp_path / "runs" / "sweeps" / "ladder"
    folder.mkdir(parents=True)
    ladder.to_parquet(folder / "results.parquet")
    figures = folder / "report" / "figures"
    figures.mkdir(parents=True)
    for name in ("encoder-decoder-psnr.svg", "encoder-decoder-psnr.png", "picture.svg"):
        (figures / name).write_text("of an earlier report")
    drawn = Drawing(load_sweep(folder)).all(ask(ladder), [], ["gigatok"])
    assert {path.name for path in figures.iterdir()} >= {"picture.svg", "overview.svg", "psnr-tokenizer_params.png"}
    assert not (figures / "encoder-decoder-psnr.svg").exists(), "this report does not draw it"
    names = [one.name for one in (*drawn["reconstruction discrete"], *drawn["generation discrete"])]
    assert {"psnr-tokenizer_params", "ar_loss-tokenizer_params"} <= set(names)


def test_gigatoks_points_lie_under_ones_own_where_features_are_the_same(ladder: pd.DataFrame) -> None:
    plain, aligned = references(["gigatok"], ladder, SIZE, "ar_linear_accuracy")
    assert plain.x.tolist() == aligned.x.tolist() == [136e6, 232e6, 622e6]
    assert plain.y.tolist() == pytest.approx([0.4338, 0.4429, 0.3684])
    assert (aligned.y > plain.y).all()
    assert references(["gigatok"], ladder, SIZE, "rfid") == [], "other features"
    alike = ladder.assign(features="inception-tf2015", rfid=1.0)
    assert [len(one.x) for one in references(["gigatok"], alike, SIZE, "rfid")] == [3, 3]


def test_the_page_says_what_alignment_does_and_whether_it_mends(ladder: pd.DataFrame) -> None:
    """The rate grows by a tenth a doubling where nothing is aligned, and not at all where it is."""
    said = [answer for one in decisions(ladder) if one.heading == "Semantic regularisation" for answer in one.answers]
    pairs = {answer.y: answer for answer in said if isinstance(answer, PairedEffect)}
    assert set(pairs) == {"psnr", "ar_loss"}
    assert pairs["psnr"].verdict == "unresolved"
    nats = 300 * np.log(2) / 64
    gained = np.mean([1 - 1.1**doublings for doublings in (0, 2, 4)])
    assert pairs["ar_loss"].effect.value == pytest.approx(nats * gained, abs=0.03)
    (mended,) = [answer for answer in said if isinstance(answer, Cure)]
    assert mended.outcome in ("cured", "eased")
