"""A measure against size: equal to an ordinary regression, strata to one with levels of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.published_tables import published
from analysis.questions import SizeEffect, size_effect
from analysis.questions.size import slope_of
from tokscale.errors import TableError, UsageError


def asked(table: pd.DataFrame, y: str, size: str, **more: object) -> SizeEffect:
    found = size_effect(table, y, size, **more)  # type: ignore[arg-type]
    assert isinstance(found, SizeEffect)
    return found


def test_one_stratum_is_the_usual_regression() -> None:
    rng = np.random.default_rng(0)
    x = np.geomspace(1e7, 1e9, 9)
    table = pd.DataFrame({"tokenizer_params": x, "gfid": np.exp(3 - 0.05 * np.log2(x) + rng.normal(0, 0.05, 9))})
    found = asked(table, "gfid", "tokenizer_params", level=0.9)
    reference = stats.linregress(np.log2(x), np.log(table["gfid"]))
    half = stats.t.ppf(0.95, 7) * reference.stderr
    assert found.per_doubling.value == pytest.approx(reference.slope, rel=1e-9)
    assert found.per_doubling.p == pytest.approx(reference.pvalue, rel=1e-9)
    assert found.per_doubling.high == pytest.approx(reference.slope + half, rel=1e-9)
    one = asked(table, "gfid", "tokenizer_params", alternative="worse")
    assert one.per_doubling.p == pytest.approx(stats.linregress(np.log2(x), np.log(table["gfid"]),
                                                                 alternative="greater").pvalue)  # fmt: skip
    assert one.verdict == "unresolved"
    assert "one-sided p" in one.sentence()


def test_strata_are_levels_of_their_own() -> None:
    rng = np.random.default_rng(1)
    rows = [(f"t{d}{c}", d * 1e6, c, 20 + 2 * np.log2(c) + 0.3 * np.log2(d) + rng.normal(0, 0.1))
            for d in (10, 30, 100) for c in (4, 8, 16, 32)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["trial", "decoder_params", "tokenizer.bottleneck.channels", "psnr"])
    found = asked(table, "psnr", "decoder_params")
    levels = pd.get_dummies(table["tokenizer.bottleneck.channels"]).to_numpy(dtype=float)
    design = np.column_stack([np.log2(table["decoder_params"]), levels])
    solution, cost, _, _ = np.linalg.lstsq(design, table["psnr"], rcond=None)
    error = np.sqrt(cost[0] / 7 * np.linalg.inv(design.T @ design)[0, 0])
    assert found.per_doubling.value == pytest.approx(solution[0])
    assert found.per_doubling.high == pytest.approx(solution[0] + stats.t.ppf(0.975, 7) * error)
    assert (found.held, found.strata, found.n, found.verdict) == (("tokenizer.bottleneck.channels",), 4, 12, "better")
    pooled = asked(table, "psnr", "decoder_params", within=())
    assert pooled.per_doubling.value == pytest.approx(stats.linregress(design[:, 0], table["psnr"]).slope)
    assert pooled.verdict == "unresolved"


def test_what_goes_along_with_size_is_named() -> None:
    sizes, rates = [1e7, 3e7, 1e8, 3e8], [4e-4, 2e-4, 1e-4, 5e-5]
    table = pd.DataFrame({"trial": list("abcd"), "encoder": ["S", "B", "L", "XL"], "training.lr": rates,
                          "tokenizer_params": sizes, "psnr": [20.0, 21.1, 21.9, 23.0]})  # fmt: skip
    found = asked(table, "psnr", "tokenizer_params")
    assert found.along == ("training.lr",)
    assert found.held == ()
    assert any("training.lr changes along" in warning for warning in found.warnings)


def test_seeds_are_one_configuration() -> None:
    rng = np.random.default_rng(2)
    table = pd.DataFrame([(f"{x}{s}", s, x, 20 + x + rng.normal()) for x in (1, 2, 4, 8) for s in range(5)],
                         columns=["trial", "seed", "tokenizer_params", "psnr"])  # fmt: skip
    found = asked(table, "psnr", "tokenizer_params")
    assert (found.n, found.per_doubling.freedom) == (4, 2)


def test_groups_are_asked_apart() -> None:
    table = published("gigatok_fig3_fig7_semreg_scaling")
    found = size_effect(table, "ar_probe_gFID", "params_M", by="semantic_regularization")
    assert isinstance(found, list)
    assert [one.group["semantic_regularization"] for one in found] == ["with (lambda 0.5)", "without"]
    assert [np.sign(one.per_doubling.value) for one in found] == [-1, 1]


def test_sizes_that_differ_by_a_bottleneck_alone_are_one_size() -> None:
    """Channels move the parameters of a decoder by a percent: no slope per doubling comes from that."""
    table = pd.DataFrame({"trial": list("abc"), "tokenizer.bottleneck.channels": [4, 8, 16],
                          "decoder_params": [1e6, 1.002e6, 1.006e6], "psnr": [20.0, 22.0, 24.0]})  # fmt: skip
    with pytest.raises(TableError, match="differ in size"):
        size_effect(table, "psnr", "decoder_params")


def test_sizes_that_a_patch_moves_are_no_scaling_of_encoders() -> None:
    """The embedding of a small encoder's patches is as large as its blocks: the effect would be the patch's."""
    table = pd.DataFrame({"trial": list("abcd"), "encoder": "nano", "tokenizer.encoder.width": 64,
                          "tokenizer.patch": [4, 4, 16, 16], "tokenizer.bottleneck.channels": [4, 8, 4, 8],
                          "encoder_params": [54e3, 54e3, 98e3, 98e3], "psnr": [24.0, 26.0, 19.0, 20.0]})  # fmt: skip
    with pytest.raises(TableError, match=r"changes only because tokenizer\.patch does"):
        size_effect(table, "psnr", "encoder_params")
    assert size_effect(table, "psnr", "encoder_params", within=[]).verdict == "worse", "whoever names columns is heard"


def test_errors_name_what_cannot_be_asked() -> None:
    table = pd.DataFrame({"tokenizer_params": [1e7, 1e7], "psnr": [1.0, 2.0], "mystery": [1.0, 2.0]})
    with pytest.raises(TableError, match="no two rows that are equal otherwise differ in size"):
        size_effect(table, "psnr")
    with pytest.raises(UsageError, match="which way is this measure better"):
        size_effect(table, "mystery")
    with pytest.raises(TableError, match="no such column"):
        size_effect(table, "psnr", "decoder_params")
    with pytest.raises(UsageError, match="no such alternative"):
        size_effect(table, "psnr", alternative="less")  # type: ignore[arg-type]


def test_vitok_decoder_helps_reconstruction_and_encoder_is_not_resolved() -> None:
    """Section 3.3's claim from its own seven points: PSNR by the decoder; of the encoder they cannot tell."""
    table = published("vitok_fig6to9_encoder_decoder_sweep")
    assert asked(table, "PSNR", "dec_params_M").verdict == "better"
    for y in ("rFID", "PSNR", "SSIM", "gFID_cfg1.5", "gFID_cfg3.0"):
        assert asked(table, y, "enc_params_M").verdict == "unresolved"
    # At equal encoder even the decoder's effect on rFID is not resolved: it is carried by the small encoder alone.
    assert asked(table, "rFID", "dec_params_M").verdict == "unresolved"
    assert asked(table, "rFID", "dec_params_M", within=()).verdict == "better"


@pytest.mark.parametrize("strata", [1, 3])
def test_the_interval_covers(strata: int) -> None:
    rng = np.random.default_rng(strata)
    sizes = np.tile([1.0, 2.0, 4.0, 8.0], strata)
    stratum = np.repeat(np.arange(strata), 4)
    covered = wrong = 0
    for _ in range(400):
        y = rng.normal(0, 5, strata)[stratum] + rng.normal(0, 1, 4 * strata)
        one = slope_of(sizes, y, stratum, "size", 0.95).estimate
        assert one.low is not None
        assert one.high is not None
        covered += one.low <= 0 <= one.high
        wrong += one.p is not None and one.p < 0.05
    assert 0.915 < covered / 400 < 0.98
    assert wrong == 400 - covered
