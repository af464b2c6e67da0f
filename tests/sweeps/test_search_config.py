"""The ``search:`` section: what it may say, which points it means, and messages that point at its lines."""

import math
from pathlib import Path

import pytest

from sweeps.search_space import Space
from sweeps.spec import parse_spec
from tokscale.errors import ConfigError

GOOD = """\
name: study
trial:
  data: {kind: procedural, resolution: 32}
  tokenizer: {encoder: nano, decoder: nano, patch: 8}
search:
  sampler: tpe
  trials: 40
  space:
    training.lr: {low: 1e-5, high: 1e-3, log: true}
    tokenizer.patch: [4, 8, 16]
    training.images: {low: 1M, high: 100M, log: true}
    probe.dropout: {low: 0, high: 0.5}
  objectives: [psnr, ar_bits_per_image]
  constraints: ["tokenizer_params <= 200M"]
grid:
  tokenizer.bottleneck.channels: [4, 8]
"""


def space(text):
    return Space(*parse_spec(text, Path("study.yaml")))


def finite(lines):
    head, _, tail = GOOD.replace("sampler: tpe", "sampler: grid").partition("  space:\n")
    return space(f"{head}  space:\n{lines}  objectives{tail.partition('  objectives')[2]}")


def test_a_search_means_what_it_says():
    found = space(GOOD)
    assert [objective.direction for objective in found.config.objectives] == ["maximize", "minimize"]
    assert found.cells == [{"tokenizer.bottleneck.channels": 4}, {"tokenizer.bottleneck.channels": 8}]
    assert found.seeds == []
    assert found.size == math.inf


def test_numbers_are_whole_where_the_setting_takes_whole_numbers_only():
    dimensions = space(GOOD).dimensions
    assert {path: dimension.whole for path, dimension in dimensions.items()} == {
        "training.lr": False, "tokenizer.patch": False, "training.images": True, "probe.dropout": False,
    }  # fmt: skip
    assert dimensions["training.images"].low == 1_000_000
    assert dimensions["training.images"].tidy(1234567.8) == 1234568
    assert dimensions["training.lr"].tidy(0.00012345678) == 0.000123457
    assert dimensions["training.lr"].tidy(1e-3 * (1 + 1e-9)) == 1e-3  # six digits do not lead out of the bounds


