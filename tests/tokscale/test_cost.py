"""Formulas of cost against the modules that are built, torch's own FLOP counter, and published tables."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tokscale import cost
from tokscale.config import (
    AutoregressiveProbe,
    ClassifierTeacher,
    DecoderFinetuneConfig,
    FSQBottleneck,
    GanLoss,
    GenerationConfig,
    ImageFolderData,
    KLBottleneck,
    LinearProbeConfig,
    LossesConfig,
    LpipsLoss,
    ProceduralData,
    SemanticLoss,
    TrainingConfig,
    TrialConfig,
    VitTokenizer,
    VQBottleneck,
)
from tokscale.data.latents import LatentSpec
from tokscale.feature_formulas import image_network
from tokscale.formulas import classifier_flops
from tokscale.loss_formulas import dinov2, discriminator, vgg_16
from tokscale.measuring_cost import reconstructions_seen_flops, samples_seen_flops
from tokscale.models.tokenizer import build_tokenizer
from tokscale.probes.autoregressive import AutoregressiveProbe as ProbeModule
from tokscale.record import COLUMNS
from tokscale.stage import KINDS

KL16 = KLBottleneck(channels=16)
VQ = VQBottleneck(kind="vq", codebook_size=16384, code_dim=8)
BOTTLENECKS = [
    KL16,
    KLBottleneck(channels=5),
    VQ,
    VQBottleneck(kind="vq", codebook_size=100, code_dim=3),
    FSQBottleneck(kind="fsq", levels=(8, 8, 8, 6, 5)),
    FSQBottleneck(kind="fsq", levels=(3,)),
]
SIZES = [
    ("S", "B"),
    ("nano", "micro"),
    ("tiny", {"width": 200, "depth": 3, "heads": 5}),
    ({"width": 36, "depth": 2, "heads": 3}, "pico"),
]
SHAPES = [(16, 256), (4, 32), (7, 63), (2, 6)]
GRID = [
    pytest.param(*halves, *shape, bottleneck, id=f"{number}")
    for number, (halves, shape, bottleneck) in enumerate(itertools.product(SIZES, SHAPES, BOTTLENECKS))
    if number % 5 in (0, 2)  # 5 divides none of the lists' lengths: every pair of values still meets
]


def vit(encoder="S", decoder="B", patch=16, bottleneck=KL16):
    return VitTokenizer(encoder=encoder, decoder=decoder, patch=patch, bottleneck=bottleneck)


def counted(call):
    """FLOPs that torch's counter sees; in its attention too, which on a processor it misses in the fused kernel."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize(("encoder", "decoder", "patch", "resolution", "bottleneck"), GRID)
def test_parameters_are_exactly_and_flops_those_of_the_built_tokenizer(encoder, decoder, patch, resolution, bottleneck):
    config = vit(encoder, decoder, patch, bottleneck)
    with torch.device("meta"):
        tokenizer = build_tokenizer(config, resolution)
    assert cost.tokenizer_params(config) == tokenizer.sizes
    sizes, flops = cost.bottleneck_sizes(config, resolution), cost.tokenizer_flops(config, resolution)
    images = torch.empty(2, 3, resolution, resolution, device="meta")
    latents = torch.empty(2, sizes["bottleneck_tokens"], sizes["bottleneck_channels"], device="meta")
    assert tokenizer.num_latent_tokens == sizes["bottleneck_tokens"]
    assert tokenizer.bottleneck.latent_dim == sizes["bottleneck_channels"]
    assert tokenizer.bottleneck.codebook_size == sizes.get("codebook_size")
    assert counted(lambda: tokenizer.encode(images)) == 2 * flops["encode"]
    assert counted(lambda: tokenizer.decode(latents)) == 2 * flops["decode"]


def test_the_counter_sees_the_same_on_a_processor():
    config = vit("nano", "micro", 4)
    tokenizer, flops = build_tokenizer(config, 16), cost.tokenizer_flops(config, 16)
    assert counted(lambda: tokenizer(torch.rand(1, 3, 16, 16))) == sum(flops.values())


