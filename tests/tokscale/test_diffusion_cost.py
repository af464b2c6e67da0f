"""The diffusion probe's cost by formula against the module that is built, FLOP counter, and published sizes."""

from __future__ import annotations

import pytest
import torch

from tests.tokscale.test_cost import counted
from tokscale import cost
from tokscale.config import DiffusionProbe, GenerationConfig, KLBottleneck, ProceduralData, TrialConfig, VitTokenizer
from tokscale.data.latents import LatentSpec
from tokscale.formulas import probe_blocks, probe_feature_flops
from tokscale.measuring_cost import samples_seen_flops
from tokscale.probes import DiffusionProbe as DiffusionModule
from tokscale.probes import sample_diffusion


def small(bottleneck=KLBottleneck()):  # noqa: B008
    return VitTokenizer(encoder="nano", decoder="nano", patch=4, bottleneck=bottleneck)


@pytest.mark.parametrize(("size", "published"), [("B", 130e6), ("L", 458e6), ("XL", 675e6)])
def test_diffusion_probes_have_the_sizes_of_dit(size, published):
    # of a DiT with patches of 2 x 2 on 4 channels: 256 tokens of 16 numbers
    params = cost.probe_params(DiffusionProbe(kind="diffusion", size=size), KLBottleneck(), 1000)
    assert params == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize("objective", ["flow", "ddpm"])
@pytest.mark.parametrize(
    ("size", "side", "positions"), [("nano", 4, "rotary"), ({"width": 200, "depth": 3, "heads": 5}, 8, "learned")]
)
def test_diffusion_formulas_are_exactly_those_of_the_built_probe(size, side, positions, objective, channels):
    config = DiffusionProbe(kind="diffusion", size=size, positions=positions, objective=objective)
    tokens, bottleneck = side * side, KLBottleneck(channels=channels)
    probe = DiffusionModule(config, LatentSpec("continuous", (side, side), tokens, channels), 10).eval()
    assert cost.probe_params(config, bottleneck, 10, tokens) == sum(each.numel() for each in probe.parameters())
    assert probe_blocks(config)[0] == sum(each.numel() for each in probe.blocks.parameters())
    z, labels = torch.zeros(2, tokens, channels), torch.zeros(2, dtype=torch.int64)
    each = cost.probe_flops(config, bottleneck, tokens)
    assert counted(lambda: probe(z, torch.zeros(2), labels)) == 2 * each
    features = counted(lambda: probe.middle_features(z))
    assert features == 2 * probe_feature_flops(config, bottleneck, tokens)
    noise = torch.zeros(2, tokens, channels)
    guided = counted(lambda: sample_diffusion(probe, labels, noise, steps=3, cfg_scale=1.5))
    data, tokenizer = ProceduralData(resolution=4 * side), small(bottleneck)
    generation = GenerationConfig(images=100, cfg_scale=1.5, sampler_steps=3)
    trial = TrialConfig(data=data, tokenizer=tokenizer, probe=config, generation=generation)
    decoded = cost.tokenizer_flops(tokenizer, 4 * side)["decode"]
    assert cost.stage_cost("generation", trial).flops - samples_seen_flops(trial) == 100 * (guided / 2 + decoded)


def test_every_scale_and_every_look_of_a_solver_is_paid_for():
    def flops(**settings):
        generation = GenerationConfig(images=100, sampler_steps=10, **settings)
        probe = DiffusionProbe(kind="diffusion", size="nano")
        trial = TrialConfig(tokenizer=small(), probe=probe, generation=generation)
        return cost.stage_cost("generation", trial).flops - samples_seen_flops(trial)

    decoded = 100 * cost.tokenizer_flops(small(), 32)["decode"]
    once = flops() - decoded
    assert flops(cfg_scale=2) - decoded == 2 * once
    assert flops(solver="heun") - decoded == 2 * once
    assert flops(cfg_scales=(1.0, 1.5, 3.0)) - 3 * decoded == 5 * once


def test_samples_are_on_disk_until_they_are_measured():
    probe, generation = DiffusionProbe(kind="diffusion", size="nano"), GenerationConfig(images=100, cfg_scales=(1, 2))
    found = {
        kind: cost.stage_cost("generation", TrialConfig(tokenizer=small(), generation=generation, **settings))
        for kind, settings in (("diffusion", {"probe": probe}), ("autoregressive", {}))
    }
    assert found["diffusion"].disk_bytes - found["autoregressive"].disk_bytes == 2 * 100 * 64 * 16 * 4
    assert (found["diffusion"].work, found["autoregressive"].work) == ("diffusion", "")
