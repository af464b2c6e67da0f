"""Clips in the ViT tokenizer: tubelets, places in time, and images as clips of one frame."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tokscale import cost
from tokscale.config import TrialConfig, VitTokenizer
from tokscale.errors import ConfigError
from tokscale.models.layers import Transformer
from tokscale.models.positions import axis_pairs, grid_positions, rotary_table, rotate, sincos_table
from tokscale.models.tokenizer import build_tokenizer
from tokscale.models.vit import Tubelet, from_tubelets, to_tubelets
from tokscale.parsing import parse
from tokscale.probes.layers import grid_rotations


def tokenizer(frames=1, **settings):
    torch.manual_seed(0)
    config = VitTokenizer(encoder="pico", decoder="nano", patch=4, bottleneck={"channels": 3}, **settings)
    return build_tokenizer(config, 8, frames).eval()


# --- tubelets ---


@pytest.mark.parametrize(("shape", "tubelet"), [((4, 8, 8), (4, 2)), ((6, 12, 6), (3, 3)), ((3, 9, 15), (3, 1))])
def test_tubelets_are_laid_out_as_they_were_cut(shape, tubelet):
    clips, cut = torch.randn(2, 3, *shape), Tubelet(*tubelet)
    patch, frames = cut
    tubelets = to_tubelets(clips, cut)
    grid = (shape[0] // frames, shape[1] // patch, shape[2] // patch)
    assert tubelets.shape == (2, grid[0] * grid[1] * grid[2], cut.values)
    assert torch.equal(tubelets[:, 1], clips[:, :, :frames, :patch, patch : 2 * patch].flatten(1))
    assert torch.equal(from_tubelets(tubelets, cut, grid), clips)
    assert torch.equal(to_tubelets(from_tubelets(tubelets, cut, grid), cut), tubelets)


def test_the_embedding_is_a_strided_convolution_in_three_dimensions():
    encoder, clips = tokenizer(4, tubelet=2).encoder, torch.randn(2, 3, 4, 8, 12)
    expected = F.conv3d(clips, encoder.embedding.weight.view(32, 3, 2, 4, 4), stride=(2, 4, 4)).flatten(2)
    embedded = encoder.embedding(to_tubelets(clips, encoder.tubelet))
    torch.testing.assert_close(embedded, expected.transpose(1, 2), rtol=1e-4, atol=1e-5)


# --- an image is a clip of one frame ---


def test_a_clip_of_one_frame_is_its_image_bit_by_bit():
    model, images = tokenizer(), torch.rand(2, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        image, clip = model(images), model(images[:, :, None])
    assert torch.equal(clip[0], image[0][:, :, None])
    assert torch.equal(clip[1].latents, image[1].latents)
    assert model.grid == (2, 2)
    assert model.decode(image[1].latents).shape == (2, 3, 8, 8)


def test_the_table_of_an_image_is_that_of_rows_and_columns():
    positions, frequencies = grid_positions(3, 5), 10000.0 ** (-torch.arange(4) / 4)
    angles = (positions[..., None] * frequencies).flatten(1)
    assert torch.equal(rotary_table(positions, 16), torch.stack((angles.cos(), angles.sin())))


def test_a_model_of_clips_takes_images_where_a_token_is_of_one_frame():
    model, images = tokenizer(4), torch.rand(2, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        image, clip = model(images), model(images[:, :, None])
    assert torch.equal(image[0], clip[0][:, :, 0])
    assert model.decode(torch.randn(1, 16, 3)).shape == (1, 3, 4, 8, 8)
    assert model.decode(torch.randn(1, 4, 3), grid=(1, 2, 2)).shape == (1, 3, 1, 8, 8)
    longer = torch.rand(1, 3, 7, 8, 8)
    assert model(longer)[0].shape == longer.shape


@pytest.mark.parametrize(
    ("frames", "settings", "shape", "message"),
    [
        (4, {"tubelet": 2}, (1, 3, 8, 8), "given:   an image"),
        (4, {"tubelet": 2}, (1, 3, 5, 8, 8), "5 frames"),
        (1, {}, (1, 3, 2, 8, 8), "no places in time"),
        (2, {"tubelet": 2}, (1, 3, 4, 8, 8), "no places in time"),
        (4, {"positions": "learned"}, (1, 3, 2, 8, 8), "takes one size"),
        (1, {"positions": "learned"}, (1, 3, 16, 16), "takes one size"),
    ],
)
def test_what_a_tokenizer_was_not_built_for_is_refused(frames, settings, shape, message):
    with pytest.raises(ConfigError, match=message):
        tokenizer(frames, **settings).encode(torch.zeros(shape))


def test_tokens_of_no_known_grid_are_refused():
    with pytest.raises(ConfigError, match=r"grid=\(times, rows, columns\)"):
        tokenizer(4).decode(torch.zeros(1, 4, 3))
    with pytest.raises(ConfigError, match="does not divide the clip"):
        tokenizer(6, tubelet=4)


# --- places ---


@pytest.mark.parametrize(("pairs", "shares"), [(36, (12, 12, 12)), (32, (12, 10, 10)), (16, (6, 5, 5)), (4, (2, 1, 1))])
def test_three_axes_share_a_head_as_equally_as_it_allows(pairs, shares):
    assert axis_pairs(pairs, 3) == shares
    still = torch.zeros(5, 3)
    for axis, share in enumerate(shares):
        moved = still.clone()
        moved[:, axis] = torch.arange(5)
        turned = (rotary_table(moved, 2 * pairs)[1].abs() > 0).any(0)
        assert turned.sum() == share


@pytest.mark.parametrize("shift", [(5, 0, 0), (0, 3, 0), (0, 0, 7), (2, -4, 11)])
@pytest.mark.parametrize("head_dim", [64, 72])
def test_scores_depend_on_differences_in_time_and_place_only(shift, head_dim):
    torch.manual_seed(0)
    positions = grid_positions(3, 2, 4).double()
    queries, keys = torch.randn(2, 3, 24, head_dim, dtype=torch.float64)

    def scores(at):
        table = rotary_table(at, head_dim)
        return rotate(queries, table) @ rotate(keys, table).transpose(1, 2)

    torch.testing.assert_close(scores(positions + torch.tensor(shift)), scores(positions), rtol=0, atol=1e-4)
    assert not torch.allclose(scores(positions * 2), scores(positions), atol=0.1)


def test_grid_positions_go_frame_by_frame():
    assert grid_positions(2, 1, 2).tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]


def test_the_probe_turns_its_class_and_a_clip_s_tokens_on_three_axes():
    table = grid_rotations((2, 2, 3), 16)
    places = torch.cat([torch.zeros(1, 3), 1 + grid_positions(2, 2, 3)])
    torch.testing.assert_close(table, rotary_table(places, 16))
    torch.testing.assert_close(grid_rotations((1, 1, 6), 16), grid_rotations((1, 6), 16))


def test_one_axis_turns_with_the_place_in_raster_order():
    table = Transformer(32, 1, 2, (2, 2, 3), "rotary_1d").rotary((2, 2, 3))
    torch.testing.assert_close(table, rotary_table(torch.arange(12.0)[:, None], 16))


def test_sines_and_cosines_of_a_place_are_those_of_its_axes():
    table = sincos_table(torch.tensor([[3.0, 5.0]]), 8)[0]
    angles = torch.tensor([3.0, 3.0 * 10000**-0.5, 5.0, 5.0 * 10000**-0.5])
    torch.testing.assert_close(table, torch.cat((angles.sin(), angles.cos())))


@pytest.mark.parametrize("positions", ["rotary", "rotary_1d", "sincos", "learned", "none"])
def test_only_a_model_that_knows_places_tells_tokens_apart_by_them(positions):
    torch.manual_seed(0)
    transformer, order = Transformer(32, 1, 2, (2, 2, 3), positions), torch.randperm(12)
    x = torch.randn(1, 12, 32)
    with torch.no_grad():
        moved, stayed = transformer(x[:, order], (2, 2, 3))[0], transformer(x, (2, 2, 3))[0][:, order]
    assert torch.allclose(moved, stayed, atol=1e-5) == (positions == "none")
    transformer(x, (2, 2, 3))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in transformer.parameters())


# --- sizes ---


@pytest.mark.parametrize(
    ("half", "width", "depth", "hidden"), [("S", 768, 6, 2048), ("B", 768, 12, 2048), ("L", 1152, 24, 3072)]
)
def test_parameters_with_tubelets_are_those_of_blocks_and_of_two_linear_layers(half, width, depth, hidden):
    config = VitTokenizer(encoder=half, decoder=half, patch=16, tubelet=4)
    attention, feeding, norms = 4 * width * width + width, 3 * width * hidden + 2 * hidden + width, 4 * width
    blocks = depth * (attention + feeding + norms) + 2 * width
    with torch.device("meta"):
        sizes = build_tokenizer(config, 256, 16).sizes
    embedding, channels = (3 * 4 * 16 * 16 + 1) * width, 16
    assert sizes["encoder_params"] == blocks + embedding + (width + 1) * 2 * channels
    assert sizes["decoder_params"] == blocks + (channels + 1) * width + (width + 1) * 3 * 4 * 16 * 16
    assert sizes == cost.tokenizer_params(config, 256, 16)
    assert config.tokens_of(256, 16) == 1024


@pytest.mark.parametrize("positions", ["rotary", "sincos", "learned"])
def test_sizes_and_flops_of_clips_are_those_of_the_module_built(positions):
    config = VitTokenizer(encoder="pico", decoder="micro", patch=4, tubelet=2, positions=positions)
    model, clips = build_tokenizer(config, 16, 6).eval(), torch.randn(1, 3, 6, 16, 16)
    assert cost.tokenizer_params(config, 16, 6) == model.sizes
    counted = []
    with torch.no_grad():
        latents = model.encode(clips).latents
        assert model.decode(latents).shape == clips.shape
        for run in (lambda: model.encode(clips), lambda: model.decode(latents)):
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                run()
            counted.append(counter.get_total_flops())
    flops, sizes = cost.tokenizer_flops(config, 16, 6), cost.bottleneck_sizes(config, 16, 6)
    assert counted == [flops["encode"], flops["decode"]]
    assert sizes["bottleneck_tokens"] == model.num_latent_tokens == 48
    assert sizes["pixels_per_float"] == 6 * 16 * 16 * 3 / (48 * 16)


def test_every_frame_costs_the_networks_beside_the_tokenizer_what_an_image_does():
    losses = {"perceptual": {"weight": 1.0}, "gan": {"weight": 0.1, "discriminator": {"width": 8, "depth": 1}}}
    image, clip = (
        parse(TrialConfig, {"data": {"kind": "procedural_video", "frames": frames}, "tokenizer": {"patch": 8},
                            "losses": losses, "training": {"images": 1024}})
        for frames in (1, 8)
    )  # fmt: skip
    of_image, of_clip = cost.loss_sizes(image), cost.loss_sizes(clip)
    assert (of_clip.always, of_clip.adversarial) == (8 * of_image.always, 8 * of_image.adversarial)
    assert (of_clip.kept.kept_bytes(2), of_clip.image_bytes(2)) == (
        8 * of_image.kept.kept_bytes(2),
        8 * of_image.image_bytes(2),
    )
    assert (of_clip.trained_params, of_clip.frozen_params) == (of_image.trained_params, of_image.frozen_params)
    plain = clip.model_copy(update={"losses": type(clip.losses)()})
    assert cost.tokenizer_training_flops(plain) == 1024 * cost.training_flops(clip.tokenizer, 32, 8)
    assert cost.label(clip) == "S-B/8 n128 kl16"
    tubelets = clip.tokenizer.model_copy(update={"tubelet": 4, "positions": "sincos"})
    assert cost.label(clip.model_copy(update={"tokenizer": tubelets})) == "S-B/4x8 sincos n32 kl16"
    assert [cost.layout(one) for one in (image, clip, clip.model_copy(update={"tokenizer": tubelets}))] == [
        "patches", "tubelets of 1", "tubelets of 4",
    ]  # fmt: skip


def test_memory_of_training_on_clips_is_what_autograd_saves():
    settings = {"encoder": "nano", "decoder": "micro", "patch": 4, "tubelet": 2}
    trial = parse(TrialConfig, {"data": {"kind": "procedural_video", "frames": 8, "resolution": 16},
                                "tokenizer": settings, "training": {"batch_size": 2}})  # fmt: skip
    model, clips, kept = build_tokenizer(trial.tokenizer, 16, 8), torch.rand(2, 3, 8, 16, 16), {}
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        (model(clips)[0] - clips).square().mean()
    saved = sum(size for size, _ in kept.values())
    assert cost.stage_cost("tokenizer", trial).image_bytes == pytest.approx(saved / 2, rel=0.15)


# --- configs ---


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"tokenizer": {"tubelet": 3}}, "tokenizer.tubelet 3 does not divide data.frames 8"),
        ({"tokenizer": {"kind": "gigatok"}}, "a gigatok tokenizer takes images"),
        ({"losses": {"semantic": {"layer": 1}}}, "losses.semantic aligns features of images"),
        ({"evaluation": {"clip_features": "i3d"}}, "clips of 10 frames or more"),
        ({"tokenizer": {"encoder": {"width": 16, "depth": 1, "heads": 4}}}, "cannot carry 3D rotary"),
        ({"probe": {"size": {"width": 16, "depth": 1, "heads": 4}}}, "probe.size: a head of 4 channels"),
        ({"data": {"kind": "procedural"}, "tokenizer": {"tubelet": 2}}, "an image has 1"),
    ],
)
def test_what_clips_cannot_have_is_refused_with_both_values(sections, message):
    with pytest.raises(ConfigError, match=message):
        parse(TrialConfig, {"data": {"kind": "procedural_video"}, **sections})
