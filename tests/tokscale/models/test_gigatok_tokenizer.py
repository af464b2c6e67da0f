"""GigaTok's tokenizers: both layouts with every bottleneck, their parts against their definitions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tokscale import presets
from tokscale.config import ConvolutionSize, GigaTokTokenizer, VitTokenizer
from tokscale.errors import ConfigError
from tokscale.models.convolutions import AdaptiveNorm, ConvolutionalDecoder, ConvolutionalEncoder, Residual
from tokscale.models.gigatok import pooled_regions
from tokscale.models.layers import BlockStack
from tokscale.models.qformer import CrossAttention
from tokscale.models.tokenizer import build_tokenizer

CONVOLUTION = {"channels": 8, "multipliers": [1, 2, 2], "encoder_blocks": 1, "decoder_blocks": 1, "map_channels": 24}
BOTTLENECKS = [
    {"kind": "kl", "channels": 4},
    {"kind": "vq", "codebook_size": 32, "code_dim": 4, "entropy_weight": 0.1},
    {"kind": "fsq", "levels": [5, 4]},
    {"kind": "lfq", "bits": 6},
]
kinds = pytest.mark.parametrize("bottleneck", BOTTLENECKS, ids=lambda config: config["kind"])
layouts = pytest.mark.parametrize("layout", ["1d", "2d"])


def small(layout="1d", bottleneck=BOTTLENECKS[0], size="pico", tokens=16):
    torch.manual_seed(0)
    config = GigaTokTokenizer(kind="gigatok", encoder=size, decoder=size, layout=layout, tokens=tokens,
                              convolution=CONVOLUTION, bottleneck=bottleneck)  # fmt: skip
    return build_tokenizer(config, 16)


def images(count=2):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@kinds
@layouts
def test_every_layout_and_bottleneck_trains_all_its_weights(layout, bottleneck):
    tokenizer = small(layout, bottleneck)
    assert tokenizer.grid == ((1, 16) if layout == "1d" else (4, 4))
    reconstruction, result, tapped = tokenizer(images())
    assert reconstruction.shape == (2, 3, 16, 16)
    assert result.latents.shape == (2, 16, tokenizer.bottleneck.latent_dim)
    assert tapped is None
    ((reconstruction - images()).square().mean() + sum(result.losses.values())).backward()
    for name, parameter in tokenizer.named_parameters():
        assert parameter.grad.isfinite().all(), name
        # the keys' biases shift all scores of a query alike, so softmax does not see them
        assert parameter.grad.count_nonzero() > 0 or name.endswith("keys_and_values.bias"), name


@pytest.mark.parametrize("preset", presets.GIGATOK)
def test_every_preset_runs_in_the_layouts_that_the_paper_has_it_in(preset):
    for layout in ("1d", "2d")[: 1 if preset.startswith("X") else 2]:
        config = GigaTokTokenizer(kind="gigatok", encoder=preset, decoder=preset, layout=layout, tokens=64)
        with torch.device("meta"):
            tokenizer = build_tokenizer(config, 128)
            depth = presets.GIGATOK[preset].depth
            reconstruction, _, tapped = tokenizer.eval()(torch.empty(1, 3, 128, 128), tap=depth)
        assert reconstruction.shape == (1, 3, 128, 128)
        assert tapped.shape == (1, 64, presets.GIGATOK[preset].width)


@kinds
@layouts
def test_decoding_the_codes_gives_the_reconstruction(layout, bottleneck):
    tokenizer = small(layout, bottleneck).eval()
    reconstruction, result, _ = tokenizer(images())
    latents = result.latents if result.indices is None else tokenizer.bottleneck.latents_of(result.indices)
    torch.testing.assert_close(tokenizer.decode(latents), reconstruction)
    torch.testing.assert_close(tokenizer.encode(images()).latents, result.latents)


@layouts
def test_images_of_a_batch_do_not_mix(layout):
    tokenizer, batch = small(layout).eval(), images(3)
    torch.testing.assert_close(tokenizer(batch[1:2])[0], tokenizer(batch)[0][1:2], rtol=1e-4, atol=1e-5)


@kinds
def test_bf16_autocast_trains_and_leaves_latents_in_float32(bottleneck):
    tokenizer = small(bottleneck=bottleneck)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reconstruction, result, _ = tokenizer(images())
    assert reconstruction.dtype == torch.bfloat16
    assert result.latents.dtype == torch.float32
    ((reconstruction.float() - images()).square().mean() + sum(result.losses.values())).backward()
    assert all(parameter.grad.isfinite().all() for parameter in tokenizer.parameters())


def test_other_sizes_are_refused_in_words():
    tokenizer = small()
    with pytest.raises(ConfigError, match=r"32 x 32 pixels[\s\S]*16 x 16, for which it was built"):
        tokenizer(torch.rand(1, 3, 32, 32))
    with pytest.raises(ConfigError, match=r"4 tokens[\s\S]*16"):
        tokenizer.decode(torch.rand(1, 4, 4))
    with pytest.raises(ConfigError, match="power of two, up to 32"):
        small(tokens=24)


@pytest.mark.parametrize("layout", ["1d", "2d", "vit"])
def test_the_tap_is_what_comes_out_of_a_block_of_the_decoder(layout):
    if layout == "vit":
        tokenizer = build_tokenizer(VitTokenizer(encoder="pico", decoder="mini", patch=4), 16).eval()
    else:
        tokenizer = small(layout, size="mini").eval()
    seen = {}
    for number, block in enumerate(tokenizer.decoder.transformer.blocks, start=1):
        block.register_forward_hook(lambda module, given, output, number=number: seen.__setitem__(number, output))
    for tap in (1, 3, 4):
        tapped = tokenizer(images(), tap=tap)[2]
        assert tapped.shape == (2, 16, 128)
        assert torch.equal(tapped, seen[tap])
    with pytest.raises(AssertionError, match="no block 5 of 4"):
        tokenizer(images(), tap=5)


@pytest.mark.parametrize("layout", ["1d", "2d", "vit"])
def test_activations_made_again_give_the_same_gradients(layout):
    if layout == "vit":
        tokenizer = build_tokenizer(VitTokenizer(encoder="micro", decoder="micro", patch=4), 16)
    else:
        tokenizer = small(layout, BOTTLENECKS[1], size="micro")
    again = copy.deepcopy(tokenizer)
    again.checkpoint_blocks()
    assert {stack.checkpoint_blocks for stack in again.modules() if isinstance(stack, BlockStack)} == {True}
    calls = []
    again.decoder.transformer.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    for model in (tokenizer, again):
        torch.manual_seed(3)
        reconstruction, result, tapped = model(images(), tap=2)
        (reconstruction.square().mean() + tapped.square().mean() + sum(result.losses.values())).backward()
    assert len(calls) == 2
    for (name, one), other in zip(tokenizer.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=lambda words, name=name: f"{name}: {words}")


# --- parts ---


def test_queries_start_as_averages_from_coarse_to_fine():
    cells = torch.randn(2, 5, 8, 8)
    pooled = pooled_regions(cells, 16)
    assert pooled.shape == (2, 16, 5)
    torch.testing.assert_close(pooled[:, 0], cells.mean((2, 3)))
    torch.testing.assert_close(pooled[:, 1], cells.mean((2, 3)))
    halves = torch.stack([cells[..., :4].mean((2, 3)), cells[..., 4:].mean((2, 3))], dim=1)  # 1 row, 2 columns
    torch.testing.assert_close(pooled[:, 2:4], halves)
    torch.testing.assert_close(pooled[:, 4], cells[..., :4, :4].mean((2, 3)))  # 2 rows, 2 columns
    torch.testing.assert_close(pooled[:, 8], cells[..., :4, :2].mean((2, 3)))  # 2 rows, 4 columns
    torch.testing.assert_close(pooled[:, 15], cells[..., 4:, 6:].mean((2, 3)))


def test_256_queries_end_in_8_rows_of_16_columns():
    cells = torch.arange(256.0).view(1, 1, 16, 16)
    finest = pooled_regions(cells, 256)[0, 128:, 0].view(8, 16)
    torch.testing.assert_close(finest, cells[0, 0].view(8, 2, 16).mean(1))


def test_every_cell_of_a_1d_decoder_starts_as_the_first_token():
    half = small().decoder.transformer
    seen = []
    half.blocks[0].register_forward_pre_hook(lambda module, given: seen.append(given))
    latents = torch.randn(2, 16, 24)
    half(latents)
    queries, memory = seen[0]
    embedded = half.embedding(half.embedding_norm(latents))
    torch.testing.assert_close(queries, embedded[:, :1] + half.query_positions)
    torch.testing.assert_close(memory, embedded + half.memory_positions)


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = CrossAttention(32, 4), nn.MultiheadAttention(32, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat((ours.queries.weight, ours.keys_and_values.weight)))
        theirs.in_proj_bias.copy_(torch.cat((ours.queries.bias, ours.keys_and_values.bias)))
        theirs.out_proj.load_state_dict(ours.projection.state_dict())
    x, memory = torch.randn(2, 5, 32), torch.randn(2, 9, 32)
    torch.testing.assert_close(ours(x, memory), theirs(x, memory, memory)[0])


def test_the_adaptive_norm_takes_scale_and_bias_from_the_map_that_entered():
    torch.manual_seed(0)
    norm, x, entered = AdaptiveNorm(8, 6), torch.randn(2, 8, 4, 4) * 3 + 1, torch.randn(2, 6, 2, 2)
    grouped = x.view(2, 2, 4, 4, 4)  # 2 groups of 4 channels
    deviations = grouped.var((2, 3, 4), correction=0, keepdim=True).sqrt()
    normed = ((grouped - grouped.mean((2, 3, 4), keepdim=True)) / deviations).view(2, 8, 4, 4)
    scale = norm.scale(entered.var((2, 3), correction=0).sqrt())[..., None, None]
    bias = norm.bias(entered.mean((2, 3)))[..., None, None]
    torch.testing.assert_close(norm(x, entered), scale * normed + bias, rtol=1e-4, atol=1e-4)


def test_the_adaptive_norm_has_a_gradient_on_a_map_without_deviations():
    entered = torch.ones(1, 6, 1, 1, requires_grad=True)
    AdaptiveNorm(8, 6)(torch.randn(1, 8, 2, 2), entered).square().sum().backward()
    assert entered.grad.isfinite().all()


def test_group_norms_have_the_32_groups_of_the_paper():
    with torch.device("meta"):
        halves = ConvolutionalEncoder(ConvolutionSize()), ConvolutionalDecoder(ConvolutionSize())
    groups = {module.num_groups for half in halves for module in half.modules() if isinstance(module, nn.GroupNorm)}
    assert groups == {32}
    blocks = [sum(isinstance(module, Residual) for module in half.modules()) for half in halves]
    assert blocks == [5 * 2 + 2, 5 * 3 + 2]


@pytest.mark.parametrize("size", ["pico", "mini"])
@layouts
def test_features_start_as_in_a_vit_tokenizer(layout, size):
    features = small(layout, BOTTLENECKS[0], size).encoder(images(4))
    assert features.std().item() == pytest.approx(1.4, rel=0.25)
    assert small(layout, BOTTLENECKS[2], size).encoder(images(4)).std().item() == pytest.approx(0.14, rel=0.5)


def test_transformers_start_with_weights_of_deviation_0_02():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        half = small(size="tiny").encoder.transformer
    for name, parameter in half.named_parameters():
        if name.endswith("weight") and "norm" not in name and name != "head.weight":
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
        elif name.endswith("bias"):
            assert parameter.count_nonzero() == 0, name
    assert half.query_positions.std().item() == pytest.approx(0.02, rel=0.05)
