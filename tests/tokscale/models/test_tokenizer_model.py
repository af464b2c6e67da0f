"""Tokenizers as a whole: every preset and bottleneck, published sizes, other resolutions, precision, learning."""

from __future__ import annotations

import pytest
import torch

from tokscale import presets
from tokscale.config import FSQBottleneck, KLBottleneck, LFQBottleneck, VitTokenizer, VQBottleneck
from tokscale.errors import ConfigError
from tokscale.models.tokenizer import build_tokenizer

BOTTLENECKS = [
    KLBottleneck(channels=16),
    VQBottleneck(kind="vq", codebook_size=64, code_dim=8),
    FSQBottleneck(kind="fsq", levels=(8, 5, 4)),
    LFQBottleneck(kind="lfq", bits=6),
]
SMALL = ["pico", "nano", "micro", "mini"]
kinds = pytest.mark.parametrize("bottleneck", BOTTLENECKS, ids=lambda config: config.kind)


def small(bottleneck=BOTTLENECKS[0], encoder="nano", decoder="nano", resolution=16):
    torch.manual_seed(0)
    return build_tokenizer(VitTokenizer(encoder=encoder, decoder=decoder, patch=4, bottleneck=bottleneck), resolution)


def on_meta(encoder, decoder, patch=16, resolution=256, bottleneck=BOTTLENECKS[0]):
    config = VitTokenizer(encoder=encoder, decoder=decoder, patch=patch, bottleneck=bottleneck)
    with torch.device("meta"):
        return build_tokenizer(config, resolution)


@kinds
@pytest.mark.parametrize("preset", presets.VIT)
def test_every_preset_and_bottleneck_runs(preset, bottleneck):
    in_memory = preset in SMALL
    device = torch.device("cpu" if in_memory else "meta")
    tokenizer = small(bottleneck, preset, preset) if in_memory else on_meta(preset, preset, 4, 16, bottleneck)
    images = torch.rand(2, 3, 16, 16, device=device) * 2 - 1
    reconstruction, result, _ = tokenizer(images)
    assert reconstruction.shape == images.shape
    assert result.latents.shape == (2, tokenizer.num_latent_tokens, tokenizer.bottleneck.latent_dim)
    if in_memory:
        ((reconstruction - images).square().mean() + sum(result.losses.values())).backward()
        for name, parameter in tokenizer.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.count_nonzero() > 0, name


@pytest.mark.parametrize(("preset", "published"), [("S", 43.3e6), ("B", 85.8e6), ("L", 383.7e6)])
def test_presets_have_the_sizes_of_vitok_table_1(preset, published):
    assert on_meta(preset, "pico").sizes["encoder_params"] == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(("decoder", "published"), [("B", 129.0e6), ("L", 426.8e6)])
def test_pairs_have_the_sizes_of_vitok_tables_3_and_4(decoder, published):
    assert on_meta("S", decoder).sizes["tokenizer_params"] == pytest.approx(published, rel=0.005)


def test_an_s_l_tokenizer_has_an_s_wide_encoder():
    tokenizer = on_meta("S", "L")
    assert {block.attention.projection.in_features for block in tokenizer.encoder.transformer.blocks} == {768}
    assert {block.attention.projection.in_features for block in tokenizer.decoder.transformer.blocks} == {1152}
    assert (len(tokenizer.encoder.transformer.blocks), len(tokenizer.decoder.transformer.blocks)) == (6, 24)
    assert tokenizer.sizes["encoder_params"] == on_meta("S", "B").sizes["encoder_params"]


def test_a_codebook_counts_in_the_whole_tokenizer_only():
    sizes = small(VQBottleneck(kind="vq", codebook_size=64, code_dim=8)).sizes
    assert sizes["tokenizer_params"] - sizes["encoder_params"] - sizes["decoder_params"] == 64 * 8
    assert sizes["training_only_params"] == 0


@kinds
@pytest.mark.parametrize("shape", [(16, 16), (32, 32), (8, 24), (4, 4)])
def test_any_resolution_that_the_patch_divides(bottleneck, shape):
    tokenizer = small(bottleneck)
    reconstruction, result, _ = tokenizer(torch.rand(2, 3, *shape))
    assert reconstruction.shape == (2, 3, *shape)
    grid = (shape[0] // 4, shape[1] // 4)
    assert result.latents.shape[1] == grid[0] * grid[1]
    assert torch.equal(tokenizer.decode(result.latents, grid), reconstruction)


def test_weights_do_not_depend_on_the_resolution():
    built, other = small(resolution=16).eval(), small(resolution=32).eval()
    other.load_state_dict(built.state_dict())
    images = torch.rand(1, 3, 24, 24)
    torch.testing.assert_close(built(images)[0], other(images)[0])


def test_decode_takes_the_grid_built_for_or_a_square():
    tokenizer = small()
    assert tokenizer.decode(torch.randn(1, 16, 16)).shape == (1, 3, 16, 16)
    assert tokenizer.decode(torch.randn(1, 64, 16)).shape == (1, 3, 32, 32)
    with pytest.raises(ConfigError, match="fill no square"):
        tokenizer.decode(torch.randn(1, 6, 16))


def test_an_image_that_the_patch_does_not_divide_is_named():
    with pytest.raises(ConfigError, match=r"16 x 18 pixels[\s\S]*multiples of 4"):
        small().encode(torch.rand(1, 3, 16, 18))
    with pytest.raises(ConfigError, match=r"18 x 18 pixels[\s\S]*multiples of 4"):
        small(resolution=18)


@kinds
def test_encoder_and_decoder_do_not_mix_images_of_a_batch(bottleneck):
    tokenizer, images = small(bottleneck).eval(), torch.rand(3, 3, 16, 16)
    whole = tokenizer(images)[0]
    torch.testing.assert_close(tokenizer(images[1:2])[0], whole[1:2], rtol=1e-4, atol=1e-5)


@kinds
def test_bf16_autocast_trains_and_leaves_latents_in_float32(bottleneck):
    tokenizer, images = small(bottleneck), torch.rand(2, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = tokenizer.encoder(images)
        reconstruction, result, _ = tokenizer(images)
    assert features.dtype == reconstruction.dtype == torch.bfloat16
    assert result.latents.dtype == torch.float32
    assert all(loss.dtype == torch.float32 for loss in result.losses.values())
    ((reconstruction.float() - images).square().mean() + sum(result.losses.values())).backward()
    assert all(parameter.grad.isfinite().all() for parameter in tokenizer.parameters())


@pytest.mark.parametrize("preset", SMALL)
def test_fsq_features_start_where_the_bound_has_a_gradient(preset):
    tokenizer = small(BOTTLENECKS[2], preset, "pico")
    features = tokenizer.encoder(torch.rand(8, 3, 16, 16) * 2 - 1)
    assert 0.05 < features.std() < 0.3
    assert features.abs().max() < 1


def test_a_tiny_tokenizer_overfits_eight_images():
    tokenizer = small(KLBottleneck(channels=16, weight=1e-6))
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=4e-3)
    errors = []
    for _ in range(100):
        reconstruction, result, _ = tokenizer(images)
        error = (reconstruction - images).square().mean()
        optimizer.zero_grad()
        (error + sum(result.losses.values())).backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.1 * errors[0]
    assert errors[-1] < 0.25 * images.var().item()