@pytest.mark.parametrize(("preset", "published"), [("S", 11.6e9), ("B", 23.1e9), ("L", 101.8e9)])
def test_vitok_table_1_counts_multiply_accumulates(preset, published):
    assert cost.tokenizer_flops(vit(preset, "pico"), 256)["encode"] / 2 == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(
    ("decoder", "resolution", "published"), [("B", 256, 34.8e9), ("L", 256, 113.4e9), ("B", 512, 160.8e9)]
)
def test_pairs_cost_what_vitok_tables_3_and_4_say(decoder, resolution, published):
    flops = cost.tokenizer_flops(vit("S", decoder), resolution)
    assert sum(flops.values()) / 2 == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(
    ("size", "exact", "printed"),
    [("B", 110.9, 111), ("L", 342.8, 343), ("XL", 774.6, 775), ("XXL", 1410.0, 1400), ("3B", 3100.0, 3100)],
)
def test_probes_have_the_sizes_of_llamagen(size, exact, printed):
    millions = cost.probe_params(AutoregressiveProbe(size=size), VQ, 1000) / 1e6
    assert millions == pytest.approx(exact, rel=0.005)
    assert (round(millions) if millions < 1000 else round(millions, -2)) == printed


@pytest.mark.parametrize("bottleneck", BOTTLENECKS, ids=lambda config: cost.bottleneck_numbers(config).label)
@pytest.mark.parametrize(
    ("size", "side", "positions"), [("nano", 4, "rotary"), ({"width": 200, "depth": 2, "heads": 5}, 8, "learned")]
)
def test_probe_formulas_are_those_of_the_built_probe(bottleneck, size, side, positions):
    config = AutoregressiveProbe(size=size, positions=positions)
    numbers, tokens = cost.bottleneck_numbers(bottleneck), side * side
    kind = "continuous" if numbers.codebook_size is None else "discrete"
    probe = ProbeModule(config, LatentSpec(kind, (side, side), tokens, numbers.latent_dim, numbers.codebook_size), 10)
    params = sum(parameter.numel() for parameter in probe.parameters())
    assert cost.probe_params(config, bottleneck, 10, tokens) == params
    z = torch.zeros(2, tokens, numbers.latent_dim) if kind == "continuous" else torch.zeros(2, tokens).long()
    flops = counted(lambda: probe.eval().nll(z, torch.zeros(2, dtype=torch.int64)))
    assert flops == pytest.approx(2 * cost.probe_flops(config, bottleneck, tokens), rel=0.01)


def test_bottleneck_sizes_are_those_of_vitok_and_of_the_code_lengths():
    assert cost.bottleneck_sizes(vit(), 256) == {
        "bottleneck_tokens": 256,
        "bottleneck_channels": 16,
        "bottleneck_floats": 4096,
        "pixels_per_float": 48.0,
        "floats_per_pixel": 4096 / 256**2,
    }
    assert cost.bottleneck_sizes(vit(bottleneck=VQ), 256) == {
        "bottleneck_tokens": 256,
        "bottleneck_channels": 8,
        "bottleneck_floats": 2048,
        "pixels_per_float": 96.0,
        "floats_per_pixel": 2048 / 256**2,
        "bottleneck_bits": 256 * 14.0,
        "codebook_size": 16384,
    }
    fsq = cost.bottleneck_sizes(vit(bottleneck=FSQBottleneck(kind="fsq", levels=(8, 8, 4))), 256)
    assert (fsq["codebook_size"], fsq["bottleneck_bits"], fsq["bottleneck_channels"]) == (256, 256 * 8.0, 3)


