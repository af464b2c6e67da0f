"""Specs: what a file may say, and messages that point at its lines."""

from pathlib import Path

import pytest

from sweeps.grid import expand
from sweeps.spec import load_spec, parse_spec
from tokscale.errors import ConfigError, UsageError

GOOD = """\
name: study
trial:
  data: {kind: procedural, resolution: 32}
  tokenizer: {encoder: nano, decoder: nano, patch: 8}
  training: {images: 1e3, batch_size: 10, lr: 1e-4}
grid:
  tokenizer.bottleneck.channels: [4, 8]
  seed: [0, 1]
where:
  - bottleneck_floats <= 64
"""
PATH = Path("study.yaml")


def trials(text):
    return expand(*parse_spec(text, PATH))


def test_a_spec_means_what_it_says():
    found = trials(GOOD)
    assert [(t.config.tokenizer.bottleneck.channels, t.config.seed) for t in found] == [(4, 0), (4, 1)]
    assert found[0].config.training.lr == 1e-4  # YAML 1.2: a number without a dot
    assert found[0].config.training.images == 1000


REFUSED = {
    "unknown key of the sweep": ("grids: {}\n", "study.yaml:11", "did you mean 'grid'"),
    "unknown section": (("data:", "dats:"), "study.yaml:3", "'data'"),
    "unknown key": (("encoder:", "encodr:"), "study.yaml:4", "did you mean 'encoder'"),
    "wrong type": (("lr: 1e-4", "lr: high"), "study.yaml:5", "number"),
    "impossible pair": (("patch: 8", "patch: 7"), "study.yaml:2", "7 does not divide"),
    "unknown path": (("tokenizer.bottleneck.channels", "tokenizer.bottleneck.chanels"), "study.yaml:7", "'channels'"),
    "unknown first word": (("tokenizer.bottleneck.channels", "tokeniser.bottleneck"), "study.yaml:7", "'tokenizer'"),
    "value of the grid": (("[4, 8]", "[4, many]"), "study.yaml:7", "integer"),
    "empty list": (("[4, 8]", "[]"), "study.yaml:7", "no trial"),
    "no list": (("[0, 1]", "0"), "study.yaml:8", "list"),
    "nothing left": (("<= 64", "<= 6"), "study.yaml:9", "at least one"),
    "unreadable condition": (("<= 64", "<= "), "study.yaml:10", ""),
    "unknown name in a condition": (("bottleneck_floats", "bottleneck_flots"), "study.yaml:10", "'bottleneck_floats'"),
    "a call in a condition": (("bottleneck_floats <= 64", "__import__('os')"), "study.yaml:10", ""),
    "bad name": (("name: study", "name: ../up"), "study.yaml:1", ""),
    "bad YAML": (("[4, 8]", "[4, 8"), "study.yaml:", "YAML"),
    "a key twice": (("  seed: [0, 1]", "  seed: [0, 1]\n  seed: [2]"), "study.yaml:", "YAML"),
    "zip of nothing": ("zip: [[seed, training.lr]]\n", "study.yaml:11", "not in the grid"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_points_at_the_line(case):
    change, place, words = REFUSED[case]
    text = GOOD + change if isinstance(change, str) else GOOD.replace(*change)
    assert text != GOOD
    with pytest.raises(ConfigError) as refusal:
        trials(text)
    assert (refusal.value.where or "").startswith(place), str(refusal.value)
    assert words in str(refusal.value)


def test_an_absent_file_is_a_matter_of_words(tmp_path):
    with pytest.raises(UsageError, match="no such spec file"):
        load_spec(tmp_path / "absent.yaml")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_a_file_that_is_no_mapping_is_refused(text):
    with pytest.raises(ConfigError, match="mapping"):
        parse_spec(text, PATH)


def test_the_specs_that_ship_are_valid():
    shipped = sorted((Path(__file__).parents[2] / "sweeps" / "specs").glob("*.yaml"))
    assert shipped
    for path in shipped:
        assert expand(*load_spec(path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("seed: [0, 1]", "seed: [123456789012345678901234567890]"), "less than"),
        (("seed: [0, 1]", "seed: [true]"), "not true or false"),
        (("images: 1e3", "images: .inf"), "whole number"),
        (("lr: 1e-4", "lr: .inf"), "finite"),
        (("data: {kind: procedural, resolution: 32}", "data: null"), "a mapping"),
        (("bottleneck_floats <= 64", "bottleneck_floats"), "neither true nor false"),
        (("bottleneck_floats <= 64", "1 / (seed * 0) > 1"), "study.yaml:10"),
        (("name: study", "name: study\x00"), "YAML"),
    ],
)
def test_values_that_cannot_work_are_refused_at_plan_time(change, words):
    text = GOOD.replace(*change)
    assert text != GOOD
    with pytest.raises(ConfigError) as refusal:
        trials(text)
    assert words in str(refusal.value)


def test_a_size_that_some_trials_lack_is_none_in_a_condition():
    text = GOOD.replace("bottleneck_floats <= 64", "bottleneck_bits == None or bottleneck_bits > 5")
    assert len(trials(text)) == 4


def test_a_grid_beyond_all_measure_is_refused_before_it_is_made():
    many = "[" + ", ".join(map(str, range(1, 1002))) + "]"
    with pytest.raises(ConfigError, match="too many points") as refusal:
        trials(GOOD.replace("[4, 8]", many).replace("[0, 1]", many))
    assert "1,002,001" in str(refusal.value)
