"""The front of two measures, and the probability to be on it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.published_tables import published
from analysis.questions import pareto_front
from analysis.questions.pareto import non_dominated
from tokscale.errors import TableError


def test_non_dominated_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 6, (40, 12, 2)).astype(float)
    found = non_dominated(points)
    for one, on in zip(points, found, strict=True):
        brute = [not any((other <= place).all() and (other < place).any() for other in one) for place in one]
        assert on.tolist() == brute


def trials(seeds: int, noise: float, seed: int, gap: float = 0.0) -> pd.DataFrame:
    """Four configurations in a row of falling PSNR and falling rate, and one that is worse than another by ``gap``."""
    rng = np.random.default_rng(seed)
    truth = [(20.0, 100.0), (22.0, 200.0), (24.0, 400.0), (26.0, 800.0), (24.0 - gap, 400.0 * np.exp(gap))]
    return pd.DataFrame([
        {"trial": f"{i}{s}", "label": f"t{i}", "tokenizer.patch": i, "seed": s, "psnr": psnr + rng.normal(0, noise),
         "ar_bits_per_image": rate * np.exp(rng.normal(0, noise / 10))}
        for i, (psnr, rate) in enumerate(truth) for s in range(seeds)
    ])  # fmt: skip


def test_far_apart_is_certain() -> None:
    found = pareto_front(trials(3, 0.05, 0, gap=1.0), "ar_bits_per_image", "psnr")
    assert {member.name for member in found.front} == {"t0", "t1", "t2", "t3"}
    assert {member.name for member in found.certain} == {"t0", "t1", "t2", "t3"}
    assert not found.possible
    assert (found.noise, found.freedom, found.better) == ("seeds", 10, ("lower", "higher"))
    assert found.members[0].y == pytest.approx(20, abs=0.2)


def test_a_setting_tells_configurations_of_one_label_apart() -> None:
    table = trials(3, 0.05, 0, gap=1.0)
    under = table.assign(**{"probe.kind": np.where(table["label"] == "t1", "diffusion", "autoregressive")})
    twins = under.assign(label=table["label"].replace("t1", "t0"))
    names = {member.name for member in pareto_front(twins, "ar_bits_per_image", "psnr").members}
    assert {"t0, tokenizer.patch 0", "t0, tokenizer.patch 1"} <= names
    alike = twins.drop(columns="tokenizer.patch")
    names = {member.name for member in pareto_front(alike, "ar_bits_per_image", "psnr").members}
    assert {"t0, probe.kind autoregressive", "t0, probe.kind diffusion"} <= names


def test_equal_configurations_share_the_chance() -> None:
    """Two configurations of the same true means: each is ahead in both with 1/4, behind in both with 1/4."""
    fronts = [pareto_front(trials(4, 0.2, seed), "ar_bits_per_image", "psnr") for seed in range(20)]
    shares = [{member.name: member.probability for member in front.members} for front in fronts]
    twins = np.array([[one["t2"], one["t4"]] for one in shares], dtype=float)
    assert twins.mean() == pytest.approx(0.75, abs=0.1)


def test_probabilities_repeat_and_order_of_rows_does_not_matter_for_the_front() -> None:
    table = trials(3, 0.5, 1)
    first, second = (pareto_front(table, "ar_bits_per_image", "psnr") for _ in range(2))
    assert first == second
    shuffled = pareto_front(table.sample(frac=1, random_state=1), "ar_bits_per_image", "psnr")
    assert {m.name for m in shuffled.front} == {m.name for m in first.front}


def test_without_seeds_the_noise_is_that_about_a_curve_or_none() -> None:
    table = published("vitok_fig5_generation_vs_E")
    bare = pareto_front(table, "rFID_of_tokenizer", "gFID_cfg1.5")
    assert (len(bare.front), bare.noise) == (4, None)
    assert "unknown" in bare.sentence()
    assert all(member.probability is None for member in bare.members)
    found = pareto_front(table, "rFID_of_tokenizer", "gFID_cfg1.5", size="E")
    assert found.noise == "residuals of a parabola in log E"
    assert found.freedom == 11
    # Of the four on the front only the largest bottleneck is on it for certain.
    assert [member.x for member in found.certain] == [pytest.approx(0.0788)]


def test_sizes_have_no_noise() -> None:
    table = trials(3, 0.05, 0).assign(tokenizer_params=lambda t: 1e6 * 2 ** t["tokenizer.patch"])
    found = pareto_front(table, "tokenizer_params", "psnr")
    assert {member.name for member in found.certain} == {"t0", "t1", "t2", "t3"}


def test_different_features_are_refused() -> None:
    table = trials(2, 0.1, 0).assign(gfid=1.0, features=["a", "b"] * 5)
    with pytest.raises(TableError, match="different features"):
        pareto_front(table, "gfid", "psnr")