def test_sizes_of_a_trial_are_columns_and_follow_from_its_config():
    training = TrainingConfig(images=1000, batch_size=64)
    trial = TrialConfig(tokenizer=vit("nano", "nano", 4, VQ), training=training)
    sizes = cost.trial_sizes(trial)
    columns = {name for name, column in COLUMNS.items() if column.kind == "size"}
    assert set(sizes) == (columns | {"train_images", "train_flops"}) - {"finetune_only_params"}
    assert sizes["train_images"] == 16 * 64  # whole batches
    assert sizes["train_flops"] == cost.training_flops(trial.tokenizer, 32) * 1024
    assert sizes["probe_params"] == cost.probe_params(trial.probe, VQ, 10)


def test_what_a_config_cannot_tell_is_absent():
    photographs = TrialConfig(data=ImageFolderData(kind="image_folder", root="/photos"))
    without = TrialConfig(probe=None, generation=None)
    continuous = TrialConfig()
    assert "probe_params" not in cost.trial_sizes(photographs)
    assert "probe_params" not in cost.trial_sizes(without)
    assert {"codebook_size", "bottleneck_bits"}.isdisjoint(cost.trial_sizes(continuous))


TAUGHT = LossesConfig(semantic=SemanticLoss(features=ClassifierTeacher(kind="classifier")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bottleneck", [KL16, VQ], ids=["kl", "vq"])
def test_every_stage_has_a_cost(kind, bottleneck):
    trial = TrialConfig(tokenizer=vit(patch=4, bottleneck=bottleneck), losses=TAUGHT, linear_probe=LinearProbeConfig(),
                        decoder_finetune=DecoderFinetuneConfig())  # fmt: skip
    found = cost.stage_cost(kind, trial)
    assert found.flops > 0
    assert found.memory_bytes > 0
    assert found.disk_bytes > 0


def test_flops_of_stages_follow_their_budgets():
    trial = TrialConfig(data=ProceduralData(validation_images=100), tokenizer=vit("nano", "micro", 4))
    each = cost.tokenizer_flops(trial.tokenizer, 32)
    reconstructed = 100 * (each["encode"] + each["decode"])
    assert cost.stage_cost("reconstruction", trial).flops == reconstructed + reconstructions_seen_flops(trial)
    assert cost.stage_cost("latents", trial).flops == each["encode"] * (trial.latents.images + 100)
    probed = 3 * cost.probe_flops(trial.probe, KL16, 64) * trial.probe.training.images
    assert cost.stage_cost("probe", trial).flops == pytest.approx(probed)


def test_networks_beside_the_tokenizer_cost_their_passes():
    training = TrainingConfig(images=1000, batch_size=100)
    plain = TrialConfig(data=ProceduralData(resolution=64), tokenizer=vit(patch=8), training=training)

    def extra(**losses):
        changed = plain.model_copy(update={"losses": LossesConfig(**losses)})
        return cost.stage_cost("tokenizer", changed).flops - cost.stage_cost("tokenizer", plain).flops

    judged = 8 * discriminator(GanLoss().discriminator, 64).flops
    mlp = 2 * 64 * (768 * 3072 + 3072 * 3072 + 3072 * 768)  # of the decoder's 64 tokens
    assert extra(perceptual=LpipsLoss()) == pytest.approx(1000 * 3 * vgg_16(64).flops)
    assert extra(semantic=SemanticLoss()) == pytest.approx(1000 * (dinov2("dinov2-b", 224).flops + 3 * mlp))
    assert extra(gan=GanLoss()) == pytest.approx(1000 * judged)
    assert extra(gan=GanLoss(start=400)) == pytest.approx(600 * judged)
    assert extra(gan=GanLoss(start=401)) == pytest.approx(500 * judged)  # it joins between two batches
    assert extra(gan=GanLoss(start=5000)) == 0
    teacher = ClassifierTeacher(kind="classifier", size="nano")
    looked = classifier_flops(teacher, 64, 0)
    small = 2 * 64 * (768 * 3072 + 3072 * 3072 + 3072 * 64)
    assert extra(semantic=SemanticLoss(features=teacher)) == pytest.approx(1000 * (looked + 3 * small))


def test_a_linear_probe_costs_its_features_and_its_epochs():
    probe, bottleneck = AutoregressiveProbe(size="mini"), VQBottleneck(kind="vq", codebook_size=50, code_dim=3)
    images = LinearProbeConfig(images=1000, epochs=20)
    trial = TrialConfig(data=ProceduralData(validation_images=100), tokenizer=vit("nano", "micro", 4, bottleneck),
                        probe=probe, linear_probe=images)  # fmt: skip
    module = ProbeModule(probe, LatentSpec("discrete", (8, 8), 64, 3, 50), 10).eval()
    half = counted(lambda: module.middle_features(torch.zeros(1, 64, dtype=torch.int64)))
    encoded = cost.tokenizer_flops(trial.tokenizer, 32)["encode"]
    classified = 3 * 2 * (128 + 3) * 10 * 1000 * 20
    found = cost.stage_cost("linear_probe", trial)
    assert found.flops == 1100 * (encoded + half) + classified
    assert found.disk_bytes == 1100 * 4 * (128 + 3 + 2)


def test_guidance_samples_twice():
    tokenizer = vit("nano", "micro", 4)
    trials = [TrialConfig(tokenizer=tokenizer, generation=GenerationConfig(cfg_scale=scale)) for scale in (1.0, 1.5)]
    decoded = cost.tokenizer_flops(tokenizer, 32)["decode"] * 1024
    once, twice = (cost.stage_cost("generation", one).flops - decoded - samples_seen_flops(one) for one in trials)
    assert twice == pytest.approx(2 * once)


def test_a_search_for_guidance_samples_for_every_scale():
    tokenizer = vit("nano", "micro", 4)
    found = {}
    for search in (None, {"images": 256}):
        generation = GenerationConfig(images=1024, cfg_scale=1.5, cfg_search=search)
        trial = TrialConfig(tokenizer=tokenizer, generation=generation)
        found[bool(search)] = cost.stage_cost("generation", trial), samples_seen_flops(trial)
    (searched, seen), (alone, seen_alone) = found[True], found[False]
    assert (searched.flops - seen) / (alone.flops - seen_alone) == pytest.approx(1 + 6 * 256 / 1024)
    assert seen - seen_alone == 6 * 256 * image_network("random-conv", 32).flops
    assert searched.memory_bytes == alone.memory_bytes


@pytest.mark.parametrize("bottleneck", BOTTLENECKS, ids=lambda config: cost.bottleneck_numbers(config).label)
def test_disk_of_latents_is_that_of_their_arrays(bottleneck):
    trial = TrialConfig(data=ProceduralData(validation_images=7), tokenizer=vit("nano", "nano", 4, bottleneck))
    numbers, images = cost.bottleneck_numbers(bottleneck), trial.latents.images + 7
    kind = "continuous" if numbers.codebook_size is None else "discrete"
    arrays = LatentSpec(kind, (8, 8), 64, numbers.latent_dim, numbers.codebook_size).arrays(images).values()
    expected = sum(dtype.itemsize * torch.Size(shape).numel() for shape, dtype in arrays)
    assert cost.stage_cost("latents", trial).disk_bytes == expected


def test_cost_needs_no_torch():
    heavy = "{'torch', 'pandas', 'numpy'}"
    program = f"import sys, json, tokscale.cost; print(json.dumps(sorted({heavy} & set(sys.modules))))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []


@pytest.mark.parametrize("bottleneck", [KL16, VQ], ids=["kl", "vq"])
def test_a_training_step_costs_what_the_counter_sees(bottleneck):
    config = vit("nano", "mini", 8, bottleneck)
    tokenizer = build_tokenizer(config, 64)
    images = torch.rand(2, 3, 64, 64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        reconstruction, result, _ = tokenizer(images)
        (reconstruction.square().mean() + sum(result.losses.values())).backward()
    # images need no gradient, and attention's backward pass makes its scores only once: a few percent under 3 x
    assert counter.get_total_flops() / 2 == pytest.approx(cost.training_flops(config, 64), rel=0.05)
