"""The grid: the product of its lists, each trial once, zipped lists in step."""

from pathlib import Path

from sweeps.grid import expand, flatten
from sweeps.spec import parse_spec

BASE = """\
name: g
trial:
  tokenizer: {encoder: nano, decoder: nano, patch: 8}
"""


def trials(rest):
    return expand(*parse_spec(BASE + rest, Path("g.yaml")))


def test_the_product_is_complete_and_in_the_order_of_the_file():
    found = trials("grid:\n  tokenizer.patch: [4, 8]\n  seed: [0, 1, 2]\n")
    assert [(t.config.tokenizer.patch, t.config.seed) for t in found] == [(p, s) for p in (4, 8) for s in (0, 1, 2)]
    assert len({t.id for t in found}) == 6


def test_zipped_lists_advance_together():
    found = trials("grid:\n  tokenizer.patch: [4, 8]\n  seed: [0, 1]\n  training.batch_size: [16, 32]\n"
                   "zip: [[tokenizer.patch, training.batch_size]]\n")  # fmt: skip
    points = [(t.config.tokenizer.patch, t.config.training.batch_size, t.config.seed) for t in found]
    assert points == [(4, 16, 0), (4, 16, 1), (8, 32, 0), (8, 32, 1)]


def test_points_that_are_the_same_trial_stand_once():
    # the preset's name and its numbers are one size
    found = trials("grid:\n  tokenizer.encoder: [nano, {width: 64, depth: 1, heads: 2}, nano]\n")
    assert len(found) == 1


def test_a_whole_section_may_be_a_value():
    found = trials("grid:\n  tokenizer.bottleneck: [{kind: kl, channels: 4}, {kind: fsq, levels: [8, 8]}]\n")
    assert [t.config.tokenizer.bottleneck.kind for t in found] == ["kl", "fsq"]


def test_a_longer_path_refines_a_shorter_one_whatever_their_order():
    found = trials(
        "grid:\n  tokenizer.bottleneck.channels: [2, 4]\n  tokenizer.bottleneck: [{kind: kl, weight: 0.5}]\n"
    )
    assert [(t.config.tokenizer.bottleneck.channels, t.config.tokenizer.bottleneck.weight) for t in found] == [
        (2, 0.5),
        (4, 0.5),
    ]


def test_no_grid_is_one_trial():
    assert len(trials("")) == 1


def test_conditions_see_sizes_and_settings():
    found = trials(
        "grid:\n  tokenizer.bottleneck.channels: [1, 2, 4]\n  seed: [0, 1]\n"
        "where: ['bottleneck_floats >= 32 and seed == 1', 'decoder_params >= encoder_params / 2']\n"
    )
    assert [(t.config.tokenizer.bottleneck.channels, t.config.seed) for t in found] == [(2, 1), (4, 1)]


def test_flattened_paths_are_the_words_of_the_spec():
    flat = flatten(trials("")[0].config)
    assert flat["tokenizer.bottleneck.channels"] == 16
    assert flat["tokenizer.decoder.width"] == 64
    assert flat["probe.training.weight_decay"] == 0.05
    assert flat["training.betas"] == "0.9, 0.95"
