"""Two finetuned decoders on one tokenizer, through every stage; and a second stage whose first is not there."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from sweeps.grid import expand
from sweeps.planning import make_plan, summarize
from sweeps.results import collect
from sweeps.spec import load_spec
from sweeps.store import StageState, Store
from tokscale.errors import DivergedError, StoreError
from tokscale.record import COLUMNS
from tokscale.stages import run

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """\
name: thrice
trial:
  data: {kind: procedural, resolution: 16, validation_images: 32}
  tokenizer: {encoder: pico, decoder: pico, patch: 4, bottleneck: {kind: kl, channels: 4}}
  training: {images: 320, batch_size: 16, lr: 2e-3, ema: 0.5}
  latents: {images: 64}
  probe: {size: pico, training: {images: 64, batch_size: 16, lr: 2e-3}}
  generation: {images: 32, batch_size: 32}
  evaluation: {pictures: 4}
grid:
  decoder_finetune:
    - null
    - {training: {images: 64, batch_size: 16, lr: 1e-3, ema: 0.5}, losses: {perceptual: null, gan: null}}
    - {training: {images: 64, batch_size: 16, lr: 1e-3, ema: null}, losses: {perceptual: {kind: random-vgg}, gan: null}}
"""
SHARED = {"tokenizer": 1, "latents": 1, "probe": 1, "decoder_finetune": 2, "reconstruction": 3, "generation": 3}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The spec's file and a store in which all of its stages are done, each once."""
    folder = tmp_path_factory.mktemp("thrice")
    path, store = folder / "thrice.yaml", Store(folder / "runs")
    path.write_text(SPEC)
    for key, stage in make_plan(path, store).stages.items():
        assert not (store.stages / key).exists()
        run(str(store.prepare(stage).path))
    return path, store


def test_the_tokenizer_its_latents_and_its_probe_are_shared(sweep):
    path, store = sweep
    plan = make_plan(path, store)
    assert {row.kind: sum(row.states.values()) for row in summarize(plan)} == SHARED
    assert not plan.missing()


def test_a_row_has_the_measures_of_its_own_decoder(sweep):
    path, store = sweep
    table = collect(make_plan(path, store), store)
    assert table["psnr"].nunique() == table["gfd"].nunique() == 3
    assert table["ar_loss"].nunique() == table["train_flops"].nunique() == table["kl_bits_per_image"].nunique() == 1
    assert table["finetune_images"].isna().tolist() == [True, False, False]
    assert table["finetune_images"].iloc[1] == 64
    assert table["finetune_flops"].iloc[1] < table["finetune_flops"].iloc[2]
    assert {"finetune_images", "finetune_flops", "finetune_only_params"} <= set(COLUMNS)
    assert "decoder_finetune.training.images" in table


def test_the_decoder_that_is_measured_is_the_finetuned_one(sweep):
    path, store = sweep
    first, second, _ = expand(*load_spec(path))
    stages = [{stage.kind: stage for stage in trial.stages} for trial in (first, second)]
    tokenizer = load_file(store.stages / stages[0]["tokenizer"].key / "artifacts" / "tokenizer.safetensors")
    decoder = load_file(store.stages / stages[1]["decoder_finetune"].key / "artifacts" / "decoder.safetensors")
    assert {f"decoder.{name}" for name in decoder} == {name for name in tokenizer if name.startswith("decoder.")}
    assert not torch.equal(decoder["head.weight"], tokenizer["decoder.head.weight"])
    assert {store.record(trial["reconstruction"]).measures["kl_bits_per_image"] for trial in stages} == {
        store.record(stages[0]["reconstruction"]).measures["kl_bits_per_image"]
    }


@pytest.mark.parametrize("kind", ["decoder_finetune", "reconstruction", "generation"])
def test_a_stage_2_without_its_stage_1_says_so(sweep, tmp_path, kind):
    path, store = sweep
    shutil.copytree(store.root, tmp_path / "runs")
    copy, stages = Store(tmp_path / "runs"), {stage.kind: stage for stage in expand(*load_spec(path))[1].stages}
    shutil.rmtree(copy.stages / "tokenizer")
    shutil.rmtree(copy.stages / stages[kind].key)
    with pytest.raises(StoreError, match="a stage 2 without its stage 1"):
        run(str(copy.prepare(stages[kind]).path))
    status = copy.status(stages[kind])
    assert (status.state, status.cause) == (StageState.failed, "store")
    kept = [other for other in stages.values() if other.kind not in ("tokenizer", kind)]
    assert all(copy.record(other) is not None for other in kept)


def test_divergence_is_named_with_the_settings_of_the_second_stage(sweep, tmp_path):
    path, store = sweep
    shutil.copytree(store.root / "stages" / "tokenizer", tmp_path / "runs" / "stages" / "tokenizer")
    hot = tmp_path / "thrice.yaml"
    hot.write_text(path.read_text().replace("lr: 1e-3, ema: 0.5", "lr: 1e30, gradient_clip: 0"))
    stage = next(stage for stage in expand(*load_spec(hot))[1].stages if stage.kind == "decoder_finetune")
    with pytest.raises(DivergedError, match=r"a lower decoder_finetune\.training\.lr"):
        run(str(Store(tmp_path / "runs").prepare(stage).path), progress_seconds=0.0)
