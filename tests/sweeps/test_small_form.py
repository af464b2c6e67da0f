"""The small form of a spec: what is merged, what is replaced, what is kept, and where its errors are."""

import pytest

from sweeps.planning import make_plan
from sweeps.spec import load_spec, parse_spec
from sweeps.store import Store
from tokscale.errors import ConfigError

SPEC = """\
name: study
trial:
  data: {kind: image_folder, root: /datasets/imagenet, resolution: 256}
  tokenizer: {encoder: S, decoder: B, patch: 16, bottleneck: {kind: kl, channels: 16}}
  training: {images: 102.4M, batch_size: 1024, lr: 1.0e-4}
grid:
  tokenizer.patch: [8, 16]
  seed: [0, 1]
where: ["bottleneck_floats <= 32768"]
cluster: h100
small:
  trial:
    data: {kind: procedural, resolution: 32}
    tokenizer: {encoder: nano, decoder: pico}
    training: {images: 1k, batch_size: 16}
  grid:
    tokenizer.patch: [4, 8]
  where: []
  cluster_free: true
"""
GOOD = SPEC.replace("  cluster_free: true\n", "").replace("cluster: h100\n", "")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(GOOD)
    return path


def test_sections_are_merged_other_kinds_and_the_grid_replaced(path, tmp_path):
    plan = make_plan(path, Store(tmp_path / "runs"), small=True)
    assert plan.spec.name == "study-small"
    assert [trial.config.tokenizer.patch for trial in plan.trials] == [4, 8]
    for trial in plan.trials:
        config = trial.config
        assert (config.data.kind, config.data.resolution) == ("procedural", 32)
        assert (config.tokenizer.encoder.width, config.tokenizer.bottleneck.channels) == (64, 16)
        assert (config.training.images, config.training.batch_size, config.training.lr) == (1000, 16, 1e-4)
    assert len(make_plan(path, Store(tmp_path / "runs")).trials) == 4, "the spec itself is as it was"


def test_what_is_kept_is_a_spec_of_its_own(path, tmp_path):
    spec, file = load_spec(path, small=True)
    kept = tmp_path / "kept.yaml"
    kept.write_text(file.text)
    assert load_spec(kept)[0] == spec
    assert spec.small == {}


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("{images: 1k, batch_size: 16}", "{images: 1k, batch_sise: 16}", "study.yaml:14"),
        ("lr: 1.0e-4", "lr: -1", "study.yaml:5"),
        ("tokenizer.patch: [4, 8]", "tokenizer.patch: [4, many]", "study.yaml:16"),
    ],
)
def test_an_error_is_where_its_author_wrote_it(path, tmp_path, old, new, place):
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as raised:
        make_plan(path, Store(tmp_path / "runs"), small=True)
    assert place in str(raised.value.where)


def test_what_a_small_form_cannot_say_is_refused_at_once(path, tmp_path):
    with pytest.raises(ConfigError, match="cluster_free"):
        parse_spec(SPEC, path)
    path.write_text(GOOD.partition("small:")[0])
    with pytest.raises(ConfigError, match="no small form"):
        load_spec(path, small=True)
