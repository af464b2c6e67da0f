"""A tokenizer whose bottleneck is a sequence, through every stage: its latents are one row of tokens for the probe."""

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
