"""What measuring stages really multiply, by torch's counter, against what a plan says of them."""

from __future__ import annotations

import pytest

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tests.tokscale.test_cost import counted
from tokscale import cost
from tokscale.stages import run

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """\
name: seen
trial:
  data: DATA
  tokenizer: {encoder: pico, decoder: pico, patch: 8, bottleneck: {kind: kl, channels: 4}}
  training: {images: 32, batch_size: 16}
  latents: {images: 32}
  probe: {size: pico, training: {images: 32, batch_size: 16}}
  generation: {images: 24, batch_size: 12, cfg_scales: [1.0, 2.0]}
"""
IMAGES = "{kind: procedural, resolution: 32, validation_images: 48}"
CLIPS = "{kind: procedural_video, resolution: 16, frames: 4, validation_images: 24}"


@pytest.mark.parametrize("data", [IMAGES, CLIPS], ids=["images", "clips"])
def test_a_plan_counts_what_measuring_stages_multiply(tmp_path, data):
    path = tmp_path / "seen.yaml"
    path.write_text(SPEC.replace("DATA", data))
    (trial,) = expand(*load_spec(path))
    store = Store(tmp_path / "runs")
    for stage in trial.stages:
        folder = store.prepare(stage)
        found = counted(lambda folder=folder: run(str(folder.path)))
        if stage.kind in ("reconstruction", "latents", "generation"):
            # beyond the plan: covariances of features, and attention of sampling, where a plan counts half a square
            assert found == pytest.approx(cost.stage_cost(stage.kind, trial.config).flops, rel=0.001), stage.kind
