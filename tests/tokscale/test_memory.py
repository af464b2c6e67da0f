"""Memory of training by formula against what autograd keeps, as it is and with activations made again."""

from __future__ import annotations

import pytest
import torch

from tests.tokscale.saved_tensors import kept_for_backward
from tokscale import cost, memory
from tokscale.config import (
    AutoregressiveProbe,
    ClassifierTeacher,
    FSQBottleneck,
    GigaTokTokenizer,
    KLBottleneck,
    LinearProbeConfig,
    LossesConfig,
    ProceduralData,
    SemanticLoss,
    TrainingConfig,
    TrialConfig,
    VitTokenizer,
)
from tokscale.config import DiffusionProbe as DiffusionConfig
from tokscale.data.latents import LatentSpec
from tokscale.models.tokenizer import build_tokenizer
from tokscale.probes import DiffusionProbe, build_probe
from tokscale.stage import KINDS


def vit(encoder="S", decoder="B", patch=16):
    return VitTokenizer(encoder=encoder, decoder=decoder, patch=patch, bottleneck=KLBottleneck(channels=16))


def test_memory_of_training_grows_with_the_batch_and_that_of_measuring_does_not():
    small_and_large = []
    for batch in (32, 64):
        training, probe = TrainingConfig(batch_size=batch), AutoregressiveProbe(training={"batch_size": batch})
        taught = LossesConfig(semantic=SemanticLoss(features=ClassifierTeacher(kind="classifier", batch_size=batch)))
        trial = TrialConfig(tokenizer=vit(patch=4), training=training, probe=probe, losses=taught,
                            linear_probe=LinearProbeConfig(),
                            decoder_finetune={"training": {"batch_size": batch}})  # fmt: skip
        small_and_large.append([cost.stage_cost(kind, trial) for kind in KINDS])
    for kind, small, large in zip(KINDS, *small_and_large, strict=True):
        assert (small.fixed_bytes, small.image_bytes) == (large.fixed_bytes, large.image_bytes)
        trains = kind in ("teacher", "tokenizer", "decoder_finetune", "probe")
        assert (small.batch, large.batch, small.image_bytes > 0) == ((32, 64, True) if trains else (0, 0, False))


def saved_bytes(tokenizer, images, bf16):
    """Bytes that autograd keeps of a forward pass besides the parameters."""

    def loss():
        reconstruction, result, _ = tokenizer(images)
        return (reconstruction.float() - images).square().mean() + sum(result.losses.values())

    return kept_for_backward(tokenizer, loss, bf16)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("size", "patch", "resolution"), [("nano", 2, 32), ("micro", 4, 64), ("tiny", 4, 32)])
def test_memory_of_training_is_what_autograd_saves(precision, size, patch, resolution):
    training = TrainingConfig(batch_size=4, precision=precision)
    trial = TrialConfig(data=ProceduralData(resolution=resolution), tokenizer=vit(size, size, patch), training=training)
    tokenizer = build_tokenizer(trial.tokenizer, resolution)
    saved = saved_bytes(tokenizer, torch.rand(4, 3, resolution, resolution), precision == "bf16")
    found = cost.stage_cost("tokenizer", trial)
    assert 4 * found.image_bytes + found.rounded_bytes == pytest.approx(saved, rel=0.15)


