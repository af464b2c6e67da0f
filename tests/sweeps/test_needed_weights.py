"""Weights are looked for before anything is spent: a refusal here, a word where nodes may have them."""

import json

import pytest
import typer
from typer.testing import CliRunner

from sweeps.commands import plan
from sweeps.needed_weights import refuse_absent_weights, words_on_absent_weights
from sweeps.orchestration import run_here
from sweeps.planning import make_plan
from sweeps.store import Store
from tokscale import weights
from tokscale.errors import WeightsError

SPEC = """\
name: needy
trial:
  data: {kind: procedural, resolution: 32}
  tokenizer: {encoder: pico, decoder: pico, patch: 8}
  losses: {perceptual: {weight: 1.0}, semantic: {layer: 1}}
  training: {images: 64, batch_size: 16}
  evaluation: {features: inception-tf2015}
  probe: null
grid:
  losses.semantic.weight: [0.0, 0.5]
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("TOKSCALE_DINOV2", raising=False)
    path = tmp_path / "needy.yaml"
    path.write_text(SPEC)
    return path


def bring(name):
    weights.default_folder().mkdir(parents=True, exist_ok=True)
    (weights.default_folder() / weights.entry_of(name).file).write_bytes(b"")


def bring_code(folder=None):
    folder = folder or weights.hub_folder() / "facebookresearch_dinov2_main"
    folder.mkdir(parents=True)
    (folder / "hubconf.py").write_text("")


def test_every_one_of_several_networks_is_looked_for(spec, tmp_path):
    several = SPEC.replace("features: inception-tf2015", "features: [inception-torchvision, dinov2-b]")
    spec.write_text(several.replace("perceptual: {weight: 1.0}, ", "").replace("[0.0, 0.5]", "[0.0]"))
    both = r"inception-torchvision \(1 stage\), dinov2-b \(1 stage\), DINOv2's code \(1 stage\)"
    with pytest.raises(WeightsError, match=both):
        refuse_absent_weights(make_plan(spec, Store(tmp_path / "runs")))
    bring_code()
    for name in ("inception-torchvision", "dinov2-b"):
        bring(name)
    refuse_absent_weights(make_plan(spec, Store(tmp_path / "runs")))


def test_what_is_not_here_is_refused_before_anything_begins(spec, tmp_path):
    with pytest.raises(WeightsError) as refused:
        run_here(spec, tmp_path / "runs", 1, command="tokscale run")
    given = "vgg16 (2 stages), inception-tf2015 (2 stages), dinov2-b (1 stage), DINOv2's code (1 stage)"
    assert refused.value.given == given
    assert "`tokscale weights fetch vgg16 inception-tf2015 dinov2-b`" in refused.value.allowed
    assert not (tmp_path / "runs").exists()
    assert given in words_on_absent_weights(make_plan(spec, Store(tmp_path / "runs")))[0]


def test_the_code_of_dinov2_is_looked_for_beside_its_weights(spec, tmp_path, monkeypatch):
    for name in ("vgg16", "inception-tf2015", "dinov2-b"):
        bring(name)
    plan = make_plan(spec, Store(tmp_path / "runs"))
    with pytest.raises(WeightsError) as refused:
        refuse_absent_weights(plan)
    folder = weights.hub_folder() / "facebookresearch_dinov2_main"
    assert (refused.value.given, refused.value.where) == ("DINOv2's code (1 stage)", str(folder))
    assert f"`git clone https://github.com/facebookresearch/dinov2 {folder}`" in refused.value.allowed
    assert "without internet, a copy of such a clone in that folder" in refused.value.allowed
    assert "weights fetch" not in refused.value.allowed
    monkeypatch.setenv("TOKSCALE_DINOV2", str(tmp_path / "clone"))
    assert str(tmp_path / "clone") in words_on_absent_weights(plan)[0]
    bring_code(tmp_path / "clone")
    refuse_absent_weights(plan)
    monkeypatch.delenv("TOKSCALE_DINOV2")
    bring_code()
    refuse_absent_weights(plan)


def test_a_plan_says_what_will_be_needed_beside_what_it_prints(spec, tmp_path):
    front = typer.Typer()
    front.command()(plan)
    front.command("other")(plan)  # of one command alone, its name is no argument
    asked = ["plan", str(spec), "--runs", str(tmp_path / "runs"), "--json"]
    told = CliRunner().invoke(front, asked)
    assert json.loads(told.stdout)["sweep"] == "needy"
    assert "dinov2-b (1 stage), DINOv2's code (1 stage)" in told.stderr
    bring_code()
    for name in ("vgg16", "inception-tf2015", "dinov2-b"):
        bring(name)
    assert CliRunner().invoke(front, asked).stderr == ""


def test_what_is_here_or_takes_no_part_is_not_asked_for(spec, tmp_path):
    bring_code()
    for name in ("vgg16", "inception-tf2015", "dinov2-b"):
        bring(name)
    plan = make_plan(spec, Store(tmp_path / "runs"))
    refuse_absent_weights(plan)
    assert words_on_absent_weights(plan) == []
    without = tmp_path / "other.yaml"
    without.write_text(SPEC.replace("perceptual: {weight: 1.0}", "perceptual: {kind: random-vgg}"))
    (weights.default_folder() / weights.entry_of("vgg16").file).unlink()
    refuse_absent_weights(make_plan(without, Store(tmp_path / "runs")))


def test_files_of_any_hub_repository_are_looked_for_too(spec, tmp_path):
    for name in ("vgg16", "inception-tf2015"):
        bring(name)
    code, state = tmp_path / "code" / "hubconf.py", tmp_path / "state.pth"
    teacher = (f"{{kind: hub, repository: {code.parent}, entry: siglip, weights: {state}, sha256: '{'0' * 8}', "
               "width: 8, depth: 2}")  # fmt: skip
    spec.write_text(SPEC.replace("semantic: {layer: 1}", f"semantic: {{layer: 1, features: {teacher}}}"))
    plan = make_plan(spec, Store(tmp_path / "runs"))
    with pytest.raises(WeightsError) as refused:
        refuse_absent_weights(plan)
    assert refused.value.given == f"{state} (1 stage), {code} (1 stage)"
    assert f"a file {state}; a file {code}" in refused.value.allowed
    assert "fetch" not in refused.value.allowed
    code.parent.mkdir()
    code.write_text("")
    state.write_bytes(b"")
    refuse_absent_weights(plan)
