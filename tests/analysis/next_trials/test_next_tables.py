"""From two tables to the trials to run next: starts, seeds, shared stages, failures, and words that are refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis.laws import law_named
from analysis.next_trials.answer import next_trials
from analysis.next_trials.target import read_target
from analysis.solver import problem
from tokscale.errors import TableError, UsageError

FLOATS = [256, 512, 1024, 2048, 4096, 8192, 16384]


def trials(floats: list[int], *, hours: float = 1.0, seed: int = 0, status: str = "new") -> pd.DataFrame:
    return pd.DataFrame(
        {"trial": [f"t{size}-{seed}" for size in floats], "seed": seed, "status": status, "bottleneck_floats": floats,
         "configuration": [f"c{size}" for size in floats], "gpu_hours": hours}
    )  # fmt: skip


def results(floats: list[int], noise: float = 0.1, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng([seed, len(floats)])
    rows = trials(floats, seed=seed, status="done").drop(columns="gpu_hours")
    return rows.assign(psnr=5 + 2 * np.log2(rows["bottleneck_floats"]) + noise * rng.standard_normal(len(rows)))


def test_the_measure_is_expected_to_be_known_better_after_each_trial() -> None:
    found = next_trials(results(FLOATS[:4]), trials(FLOATS[4:]), "psnr at bottleneck_floats=65536", budget=2)
    assert found.law is not None
    assert [step.sizes["bottleneck_floats"] for step in found.steps] == [16384, 8192]
    assert found.hours == 2
    assert found.low is not None
    ends = [(found.low, found.high), *((step.low, step.high) for step in found.steps)]
    widths = [high - low for low, high in ends if low is not None and high is not None]
    assert len(widths) == 3
    assert widths == sorted(widths, reverse=True)
    assert found.steps[-1].share == pytest.approx(widths[-1] / widths[0], rel=0.3)
    assert "narrow the interval of psnr at bottleneck_floats=65536" in found.sentence()
    json.dumps(found.to_json(), allow_nan=False)


def test_the_same_tables_give_the_same_answer() -> None:
    asked = (results(FLOATS[:5]), trials(FLOATS[5:]), "optimum of psnr over bottleneck_floats")
    assert next_trials(*asked, budget=5).to_json() == next_trials(*asked, budget=5).to_json()


def test_too_few_results_are_a_cheap_start_over_the_sizes() -> None:
    candidates = trials(FLOATS).assign(gpu_hours=np.sqrt(FLOATS))
    found = next_trials(pd.DataFrame(), candidates, "psnr at bottleneck_floats=65536", budget=1e4, law="semilog")
    assert found.law is None
    assert "too few to plan by" in found.sentence()
    chosen = [step.sizes["bottleneck_floats"] for step in found.steps]
    assert chosen[0] == 256  # the cheapest
    assert len(chosen) == 4  # two parameters, and two more
    assert max(chosen) >= 8192
    assert all(step.share is None and step.low is None for step in found.steps)


def test_a_start_counts_what_is_there_and_what_is_under_way() -> None:
    candidates = pd.concat([trials([512], status="running"), trials(FLOATS[2:])])
    found = next_trials(results([256]), candidates, "psnr at bottleneck_floats=65536", budget=100, law="semilog")
    assert len(found.steps) == 2
    assert any("under way" in words for words in found.warnings)


def test_what_failed_is_no_candidate_and_is_counted() -> None:
    candidates = pd.concat([trials([16384], status="failed"), trials([8192])])
    found = next_trials(results(FLOATS[:5]), candidates, "psnr at bottleneck_floats=65536", budget=10)
    assert [step.trial for step in found.steps] == ["t8192-0"]
    assert any("1 trials failed" in words for words in found.warnings)


def test_a_trial_whose_measure_is_there_teaches_nothing_more() -> None:
    known = results(FLOATS)
    left = trials(FLOATS[:2])  # their probes are still to be trained, say
    found = next_trials(known, left, "psnr at bottleneck_floats=65536", budget=10)
    assert found.steps == ()
    assert "no trial of the grid is left" in found.sentence()


def test_a_new_size_is_worth_more_than_a_further_seed_where_seeds_hardly_differ() -> None:
    known = pd.concat([results([size], noise=1e-3, seed=seed) for size in FLOATS[:4] for seed in (0, 1)])
    known["psnr"] += np.where(known["bottleneck_floats"].isin([512, 2048]), 0.4, -0.4)
    candidates = pd.concat([trials([2048], seed=2), trials([4096])])
    found = next_trials(known, candidates, "psnr at bottleneck_floats=2300", budget=1, law="semilog")
    assert [step.trial for step in found.steps] == ["t4096-0"]


def test_the_where_of_a_person_counts_for_results_and_candidates() -> None:
    known = pd.concat([results(FLOATS[:5]), results(FLOATS[:5], seed=1).assign(psnr=3.0)])
    found = next_trials(known, pd.concat([trials(FLOATS[5:]), trials(FLOATS[5:], seed=1)]),
                        "psnr at bottleneck_floats=65536", budget=10, law="semilog", where="seed == 0")  # fmt: skip
    assert {step.trial for step in found.steps} <= {"t8192-0", "t16384-0"}
    assert found.value is not None
    assert found.value > 30


def test_a_budget_too_small_says_what_the_cheapest_takes() -> None:
    found = next_trials(results(FLOATS[:5]), trials(FLOATS[5:], hours=7), "psnr at bottleneck_floats=65536", budget=2)
    assert "the cheapest candidate takes 7 GPU hours" in found.sentence()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("psnr", "says nothing"),
        ("psnr at bottleneck_floats", "each once"),
        ("psnr at bottleneck_floats=-3", "each once"),
        ("psnr at bottleneck_floats=0", "positive"),
        ("psnr at bottleneck_floats=1, bottleneck_floats=2", "each once"),
        ("slope of psnr", "says nothing"),
        ("wrong of psnr over bottleneck_floats", "no law has"),
    ],
)
def test_words_that_are_no_target_are_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        next_trials(results(FLOATS[:5]), trials(FLOATS[5:]), words, budget=1)


def test_what_does_not_go_together_is_refused() -> None:
    asked = (results(FLOATS[:5]), trials(FLOATS[5:]))
    with pytest.raises(UsageError, match="budget"):
        next_trials(*asked, "psnr at bottleneck_floats=1k", budget=0)
    with pytest.raises(UsageError, match="semilog has nothing"):
        next_trials(*asked, "optimum of psnr over bottleneck_floats", budget=1, law="semilog")
    with pytest.raises(TableError, match="did you mean 'psnr'"):
        next_trials(*asked, "psnrr at bottleneck_floats=1k", budget=1)
    with pytest.raises(UsageError, match="every column"):
        read_target("psnr at a=1", ["a", "b"])


def test_sizes_may_carry_a_suffix() -> None:
    assert read_target("psnr at encoder_params=100M, decoder_params=1.5G").at == (1e8, 1.5e9)
    assert str(read_target("gfd at bottleneck_floats=8k")) == "gfd at bottleneck_floats=8000"


@pytest.mark.parametrize(
    ("law", "parameters", "turn"),
    [
        ("quadratic", {"intercept": 40.0, "slope": -6.0, "curvature": 0.25}, 12.0),
        (
            "valley",
            {"floor": 1.0, "scale": 64.0, "exponent": 0.5, "rise_scale": 64 / 2**12, "rise_exponent": 0.5},
            12.0,
        ),
    ],
)
def test_the_slope_of_a_turning_point_is_that_of_differences(
    law: str, parameters: dict[str, float], turn: float
) -> None:  # fmt: skip
    form, x = law_named(law), np.array([FLOATS], dtype=float)
    task = problem(form, x, form.value(parameters, x)[None])
    inverse = np.linalg.inv(form.from_unit(task.center))
    coordinates = (inverse @ form.coordinates(parameters))[None]
    target = read_target("optimum of y over x")
    assert target.values(task, coordinates)[0] / np.log(2) == pytest.approx(turn)
    slopes = target.slopes(task, coordinates)[0]
    step = 1e-3 * np.random.default_rng(0).standard_normal(len(slopes))
    moved = target.values(task, coordinates + step)[0] - target.values(task, coordinates - step)[0]
    assert moved == pytest.approx(2 * slopes @ step, rel=1e-3)
