"""The memory that training is planned with, against all tensors of whole steps at their true sizes, as fake ones."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.tokscale.cuda_autocast import AutocastOfCuda
from tests.tokscale.live_tensors import LiveBytes
from tokscale import cost
from tokscale.bottlenecks.draws import Draws
from tokscale.config import AutoregressiveProbe, TransformerSize, TrialConfig
from tokscale.data.latents import LatentSpec
from tokscale.losses.perceptual import VGG_16, PerceptualDistance
from tokscale.models.tokenizer import build_tokenizer
from tokscale.models.vit import Tubelet, VitEncoder
from tokscale.parsing import parse
from tokscale.probes import build_probe
from tokscale.teachers.base import VisionTeacher
from tokscale.training.sharding import _prepare_moments
from tokscale.training.tasks import ProbeTask
from tokscale.training.tokenizer_task import TokenizerTask

# an average of the weights is copied from weights that have no address
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

IMAGENET = {"kind": "procedural", "resolution": 256}


class Dinov2Like(VisionTeacher):
    """A ViT of the size of DINOv2-B, which sees images at 224 pixels."""

    def __init__(self):
        size = TransformerSize(width=768, depth=12, heads=12)
        super().__init__("a ViT", VitEncoder(size, Tubelet(14), (16, 16), 768), 768)

    def look(self, images):
        return self.module(torch.nn.functional.interpolate(images, (224, 224))).float()


def peak_of(task, batch, beside=()):
    """Bytes of all tensors at most, in a step of a training that has its moments."""
    optimizers = task.configure_optimizers()
    for optimizer in optimizers:
        _prepare_moments(optimizer)
    moments = [tensor for optimizer in optimizers for state in optimizer.state.values() for tensor in state.values()]
    half = task.training_config.precision == "bf16"
    with LiveBytes([*task.parameters(), *task.buffers(), *moments, *beside]) as live:
        with torch.autocast("cpu", torch.bfloat16, enabled=half), AutocastOfCuda():
            losses, _ = task.losses_of(batch(), Draws(1, 0))
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()
        del losses
        task.after_pass(1.0)
        task.finish_step()
        for optimizer in optimizers:
            optimizer.step()
        task.after_step()
    return live.most


def tokenizer_peak(trial, batch, monkeypatch):
    """Bytes that training this tokenizer takes at most, with networks of the true sizes beside it."""
    # among fake tensors nothing can be asked of a number
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, **_: tensor)
    monkeypatch.setattr("tokscale.training.reconstruction_task.perceptual_distance",
                        lambda _: PerceptualDistance(VGG_16))  # fmt: skip
    resolution = trial.data.resolution

    def images():
        return torch.zeros(batch, 3, resolution, resolution, dtype=torch.uint8), torch.zeros(batch, dtype=torch.int64)

    with FakeTensorMode(allow_non_fake_inputs=True):
        teacher = Dinov2Like() if trial.losses.semantic else None
        task = TokenizerTask(build_tokenizer(trial.tokenizer, *trial.data.extent), trial, 0, teacher)
        task.step = 10**9  # where a discriminator takes part
        frozen = [*task._perceptual, *([teacher.module] if teacher else [])]
        return peak_of(task, images, [(*network.parameters(), *network.buffers()) for network in frozen])


def vitok(patch, training, **sections):
    tokenizer = {"kind": "vit", "encoder": "S", "decoder": "B", "patch": patch,
                 "bottleneck": {"kind": "kl", "channels": 16}}  # fmt: skip
    return {"data": IMAGENET, "tokenizer": tokenizer, "training": {"precision": "bf16", **training}, **sections}


def gigatok(encoder, decoder, **sections):
    tokenizer = {"kind": "gigatok", "encoder": encoder, "decoder": decoder, "bottleneck": {"kind": "vq"}}
    losses = {"perceptual": {"kind": "lpips"}, "gan": {}, "semantic": {"features": "dinov2-b"}}
    return {"data": IMAGENET, "tokenizer": tokenizer, "training": {"precision": "bf16"}, "losses": losses, **sections}


CASES = {
    "ViTok S-B/16": (vitok(16, {}), 64),
    "ViTok S-B/16, few images": (vitok(16, {}), 2),
    "ViTok S-B/16, float32": (vitok(16, {"precision": "fp32"}), 32),
    "ViTok S-B/8, an average": (vitok(8, {"ema": 0.999}), 16),
    "ViTok S-B/16, LPIPS": (vitok(16, {}, losses={"perceptual": {"kind": "lpips"}}), 8),
    "GigaTok S-S": (gigatok("S", "S"), 8),
    "GigaTok B-L": (gigatok("B", "L"), 4),
    "GigaTok XL-XXL": (gigatok("XL", "XXL"), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_training_a_tokenizer_takes_the_memory_that_is_planned(case, monkeypatch):
    config, batch = CASES[case]
    trial = parse(TrialConfig, config)
    planned, counted = cost.stage_cost("tokenizer", trial), tokenizer_peak(trial, batch, monkeypatch)
    assert planned.at_once_bytes(batch, planned.image_bytes) == pytest.approx(counted, rel=0.15)


@pytest.mark.parametrize("size", ["mini", "B"])
def test_training_a_probe_takes_the_memory_that_is_planned(size):
    trial = parse(TrialConfig, vitok(16, {}) | {"probe": {"kind": "autoregressive", "size": size,
                                                          "training": {"precision": "bf16"}}})  # fmt: skip
    planned, batch = cost.stage_cost("probe", trial), 16
    assert isinstance(trial.probe, AutoregressiveProbe)
    with FakeTensorMode(allow_non_fake_inputs=True):
        probe = build_probe(trial.probe, LatentSpec("continuous", (16, 16), 256, 16), 10)
        task = ProbeTask(probe, trial.probe.training, 0)
        counted = peak_of(task, lambda: {"mean": torch.zeros(batch, 256, 16), "logvar": torch.zeros(batch, 256, 16),
                                        "labels": torch.zeros(batch, dtype=torch.int64)})  # fmt: skip
    assert planned.at_once_bytes(batch, planned.image_bytes) == pytest.approx(counted, rel=0.15)
