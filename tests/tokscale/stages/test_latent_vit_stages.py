"""A tokenizer whose bottleneck is a sequence, through every stage: its latents are one row of tokens for the probe."""

import json

import pytest

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale.record import COLUMNS, read_record
from tokscale.stages import run

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """\
name: small-latent
trial:
  data: {resolution: 16, validation_images: 24}
  tokenizer: {encoder: pico, decoder: pico, patch: 4, latent_tokens: 6, bottleneck: {kind: kl, channels: 4}}
  training: {images: 40, batch_size: 8, lr: 2e-3, ema: 0.9}
  decoder_finetune: {training: {images: 16, batch_size: 8}, losses: {gan: null, perceptual: null}}
  latents: {images: 32}
  probe: {size: pico, training: {images: 32, batch_size: 8, lr: 2e-3}}
  generation: {images: 24, batch_size: 24}
  evaluation: {pictures: 4}
"""


def test_a_trial_leaves_a_whole_record_of_every_stage(tmp_path):
    path = tmp_path / "small-latent.yaml"
    path.write_text(SPEC)
    (trial,) = expand(*load_spec(path))
    store, measures = Store(tmp_path / "runs"), {}
    for stage in trial.stages:
        folder = store.prepare(stage)
        run(str(folder.path))
        measures[stage.kind] = read_record(folder.path).measures
        assert set(measures[stage.kind]) <= set(COLUMNS)
    assert trial.sizes["bottleneck_floats"] == 24
    assert trial.sizes["pixels_per_float"] == 32
    assert measures["tokenizer"]["tokenizer_params"] == trial.sizes["tokenizer_params"]
    assert measures["probe"]["ar_bits_per_image"] > 0
    assert {"gfd", "precision", "recall"} <= set(measures["generation"])


def test_one_tokenizer_is_measured_at_two_lengths(tmp_path):
    path = tmp_path / "small-tail.yaml"
    masked = "latent_tokens: 8, tail_masking: {lengths: [2, 8]}"
    path.write_text(SPEC.replace("latent_tokens: 6", masked).replace("small-latent", "small-tail") + (
        "  linear_probe: {images: 32, epochs: 2, warmup_epochs: 1, batch_size: 16}\n"
        "grid:\n  tokenizer.tail_masking.evaluation_length: [2, 8]\n"
    ))  # fmt: skip
    trials, store = expand(*load_spec(path)), Store(tmp_path / "runs")
    assert [trial.sizes["bottleneck_floats"] for trial in trials] == [8, 32]
    folders = {stage.key: store.prepare(stage) for trial in trials for stage in trial.stages}
    assert sum(key.startswith(("tokenizer/", "decoder_finetune/")) for key in folders) == 2
    for folder in folders.values():
        run(str(folder.path))
    found = [{stage.kind: read_record(folders[stage.key].path).measures for stage in trial.stages} for trial in trials]
    for short, whole in [found]:
        assert short["reconstruction"]["kl_bits_per_image"] < whole["reconstruction"]["kl_bits_per_image"]
        assert short["reconstruction"]["mse"] != whole["reconstruction"]["mse"]
        assert short["linear_probe"] != whole["linear_probe"]
        assert {"gfd", "precision"} <= set(short["generation"])
    described = [trial_latents(folders, trial) for trial in trials]
    assert [(latents["tokens"], latents["grid"]) for latents in described] == [(2, [1, 2]), (8, [1, 8])]


def trial_latents(folders, trial):
    """What the latents of a trial say of themselves."""
    (key,) = [stage.key for stage in trial.stages if stage.kind == "latents"]
    return json.loads((folders[key].path / "artifacts" / "latents.json").read_text())["spec"]