REFUSED = {
    "unknown key": (("trials: 40", "trails: 40"), "study.yaml:7", "did you mean 'trials'"),
    "unknown word of a range": (("{low: 0,", "{lo: 0,"), "study.yaml:12", "did you mean 'low'"),
    "unknown path": (("training.lr", "training.lrr"), "study.yaml:9", "did you mean 'lr'"),
    "unknown section": (("training.lr", "trainin.lr"), "study.yaml:9", "did you mean 'training'"),
    "value out of range": (("low: 0,", "low: -1,"), "study.yaml:12", "greater than or equal to 0"),
    "choice of the wrong type": (("[4, 8, 16]", "[4, many]"), "study.yaml:10", "integer"),
    "a range upside down": (("low: 1e-5", "low: 1"), "study.yaml:9", "above high"),
    "a logarithm of nothing": (("low: 1e-5", "low: 0"), "study.yaml:9", "above 0"),
    "steps that do not fit": (("high: 0.5}", "high: 0.5, step: 0.2}"), "study.yaml:12", "no whole number of steps"),
    "the same choice twice": (("[4, 8, 16]", "[4, 8, 8.0]"), "study.yaml:10", "twice"),
    "no choice": (("[4, 8, 16]", "[]"), "study.yaml:10", "no choices"),
    "unknown sampler": (("sampler: tpe", "sampler: tpee"), "study.yaml:6", "'tpe'"),
    "unknown measure": (("[psnr", "[psnrr"), "study.yaml:13", "did you mean 'psnr'"),
    "a measure without direction": (("[psnr", "[train_flops"), "study.yaml:13", "direction"),
    "no number of trials": (("  trials: 40\n", ""), "study.yaml:5", "how many"),
    "an endless grid": (("sampler: tpe", "sampler: grid"), "study.yaml:9", "choices, or a step"),
    "a constraint without a number": (("200M", "few"), "study.yaml:14", "a number"),
    "an unreadable constraint": (("tokenizer_params <=", "tokenizer params <="), "study.yaml:14", "cannot be read"),
    "pruning a probe by probes of a tokenizer": (
        ("objectives: [psnr, ar_bits_per_image]", "objectives: [psnr]\n  pruner: {on: probe, measure: probe_loss}"),
        "study.yaml:14", "the training of a probe has no probe_loss",
    ),
    "pruning on a front": (("  objectives", "  pruner: {on: probe}\n  objectives"), "study.yaml:13", "one objective"),
    "a setting in grid and space": (
        ("tokenizer.patch: [4", "tokenizer.bottleneck: [4"), "study.yaml:10", "the grid set the same"),
    "another sampler's word": (("trials: 40", "trials: 40\n  population: 8"), "study.yaml:8", "only nsga2"),
    "a seed to search for": (("tokenizer.patch: [4", "seed: [4"), "study.yaml:8", "repeats"),
    "repeated twice": (
        ("  tokenizer.bottleneck", "  seed: [0, 1]\n  tokenizer.bottleneck"), "study.yaml:8", "one of the two"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_points_at_the_line(case):
    change, place, words = REFUSED[case]
    text = GOOD.replace("  trials: 40", "  trials: 40\n  repeats: 2") if case == "repeated twice" else GOOD
    changed = text.replace(*change)
    assert changed != text
    with pytest.raises(ConfigError) as refusal:
        space(changed)
    assert (refusal.value.where or "").startswith(f"{place} ") or (refusal.value.where or "") == place
    assert words in str(refusal.value)


def test_a_seed_in_the_grid_repeats_each_point():
    assert space(GOOD + "  seed: [3, 5]\n").seeds == [3, 5]
    assert space(GOOD + "  seed: [3, 5]\n").cells == space(GOOD).cells
    assert space(GOOD.replace("  trials: 40", "  trials: 40\n  repeats: 3")).seeds == [0, 1, 2]
    rows = space(GOOD + "  seed: [3, 5]\n").rows({"tokenizer.bottleneck.channels": 4}, {"training.lr": 1e-4})
    assert [row["seed"] for row in rows] == [3, 5]


def test_the_grid_sampler_goes_through_the_product_once():
    found = finite("    tokenizer.patch: [4, 8]\n    training.warmup: {low: 0, high: 0.2, step: 0.1}\n")
    assert found.size == 6
    points = [tuple(point.values()) for point in found.in_order(None)]
    assert points == [(4, 0.0), (4, 0.1), (4, 0.2), (8, 0.0), (8, 0.1), (8, 0.2)]
    fewer = [tuple(point.values()) for point in found.in_order(4)]
    assert sorted(fewer) == points  # in a random order: who takes the first four has a fair choice
    assert fewer != points


def test_a_point_lies_in_a_space_or_not():
    found = finite("    tokenizer.bottleneck.weight: {low: 0, high: 1, step: 0.25}\n    tokenizer.patch: [4, 8]\n")
    assert found.holds({"tokenizer.bottleneck.weight": 0.75, "tokenizer.patch": 8})
    assert not found.holds({"tokenizer.bottleneck.weight": 0.7, "tokenizer.patch": 8})
    assert not found.holds({"tokenizer.bottleneck.weight": 0.75, "tokenizer.patch": 16})
    assert not found.holds({"tokenizer.bottleneck.weight": 0.75})


def test_a_choice_may_be_a_whole_section():
    found = finite("    probe.training: [{images: 640, batch_size: 16}, {images: 64, batch_size: 8}]\n")
    trials = found.trials([{**found.cells[0], **point} for point in found.in_order(None)])
    assert [trial.config.probe.training.images for trial in trials] == [640, 64]


@pytest.mark.parametrize(
    ("text", "value", "violation"),
    [
        ("tokenizer_params <= 200M", 300e6, 0.5),
        ("tokenizer_params <= 200M", 100e6, -0.5),
        ("train_flops <= 1e18", 1e18, 0.0),
        ("gpu_hours >= 10", 5.0, 0.5),
        ("x + y <= 0", 2.0, 2.0),
    ],
)
def test_a_violation_is_in_parts_of_the_limit(text, value, violation):
    from sweeps.search_config import Limit

    assert Limit(text).violation(value) == pytest.approx(violation)