@pytest.mark.parametrize(("size", "positions"), [("nano", "learned"), ("mini", "rotary"), ("mini", "learned")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_memory_of_a_diffusion_probe_is_what_autograd_saves(size, positions, precision):
    config = DiffusionConfig(kind="diffusion", size=size, positions=positions,
                             training={"batch_size": 4, "precision": precision})  # fmt: skip
    tokenizer = VitTokenizer(encoder="pico", decoder="pico", patch=4, bottleneck=KLBottleneck(channels=8))
    trial = TrialConfig(data=ProceduralData(resolution=64), tokenizer=tokenizer, probe=config)
    probe = DiffusionProbe(config, LatentSpec("continuous", (16, 16), 256, 8), 10)
    x, labels = torch.rand(4, 256, 8), torch.zeros(4, dtype=torch.int64)
    saved = kept_for_backward(probe, lambda: probe.loss(x, labels), precision == "bf16")
    found, params = cost.stage_cost("probe", trial), cost.probe_params(config, tokenizer.bottleneck, 10, 256)
    assert found.image_bytes * 4 == pytest.approx(saved, rel=0.15)
    assert found.fixed_bytes == params * ((18 if precision == "bf16" else 16) + 4)


@pytest.mark.parametrize(("size", "dropout", "positions", "precision"), [
    ("mini", 0.0, "rotary", "fp32"), ("mini", 0.0, "rotary", "bf16"), ("tiny", 0.0, "learned", "bf16"),
    ("tiny", 0.1, "learned", "fp32"), ("mini", 0.1, "rotary", "fp32"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["codes", "latents"])
def test_memory_of_an_autoregressive_probe_is_what_autograd_saves(kind, size, dropout, positions, precision):
    """Masks of dropout count as bytes, as on a GPU: a processor keeps them in numbers of the training's precision."""
    config = AutoregressiveProbe(size=size, dropout=dropout, positions=positions,
                                 training={"batch_size": 4, "precision": precision})  # fmt: skip
    if kind == "codes":
        spec, bottleneck = LatentSpec("discrete", (16, 16), 256, 8, 512), FSQBottleneck(kind="fsq", levels=[8, 8, 8])
        tokens = torch.randint(512, (4, 256))
    else:
        spec, bottleneck = LatentSpec("continuous", (16, 16), 256, 8), KLBottleneck(channels=8)
        tokens = torch.rand(4, 256, 8)
    tokenizer = VitTokenizer(encoder="pico", decoder="pico", patch=4, bottleneck=bottleneck)
    trial = TrialConfig(data=ProceduralData(resolution=64), tokenizer=tokenizer, probe=config)
    probe, labels = build_probe(config, spec, 10), torch.zeros(4, dtype=torch.int64)
    saved = kept_for_backward(probe, lambda: probe.loss(tokens, labels), precision == "bf16")
    assert cost.stage_cost("probe", trial).image_bytes * 4 == pytest.approx(saved, rel=0.15)


def test_logits_in_pieces_take_the_memory_of_one_piece(monkeypatch):
    """More images than a piece holds add what the transformer keeps of them, and no logits."""
    trials = [
        TrialConfig(
            data=ProceduralData(resolution=64), probe=AutoregressiveProbe(size="mini", training={"batch_size": batch}),
            tokenizer=VitTokenizer(patch=4, bottleneck=FSQBottleneck(kind="fsq", levels=[8, 8, 8])),
        ) for batch in (8, 9, 90)
    ]  # fmt: skip
    monkeypatch.setattr(memory, "LOGITS_AT_ONCE", 8 * 256 * 512)
    whole, pieces, more = (cost.stage_cost("probe", trial) for trial in trials)
    logits = 12 * 256 * 512
    assert whole.image_bytes - pieces.image_bytes == logits
    assert pieces.fixed_bytes - whole.fixed_bytes == 8 * logits
    assert (more.fixed_bytes, more.image_bytes) == (pieces.fixed_bytes, pieces.image_bytes)


SMALL = {"channels": 16, "multipliers": [1, 2, 2]}
TOKENIZERS = [
    vit("mini", "tiny", 4),
    *(
        GigaTokTokenizer(kind="gigatok", encoder="mini", decoder="tiny", layout=layout, tokens=64, convolution=SMALL,
                         bottleneck=KLBottleneck(channels=8))
        for layout in ("1d", "2d")
    ),
]  # fmt: skip


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["vit", "1d", "2d"])
def test_recomputing_spares_what_blocks_keep_but_for_their_inputs_and_one_block(tokenizer):
    trial = TrialConfig(data=ProceduralData(resolution=32), tokenizer=tokenizer, training=TrainingConfig(batch_size=4))
    module, images = build_tokenizer(tokenizer, 32), torch.rand(4, 3, 32, 32)
    saved = saved_bytes(module, images, False)
    module.checkpoint_blocks()
    outside = saved_bytes(module, images, False)  # inputs of blocks are held by whoever makes them again
    blocks = (saved - outside) / 4
    inputs = 4 * 64 * sum(half.depth * half.width for half in (tokenizer.encoder, tokenizer.decoder))
    widths = tokenizer.encoder.depth * tokenizer.encoder.width / tokenizer.decoder.width + tokenizer.decoder.depth
    found = cost.stage_cost("tokenizer", trial)
    assert found.image_bytes == pytest.approx(saved / 4, rel=0.15)
    assert found.image_bytes - found.recomputed_bytes == pytest.approx(blocks - inputs - blocks / widths, rel=0.15)
