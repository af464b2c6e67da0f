"""Latent ViTok: what passes the bottleneck, where its tokens stand, what it costs, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.tokscale.saved_tensors import kept_for_backward
from tokscale import cost
from tokscale.config import KLBottleneck, TrialConfig, VitTokenizer, VQBottleneck
from tokscale.errors import ConfigError
from tokscale.models.layers import Transformer
from tokscale.models.positions import grid_positions, rotary_table
from tokscale.models.tokenizer import build_tokenizer
from tokscale.parsing import parse


def latent(tokens=6, positions="rotary", **others):
    settings = {"encoder": "nano", "decoder": "pico", "patch": 4, "bottleneck": KLBottleneck(channels=8)} | others
    return VitTokenizer(latent_tokens=tokens, positions=positions, **settings)


def built(config, resolution=16):
    torch.manual_seed(0)
    return build_tokenizer(config, resolution)


# --- what passes ---


@pytest.mark.parametrize("tokens", [3, 16, 40], ids=["fewer than patches", "as many", "more"])
def test_the_bottleneck_sees_the_latent_tokens_and_no_patch(tokens):
    config = latent(tokens)
    model, images = built(config).eval(), torch.rand(2, 3, 16, 16) * 2 - 1
    latents = model.encode(images).latents
    assert latents.shape == (2, tokens, 8)
    assert model.grid == (1, tokens)
    sizes = cost.bottleneck_sizes(config, 16)
    assert sizes["bottleneck_floats"] == tokens * 8 == latents[0].numel()
    assert sizes["pixels_per_float"] == 3 * 16 * 16 / (tokens * 8)
    torch.testing.assert_close(model.decode(latents), model(images)[0])


def test_every_latent_token_knows_every_patch_and_tells_every_pixel():
    model, images = built(latent()).eval(), (torch.rand(1, 3, 16, 16) * 2 - 1).requires_grad_()
    latents = model.encode(images).latents
    for token in range(6):
        (gradient,) = torch.autograd.grad(latents[0, token].sum(), images, retain_graph=True)
        assert (gradient[0].unfold(1, 4, 4).unfold(2, 4, 4).abs().amax((0, 3, 4)) > 0).all()
    given = latents.detach().requires_grad_()
    made = model.decode(given)
    for corner in (made[0, :, 0, 0], made[0, :, -1, -1]):
        (gradient,) = torch.autograd.grad(corner.sum(), given, retain_graph=True)
        assert (gradient[0].abs().amax(1) > 0).all()


def test_every_parameter_is_trained():
    for positions in ("rotary", "learned"):
        model = built(latent(positions=positions))
        reconstruction, result, _ = model(torch.rand(2, 3, 16, 16))
        (reconstruction.square().mean() + sum(result.losses.values())).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("positions", ["rotary", "rotary_1d", "sincos", "learned"])
def test_places_tell_latents_and_patches_apart(positions):
    model = built(latent(positions=positions)).eval()
    latents = torch.randn(1, 6, 8)
    made = model.decode(latents)
    assert (made - model.decode(latents.flip(1))).abs().max() > 1e-3
    patches = made.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(16, -1)
    assert torch.pdist(patches).min() > 1e-6


# --- where they stand ---


def test_latent_tokens_start_as_sines_and_cosines_of_their_number():
    model = built(latent(5))
    for vectors in (model.encoder.latents, model.decoder.places):
        half = vectors.shape[1] // 2
        expected = [
            [f(number * 10000 ** (-channel / half)) for f in (math.sin, math.cos) for channel in range(half)]
            for number in range(5)
        ]
        torch.testing.assert_close(vectors.detach(), torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("line", [False, True])
def test_tokens_beyond_the_grid_are_turned_by_nothing(line):
    transformer = Transformer(32, 2, 2, (2, 3), "rotary_1d" if line else "rotary").eval()
    x = torch.randn(1, 10, 32)
    places = grid_positions(6) if line else grid_positions(2, 3)
    table = rotary_table(torch.cat((places, torch.zeros(4, places.shape[1]))), 16)  # the first place turns by nothing
    expected = x
    for block in transformer.blocks:
        expected = block(expected, table)
    torch.testing.assert_close(transformer(x, (2, 3))[0], transformer.norm(expected))


def test_added_places_leave_tokens_beyond_the_grid_as_they_are():
    transformer = Transformer(32, 1, 2, (2, 3), "learned").eval()
    x = torch.randn(1, 10, 32)
    added = torch.cat((x[:, :6] + transformer.places.weight, x[:, 6:]), dim=1)
    torch.testing.assert_close(transformer(x, (2, 3))[0], transformer.norm(transformer.blocks[0](added, None)))


def test_any_resolution_has_as_many_latents():
    model = built(latent()).eval()
    images = torch.rand(1, 3, 24, 8) * 2 - 1
    latents = model.encode(images).latents
    assert latents.shape == (1, 6, 8)
    torch.testing.assert_close(model.decode(latents, (6, 2)), model(images)[0])


def test_the_look_into_the_decoder_is_of_the_patches():
    model = built(latent(decoder="micro")).eval()
    images = torch.rand(1, 3, 16, 16)
    made, _, tapped = model(images, 2)
    assert tapped.shape == (1, 16, 96)
    decoder = model.decoder
    torch.testing.assert_close(decoder.laid_out(decoder.transformer.norm(tapped), (4, 4)), made)


def test_a_small_tokenizer_learns_images_through_fewer_tokens_than_patches():
    halves = {"encoder": "micro", "decoder": "micro", "bottleneck": KLBottleneck(channels=16, weight=1e-6)}
    model = built(latent(8, "learned", **halves))
    coarse = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95))
    for _ in range(150):  # it begins slowly, as all do whose bottleneck is a sequence
        reconstruction, result, _ = model(images)
        error = (reconstruction - images).square().mean()
        optimizer.zero_grad()
        (error + sum(result.losses.values())).backward()
        optimizer.step()
    assert error.item() < 0.5 * images.var().item()


# --- what it costs ---


@pytest.mark.parametrize("positions", ["rotary", "rotary_1d", "sincos", "learned"])
@pytest.mark.parametrize(
    ("tokens", "patch", "resolution", "bottleneck"),
    [(64, 4, 32, KLBottleneck(channels=5)), (7, 8, 32, VQBottleneck(kind="vq", codebook_size=100, code_dim=3))],
)
def test_parameters_and_flops_are_those_of_the_module_built(tokens, patch, resolution, bottleneck, positions):
    config = latent(tokens, positions, patch=patch, bottleneck=bottleneck, decoder="micro")
    with torch.device("meta"):
        model = build_tokenizer(config, resolution)
    assert cost.tokenizer_params(config, resolution) == model.sizes
    images = torch.empty(2, 3, resolution, resolution, device="meta")
    latents = torch.empty(2, tokens, model.bottleneck.latent_dim, device="meta")
    flops = cost.tokenizer_flops(config, resolution)
    for call, expected in ((lambda: model.encode(images), "encode"), (lambda: model.decode(latents), "decode")):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            call()
        assert counter.get_total_flops() == 2 * flops[expected]


def test_s_b_16_with_256_latent_tokens_adds_their_vectors_and_one_mask():
    plain = cost.tokenizer_params(VitTokenizer(), 256)
    found = cost.tokenizer_params(VitTokenizer(latent_tokens=256), 256)
    assert found["encoder_params"] - plain["encoder_params"] == 256 * 768
    assert found["decoder_params"] - plain["decoder_params"] == 256 * 768 + 768


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_memory_of_training_is_what_autograd_saves(precision):
    trial = parse(TrialConfig, {"tokenizer": latent(48, encoder="micro", decoder="micro").model_dump(),
                                "training": {"batch_size": 2, "precision": precision}})  # fmt: skip
    model, images = built(trial.tokenizer, 32), torch.rand(2, 3, 32, 32)
    saved = kept_for_backward(model, lambda: (model(images)[0].float() - images).square().mean(), precision == "bf16")
    found = cost.stage_cost("tokenizer", trial)
    assert 2 * found.image_bytes + found.rounded_bytes == pytest.approx(saved, rel=0.15)


def test_label_and_layout_name_them():
    trial = TrialConfig(tokenizer=VitTokenizer(latent_tokens=48))
    assert (cost.label(trial), cost.layout(trial)) == ("S-B/16 latent n48 kl16", "latent tokens")


# --- what is refused ---


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"kind": "procedural_video", "frames": 8}}, "latent_tokens 6 are of images, and data.frames is 8"),
        ({"tokenizer": {"latent_tokens": 6, "positions": "none"}}, "apart by their positions alone"),
        ({"tokenizer": {"latent_tokens": 0}}, "latent_tokens"),
    ],
)
def test_what_latent_tokens_cannot_have_is_refused(sections, message):
    with pytest.raises(ConfigError, match=message):
        parse(TrialConfig, {"tokenizer": {"latent_tokens": 6, "patch": 8}, **sections})


def test_a_module_for_clips_or_another_number_of_tokens_is_refused():
    with pytest.raises(ConfigError, match="latent tokens are of images"):
        build_tokenizer(latent(), 16, 4)
    with pytest.raises(ConfigError, match="one number of them"):
        built(latent()).decode(torch.zeros(1, 16, 8))
