"""The memory that training is planned with, against all tensors of whole steps at their true sizes, as fake ones."""

from __future__ import annotations

from contextlib import contextmanager

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
from tokscale.training.decoder_task import DecoderTask
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


@contextmanager
def autocast(half):
    with torch.autocast("cpu", torch.bfloat16, enabled=half), AutocastOfCuda():
        yield


def peak_of(task, batch, beside=()):
    """Bytes of all tensors at most, in a step of a training that has its moments."""
    optimizers = task.configure_optimizers()
    for optimizer in optimizers:
        _prepare_moments(optimizer)
    moments = [tensor for optimizer in optimizers for state in optimizer.state.values() for tensor in state.values()]
    half = task.training_config.precision == "bf16"
    with LiveBytes([*task.parameters(), *task.buffers(), *moments, *beside]) as live:
        with autocast(half):
            losses, _ = task.losses_of(batch(), Draws(1, 0))
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()
        del losses
        with autocast(half):
            task.after_pass(1.0)
        task.finish_step()
        for optimizer in optimizers:
            optimizer.step()
        task.after_step()
    return live.most


def bare_networks(monkeypatch):
    """Networks of the true sizes without their weights; among fake tensors nothing can be asked of a number."""
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, **_: tensor)
    monkeypatch.setattr("tokscale.training.reconstruction_task.perceptual_distance",
                        lambda _: PerceptualDistance(VGG_16))  # fmt: skip


def pictures(trial, batch):
    resolution = trial.data.resolution
    return lambda: (torch.zeros(batch, 3, resolution, resolution, dtype=torch.uint8),
                    torch.zeros(batch, dtype=torch.int64))  # fmt: skip


def weights(networks):
    return [(*network.parameters(), *network.buffers()) for network in networks]


def tokenizer_peak(trial, batch, monkeypatch):
    """Bytes that training this tokenizer takes at most."""
    bare_networks(monkeypatch)
    with FakeTensorMode(allow_non_fake_inputs=True):
        teacher = Dinov2Like() if trial.losses.semantic else None
        task = TokenizerTask(build_tokenizer(trial.tokenizer, *trial.data.extent), trial, 0, teacher)
        task.step = 10**9  # where a discriminator takes part
        return peak_of(
            task, pictures(trial, batch), weights([*task._perceptual, *([teacher.module] if teacher else [])])
        )


def decoder_peak(trial, batch, monkeypatch):
    """Bytes that training this tokenizer's decoder takes at most."""
    bare_networks(monkeypatch)
    with FakeTensorMode(allow_non_fake_inputs=True):
        tokenizer = build_tokenizer(trial.tokenizer, *trial.data.extent)
        task = DecoderTask(tokenizer, trial.decoder_finetune, trial.data.resolution, 0)
        task.step = 10**9
        return peak_of(task, pictures(trial, batch), weights([*task._perceptual, *task._frozen]))


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


@pytest.mark.parametrize("r1", [None, {"every": 1}], ids=["adversary", "adversary with a penalty"])
def test_training_a_decoder_takes_the_memory_that_is_planned(r1, monkeypatch):
    losses = {"perceptual": {"kind": "lpips"}, "gan": {"discriminator": {"kind": "stylegan"}, "r1": r1}}
    trial = parse(TrialConfig, vitok(16, {}, decoder_finetune={"losses": losses, "training": {"precision": "bf16"}}))
    planned, batch = cost.stage_cost("decoder_finetune", trial), 8
    counted = decoder_peak(trial, batch, monkeypatch)
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
