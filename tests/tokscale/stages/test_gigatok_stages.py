"""GigaTok's tokenizers through every stage, and resumed to the same bits."""

import signal

import pytest
import torch
from safetensors.torch import load_file

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale.errors import StoppedError
from tokscale.record import COLUMNS, read_record
from tokscale.stages import run
from tokscale.training import callbacks

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """\
name: small-gigatok
trial:
  data: {resolution: 16, validation_images: 24}
  tokenizer:
    kind: gigatok
    encoder: pico
    decoder: pico
    tokens: 16
    convolution: {channels: 8, multipliers: [1, 2, 2], encoder_blocks: 1, decoder_blocks: 1, map_channels: 16}
  training: {images: 80, batch_size: 8, lr: 2e-3}
  latents: {images: 32}
  probe: {size: pico, training: {images: 32, batch_size: 8, lr: 2e-3}}
  generation: {images: 24, batch_size: 24}
  evaluation: {pictures: 4}
grid:
  tokenizer.layout: [1d, 2d]
  tokenizer.bottleneck:
    - {kind: vq, codebook_size: 32, code_dim: 4, revive_after: 3, entropy_weight: 0.02}
    - {kind: lfq, bits: 6}
    - {kind: kl, channels: 4}
    - {kind: fsq, levels: [4, 4]}
"""


@pytest.fixture
def trials(tmp_path):
    """The sweep's trials by layout and bottleneck."""
    path = tmp_path / "small-gigatok.yaml"
    path.write_text(SPEC)
    found = expand(*load_spec(path))
    return {(trial.config.tokenizer.layout, trial.config.tokenizer.bottleneck.kind): trial for trial in found}


def prepared(trial, runs):
    store = Store(runs)
    return {stage.kind: store.prepare(stage) for stage in trial.stages}


@pytest.mark.parametrize("case", [("1d", "vq"), ("2d", "lfq"), ("1d", "kl")], ids="-".join)
def test_a_trial_leaves_a_whole_record_of_every_stage(trials, tmp_path, case):
    folders = prepared(trials[case], tmp_path / "runs")
    measures = {}
    for kind, folder in folders.items():
        run(str(folder.path))
        measures[kind] = read_record(folder.path).measures
        assert set(measures[kind]) <= set(COLUMNS)
    assert measures["tokenizer"]["train_flops"] == trials[case].sizes["train_flops"]
    assert {"psnr", "codebook_usage" if case[1] != "kl" else "kl_bits_per_image"} <= set(measures["reconstruction"])
    assert measures["probe"]["ar_bits_per_image"] > 0
    assert {"gfd", "precision", "recall"} <= set(measures["generation"])


class StopAfter(callbacks.Budget):
    """Sends this process the signal that a cluster sends, after four steps."""

    def on_train_batch_end(self, trainer, task, *arguments):
        super().on_train_batch_end(trainer, task, *arguments)
        if task.step == 4:
            signal.raise_signal(signal.SIGTERM)


def test_resuming_gives_the_bits_of_an_unbroken_run(trials, tmp_path, monkeypatch):
    unbroken, broken = (prepared(trials["1d", "vq"], tmp_path / name)["tokenizer"] for name in ("unbroken", "broken"))
    run(str(unbroken.path))
    with monkeypatch.context() as patch:
        patch.setattr("tokscale.training.loop.Budget", StopAfter)
        with pytest.raises(StoppedError, match="SIGTERM"):
            run(str(broken.path))
    run(str(broken.path))
    weights, expected = (load_file(folder.artifacts / "tokenizer.safetensors") for folder in (broken, unbroken))
    assert weights.keys() == expected.keys()
    for name in weights:
        assert torch.equal(weights[name], expected[name]), name
