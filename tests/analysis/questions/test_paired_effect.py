"""What one setting changes: equal to the paired t test, over pairs that differ in nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.questions import PairedEffect, paired_effect
from tokscale.errors import TableError, UsageError


def trials(effect: float, noise: float, seed: int, seeds: int = 2, sizes: int = 5) -> pd.DataFrame:
    """Decoders S and B at several bottleneck sizes and seeds; B has ``effect`` dB more."""
    rng = np.random.default_rng(seed)
    rows = [
        {"trial": f"{decoder}{size}{s}", "seed": s, "decoder": decoder, "tokenizer.decoder.width": width,
         "decoder_params": width * 1e4, "tokenizer.bottleneck.channels": 2**size, "training.lr": 1e-3,
         "psnr": 20 + 2 * size + (effect if decoder == "B" else 0.0) + rng.normal(0, noise)}
        for decoder, width in (("S", 64), ("B", 128)) for size in range(sizes) for s in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1.0, random_state=seed)


def test_one_seed_is_the_paired_t_test() -> None:
    table = trials(0.3, 0.2, seed=3, seeds=1, sizes=8)
    found = paired_effect(table, "psnr", "decoder", "S", "B", level=0.9)
    wide = table.pivot_table(index="tokenizer.bottleneck.channels", columns="decoder", values="psnr")
    reference = stats.ttest_rel(wide["B"], wide["S"])
    ends = reference.confidence_interval(0.9)
    assert found.effect.p == pytest.approx(reference.pvalue, rel=1e-9)
    assert (found.effect.low, found.effect.high) == pytest.approx((ends.low, ends.high), rel=1e-9)
    assert (found.n, found.pairs, found.over) == (8, 8, "configurations")


@pytest.mark.parametrize(("alternative", "reference"), [("better", "greater"), ("worse", "less")])
def test_one_sided_p_values(alternative: str, reference: str) -> None:
    table = trials(0.1, 0.2, seed=5, seeds=1, sizes=8)
    found = paired_effect(table, "psnr", "decoder", "S", "B", alternative=alternative)  # type: ignore[arg-type]
    wide = table.pivot_table(index="tokenizer.bottleneck.channels", columns="decoder", values="psnr")
    assert found.effect.p == pytest.approx(stats.ttest_rel(wide["B"], wide["S"], alternative=reference).pvalue)


def test_seeds_are_averaged_to_configurations_and_widths_go_along() -> None:
    table = trials(0.5, 0.1, seed=1, seeds=3)
    found = paired_effect(table, "psnr", "decoder", "S", "B")
    means = table.groupby(["tokenizer.bottleneck.channels", "decoder"])["psnr"].mean().unstack()
    assert sorted(found.differences) == pytest.approx(sorted(means["B"] - means["S"]))
    assert (found.n, found.pairs) == (5, 15)
    assert found.along == ("tokenizer.decoder.width",)
    assert found.equal == ("tokenizer.bottleneck.channels",)
    assert found.verdict == "better"


def test_one_configuration_stands_on_its_seeds() -> None:
    table = trials(0.5, 0.1, seed=1, seeds=4, sizes=1)
    found = paired_effect(table, "psnr", "decoder", "S", "B")
    assert (found.over, found.n) == ("seeds", 4)
    assert "4 pairs of seeds" in found.sentence()


def test_pairs_share_their_seed_unless_they_have_none_in_common() -> None:
    table = trials(0.0, 0.0, seed=1, seeds=2, sizes=2).assign(
        psnr=lambda t: 10.0 * t["seed"] + (t["decoder"] == "B") * 1.0
    )
    lonely = table[~((table["decoder"] == "S") & (table["seed"] == 1))]
    assert paired_effect(lonely, "psnr", "decoder", "S", "B").differences == pytest.approx((1.0, 1.0))
    apart = table.assign(seed=lambda t: t["seed"] + 2 * (t["decoder"] == "B"))
    assert paired_effect(apart, "psnr", "decoder", "S", "B").differences == pytest.approx((1.0, 1.0))


def test_rows_that_differ_in_another_setting_are_no_pair() -> None:
    table = trials(0.5, 0.1, seed=1, seeds=1)
    odd = table.copy()
    odd.loc[(odd["decoder"] == "B") & (odd["tokenizer.bottleneck.channels"] == 4), "training.lr"] = 1e-4
    found = paired_effect(odd, "psnr", "decoder", "S", "B")
    assert found.n == 4
    assert any("without a counterpart" in warning for warning in found.warnings)
    assert paired_effect(odd, "psnr", "decoder", "S", "B", match=["tokenizer.bottleneck.channels"]).n == 5


def test_frechet_distances_change_by_a_share() -> None:
    table = trials(0.0, 0.0, seed=1).assign(gfid=lambda t: np.where(t["decoder"] == "B", 8.0, 10.0) + 0 * t["psnr"])
    table["gfid"] *= table["tokenizer.bottleneck.channels"]
    found = paired_effect(table, "gfid", "decoder", "S", "B")
    assert found.relative
    assert np.expm1(found.effect.value) == pytest.approx(-0.2)
    assert found.verdict == "better"
    assert "-20" in found.sentence()


def test_different_features_are_refused() -> None:
    table = trials(0.0, 0.1, seed=1).rename(columns={"psnr": "gfid_cfg1.5"})
    table["features"] = np.where(table["decoder"] == "B", "dinov2-b", "inception-tf2015")
    with pytest.raises(TableError, match="different features"):
        paired_effect(table, "gfid_cfg1.5", "decoder", "S", "B")


def test_no_pair_and_no_such_value_are_told() -> None:
    table = trials(0.5, 0.1, seed=1, seeds=1)
    table.loc[table["decoder"] == "B", "training.lr"] = np.geomspace(1e-4, 5e-4, 5)
    with pytest.raises(TableError, match=r"no two rows differ in decoder alone(.|\n)*training\.lr"):
        paired_effect(table, "psnr", "decoder", "S", "B")
    with pytest.raises(TableError, match="no row has this value of decoder"):
        paired_effect(table, "psnr", "decoder", "S", "L")
    with pytest.raises(UsageError, match="did you mean"):
        paired_effect(trials(0, 1, 1), "psnr", "decoder", "S", "B", over="seed")  # type: ignore[arg-type]


def test_a_single_pair_resolves_nothing() -> None:
    found = paired_effect(trials(0.5, 0.1, seed=1, seeds=1, sizes=1), "psnr", "decoder", "S", "B")
    assert (found.verdict, found.effect.p, found.effect.low) == ("unresolved", None, None)
    assert "one pair resolves nothing" in found.sentence()


def test_no_effect_is_unresolved_in_about_95_percent() -> None:
    def ask(seed: int) -> PairedEffect:
        return paired_effect(trials(0.0, 0.3, seed=seed, seeds=1, sizes=4), "psnr", "decoder", "S", "B")

    wrong = sum(ask(seed).verdict != "unresolved" for seed in range(40))
    assert wrong <= 7  # binomial(40, .05): 99.9 % within
