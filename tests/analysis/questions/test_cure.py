"""The dilemma of larger tokenizers, and whether a setting mends it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.published_tables import published
from analysis.questions import cure, paired_effect, size_effect

SIZES = (1e8, 2e8, 4e8, 8e8)


def sweep(off: float, on: float, noise: float, seed: int, seeds: int = 3, shared: float = 0.0) -> pd.DataFrame:
    """ln gFID with slopes per doubling without and with alignment; seeds share ``shared`` noise between both."""
    rng = np.random.default_rng(seed)
    rows = []
    for place, size in enumerate(SIZES):
        for s in range(seeds):
            common = rng.normal(0, shared)
            for weight, slope in ((0.0, off), (0.5, on)):
                rows.append({"trial": f"{place}{s}{weight}", "seed": s, "tokenizer_params": size,
                             "tokenizer.encoder.depth": 2**place, "losses.alignment.weight": weight,
                             "losses.alignment.layer": 3 if weight else None,
                             "gfid": np.exp(2 - weight + slope * place + common + rng.normal(0, noise))})  # fmt: skip
    return pd.DataFrame(rows)


def ask(table: pd.DataFrame) -> str:
    return cure(table, "gfid", "tokenizer_params", "losses.alignment.weight", 0.0, 0.5).outcome


def test_the_outcomes() -> None:
    assert ask(sweep(0.1, -0.1, 0.01, 0)) == "cured"
    assert ask(sweep(0.2, 0.1, 0.01, 0)) == "eased"
    assert ask(sweep(0.1, 0.2, 0.01, 0)) == "aggravated"
    assert ask(sweep(-0.1, -0.2, 0.01, 0)) == "no dilemma"


def test_the_difference_is_a_regression_of_differences() -> None:
    table = sweep(0.1, -0.1, 0.05, 1, shared=0.5)
    found = cure(table, "gfid", "tokenizer_params", "losses.alignment.weight", 0.0, 0.5)
    logs = np.log(
        table.pivot_table(index=["tokenizer_params", "seed"], columns="losses.alignment.weight", values="gfid")
    )
    means = (logs[0.5] - logs[0.0]).groupby(level=0).mean()
    reference = stats.linregress(np.log2(means.index), means)
    assert found.difference.value == pytest.approx(reference.slope)
    assert found.difference.p == pytest.approx(reference.pvalue)
    assert found.n == 4
    assert found.along == ("losses.alignment.layer",)
    # What the noise of both sides has in common leaves the difference alone, and hides the slopes.
    assert found.verdict == "better"
    assert found.outcome == "no dilemma"


def test_without_an_effect_no_cure_is_found() -> None:
    outcomes = [ask(sweep(0.1, 0.1, 0.05, seed, seeds=1)) for seed in range(20)]
    assert sum(outcome in ("cured", "eased", "aggravated") for outcome in outcomes) <= 4


def test_gigatok_dilemma_is_not_carried_by_its_own_points() -> None:
    """Figures 3 and 7: six points, one run each. Of gFID neither the dilemma nor its cure is resolved; of the loss it
    is that larger is worse without regularisation; and at equal size regularisation makes generation better."""
    table = published("gigatok_fig3_fig7_semreg_scaling")
    setting, off, on = "semantic_regularization", "without", "with (lambda 0.5)"
    found = cure(table, "ar_probe_gFID", "params_M", setting, off, on)
    assert found.without.per_doubling.value > 0 > found.with_.per_doubling.value
    assert found.outcome == "no dilemma"
    assert "not resolved" in found.sentence()
    loss = cure(table, "ar_probe_val_loss", "params_M", setting, off, on)
    assert (loss.without.verdict, loss.outcome) == ("worse", "unresolved")
    assert paired_effect(table, "ar_probe_gFID", setting, off, on).verdict == "better"
    assert paired_effect(table, "LPIPS", setting, off, on).verdict == "unresolved"
    one_sided = size_effect(table, "ar_probe_gFID", "params_M", where=f"{setting} == 'without'", alternative="worse")
    assert not isinstance(one_sided, list)
    assert one_sided.verdict == "unresolved"
