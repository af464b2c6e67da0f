"""What measuring networks cost by formula: against modules, torch's FLOP counter, and what is alive at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.tokscale.live_tensors import most_alive
from tests.tokscale.saved_tensors import kept_for_backward
from tests.tokscale.test_cost import counted
from tokscale import cost
from tokscale.config import MIN_I3D_FRAMES, LossesConfig, TrialConfig
from tokscale.feature_formulas import I3D_FEATURES, clip_network, distance, image_network
from tokscale.feature_names import DISTANCES
from tokscale.loss_formulas import DINOV2, PASSES_BESIDE, RANDOM_VGG, VGG_16, loss_costs, vgg
from tokscale.losses.perceptual import PerceptualDistance
from tokscale.measuring_cost import (
    neighbours_bytes,
    neighbours_flops,
    reconstructions_seen_flops,
    samples_seen_flops,
    ssim_flops,
)
from tokscale.metrics.clips import RandomConv3d
from tokscale.metrics.generation import precision_recall
from tokscale.metrics.images import ssim
from tokscale.metrics.inception import Inception, LaterInception
from tokscale.metrics.random_conv import RandomConv
from tokscale.parsing import parse


def weights_of(module):
    """Numbers that a module holds, but for counters."""
    return sum(tensor.numel() for tensor in module.state_dict().values() if tensor.is_floating_point())


# --- networks ---


@pytest.mark.parametrize("kind", [Inception, LaterInception])
def test_inceptions_are_those_that_are_built(kind):
    with torch.device("meta"):
        network, images = kind().eval(), torch.empty(2, 3, 32, 32, dtype=torch.uint8)
    found = image_network(kind.name, 32)
    assert (found.params, found.width) == (weights_of(network), network.dim)
    assert counted(lambda: network(images)) == 2 * found.flops
    assert found.flops / 2 == pytest.approx(5.7e9, rel=0.005)  # multiply-accumulates, as torchvision prints them
    assert most_alive(lambda: network(images)) == pytest.approx(2 * found.image_bytes, rel=0.01)


@pytest.mark.parametrize("side", [16, 33, 50])
def test_random_convolutions_are_those_that_are_built(side):
    network, images = RandomConv(), torch.zeros(2, 3, side, side, dtype=torch.uint8)
    found = image_network("random-conv", side)
    assert (found.fixed_bytes, found.width) == (8 * weights_of(network), network.dim)
    assert counted(lambda: network(images)) == 2 * found.flops
    assert most_alive(lambda: network(images)) == pytest.approx(2 * found.image_bytes, rel=0.06)


@pytest.mark.parametrize(("side", "frames"), [(16, 4), (33, 7), (32, 16)])
def test_random_convolutions_of_clips_are_those_that_are_built(side, frames):
    network, clips = RandomConv3d(), torch.zeros(2, 3, frames, side, side, dtype=torch.uint8)
    found = clip_network("random-conv3d", side, frames)
    assert (found.fixed_bytes, found.width) == (8 * weights_of(network), network.dim)
    assert counted(lambda: network(clips)) == 2 * found.flops
    assert most_alive(lambda: network(clips)) == pytest.approx(2 * found.image_bytes, rel=0.06)


class Vit(nn.Module):
    """DINOv2's layers (Oquab et al. 2023): a class token, registers, layer scales, and a GELU or a SwiGLU."""

    def __init__(self, size):
        super().__init__()
        width, hidden = size.width, 4 * size.width
        self.size, self.patches = size, nn.Conv2d(3, width, 14, 14)
        self.extra, self.places = nn.Parameter(torch.empty(2 + size.registers, width)), nn.Embedding(37 * 37 + 1, width)
        self.blocks = nn.ModuleList()
        for _ in range(size.depth):
            if size.swiglu is None:
                feeding = nn.ModuleList([nn.Linear(width, hidden), nn.Linear(hidden, width)])
            else:
                feeding = nn.ModuleList([nn.Linear(width, 2 * size.swiglu), nn.Linear(size.swiglu, width)])
            self.blocks.append(nn.ModuleList([
                nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width), nn.LayerNorm(width), feeding,
                nn.Embedding(2, width),  # both layer scales
            ]))  # fmt: skip
        self.norm = nn.LayerNorm(width)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.extra[1:].expand(len(images), -1, -1), tokens], dim=1)
        for before, split, joined, behind, (up, down), scales in self.blocks:
            tokens = tokens + joined(self._mixed(split(before(tokens)))) * scales.weight[0]
            tokens = tokens + self._fed(up(behind(tokens)), down) * scales.weight[1]
        return self.norm(tokens)

    def _mixed(self, projected):
        q, k, v = projected.unflatten(2, (3, -1, 64)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def _fed(self, hidden, down):
        if self.size.swiglu is None:
            return down(F.gelu(hidden))
        gate, value = hidden.chunk(2, dim=-1)
        return down(F.silu(gate) * value)


@pytest.mark.parametrize("name", ["dinov2-s", "dinov2-b-reg", "dinov2-g"])
def test_dinov2_is_a_network_of_its_layers(name):
    with torch.device("meta"):
        network, images = Vit(DINOV2[name]).eval(), torch.empty(2, 3, 224, 224)
    found = image_network(name, 32)
    assert (found.params, found.width) == (weights_of(network), DINOV2[name].width)
    assert counted(lambda: network(images)) == 2 * found.flops
    assert most_alive(lambda: network(images * 2)) == pytest.approx(2 * found.image_bytes, rel=0.1)


class Padded(nn.Sequential):
    """Convolution, norm and ReLU; padded as TensorFlow would for even sizes, the odd one behind."""

    def __init__(self, inputs, outputs, kernel=1, stride=1):
        super().__init__(nn.Conv3d(inputs, outputs, kernel, stride, bias=False), nn.BatchNorm3d(outputs))
        before = max(0, kernel - stride) // 2
        self.padding = (before, max(0, kernel - stride) - before) * 3

    def forward(self, x):
        return F.relu(super().forward(F.pad(x, self.padding)))


def pooled(x, kernel, stride):
    padding = [max(0, k - s) for k, s in zip(kernel, stride, strict=True)]
    sides = [(n // 2, n - n // 2) for n in reversed(padding)]
    return F.max_pool3d(F.pad(x, [n for pair in sides for n in pair]), kernel, stride, ceil_mode=True)


class I3DLayers(nn.Module):
    """I3D (Carreira & Zisserman 2017, Figure 3): Inception v1 (Szegedy et al. 2015, Table 1) with windows over time."""

    table = """192 64 96 128 16 32 32 | 256 128 128 192 32 96 64 || 480 192 96 208 16 48 64 | 512 160 112 224 24 64 64 |
    512 128 128 256 24 64 64 | 512 112 144 288 32 64 64 | 528 256 160 320 32 128 128 || 832 256 160 320 32 128 128 |
    832 384 192 384 48 128 128"""

    def __init__(self):
        super().__init__()
        self.stem = nn.ModuleList([Padded(3, 64, 7, 2), Padded(64, 64), Padded(64, 192, 3)])
        self.groups = nn.ModuleList(
            nn.ModuleList(self._block(*map(int, block.split())) for block in group.split("|"))
            for group in self.table.split("||")
        )
        self.logits = nn.Conv3d(1024, 400, 1)

    def _block(self, inputs, first, narrow, second, narrower, third, last):
        return nn.ModuleList([
            Padded(inputs, first), nn.Sequential(Padded(inputs, narrow), Padded(narrow, second, 3)),
            nn.Sequential(Padded(inputs, narrower), Padded(narrower, third, 3)), Padded(inputs, last),
        ])  # fmt: skip

    def forward(self, clips):
        maps = pooled(self.stem[0](clips), (1, 3, 3), (1, 2, 2))
        maps = pooled(self.stem[2](self.stem[1](maps)), (1, 3, 3), (1, 2, 2))
        for number, group in enumerate(self.groups):
            if number:
                maps = pooled(maps, *(((3, 3, 3), (2, 2, 2)) if number == 1 else ((2, 2, 2), (2, 2, 2))))
            for first, second, third, last in group:
                around = pooled(maps, (3, 3, 3), (1, 1, 1))
                maps = torch.cat([first(maps), second(maps), third(maps), last(around)], dim=1)
        return self.logits(F.avg_pool3d(maps, (2, 7, 7), stride=1)).mean(dim=(2, 3, 4))


def test_i3d_is_a_network_of_its_layers():
    with torch.device("meta"):
        network = I3DLayers().eval()
        clips = {frames: torch.empty(1, 3, frames, 224, 224) for frames in (MIN_I3D_FRAMES, 11, 16, 64)}
        for frames, clip in clips.items():
            assert counted(lambda clip=clip: network(clip)) == clip_network("i3d", 32, frames).flops
        alive = most_alive(lambda: network(clips[16] * 2 - 1))
        with pytest.raises(RuntimeError, match="smaller than kernel"):
            network(clips[16][:, :, : MIN_I3D_FRAMES - 1])
    found = clip_network("i3d", 32, 16)
    assert (found.params, found.width) == (weights_of(network), 400)
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_697_264
    assert network.logits.in_channels == I3D_FEATURES
    assert clip_network("i3d", 32, 64).flops / 2 == pytest.approx(108e9, rel=0.035)
    assert alive == pytest.approx(found.image_bytes, rel=0.1)


def test_every_network_of_a_config_has_a_cost():
    for name in DISTANCES:
        assert image_network(name, 32).flops > 0


# --- LPIPS ---


@pytest.mark.parametrize("levels", [VGG_16, RANDOM_VGG])
def test_a_distance_takes_three_passes_in_training_and_two_without_gradients(levels):
    with torch.device("meta"):
        network = PerceptualDistance(levels)
        images, targets = torch.empty(2, 3, 64, 64, requires_grad=True), torch.empty(2, 3, 64, 64)
        with FlopCounterMode(display=False) as counter:
            network(images, targets).sum().backward()
        assert counter.get_total_flops() == 2 * PASSES_BESIDE * vgg(levels, 64).flops
        found = distance(64, levels)
        assert counted(lambda: network(images, targets)) == 2 * found.flops
        assert most_alive(lambda: network(images, targets)) == pytest.approx(2 * found.image_bytes, rel=0.07)
    assert found.params == sum(parameter.numel() for parameter in network.parameters())


# --- pixels and neighbours ---


@pytest.mark.parametrize("side", [16, 40])
def test_ssim_takes_its_matrix_products(side):
    images = torch.zeros(3, 3, side, side, dtype=torch.uint8)
    assert counted(lambda: ssim(images, images)) == 3 * ssim_flops(side)


@pytest.mark.parametrize(("reference", "samples"), [(300, 500), (1000, 400)])
def test_precision_and_recall_take_all_distances(reference, samples):
    generator = torch.Generator().manual_seed(0)

    def measure():
        return precision_recall(
            torch.rand(reference, 64, generator=generator), torch.rand(samples, 64, generator=generator)
        )

    assert counted(measure) == neighbours_flops(reference, samples, 64)
    assert most_alive(measure) == pytest.approx(neighbours_bytes(reference, samples, 64), rel=0.06)


# --- stages ---

CLIPS = {"kind": "procedural_video", "resolution": 32, "frames": 10, "validation_images": 100}
IMAGES = {"kind": "procedural", "resolution": 32, "validation_images": 100}


def written(data=IMAGES, evaluation=None, **sections):
    tokenizer = {"encoder": "pico", "decoder": "pico", "patch": 8}
    return parse(TrialConfig, {"data": data, "tokenizer": tokenizer, "evaluation": evaluation or {}, **sections})


def test_reconstructions_and_their_originals_are_looked_at():
    small, inception, dino, seen = (
        image_network("random-conv", 32).flops, image_network("inception-tf2015", 32).flops,
        image_network("dinov2-b", 32).flops, 2 * vgg(VGG_16, 32).flops,
    )  # fmt: skip
    pixels = ssim_flops(32)
    assert reconstructions_seen_flops(written()) == 100 * (pixels + 2 * small)
    several = written(evaluation={"features": ["inception-tf2015", "dinov2-b"]})
    assert reconstructions_seen_flops(several) == 100 * (pixels + seen + 2 * (inception + dino))
    of_file = written(evaluation={"reference": "/some.npz"}, losses={"perceptual": {"weight": 1.0}})
    assert reconstructions_seen_flops(of_file) == 100 * (pixels + seen + small)
    stand_in = written(losses={"perceptual": {"kind": "random-vgg"}})
    assert reconstructions_seen_flops(stand_in) == reconstructions_seen_flops(written())


def test_clips_are_looked_at_frame_by_frame_and_whole():
    frames, whole = image_network("random-conv", 32).flops, clip_network("random-conv3d", 32, 10).flops
    assert reconstructions_seen_flops(written(CLIPS)) == 100 * (10 * (ssim_flops(32) + 2 * frames) + 2 * whole)
    i3d, seen = clip_network("i3d", 32, 10).flops, 2 * vgg(VGG_16, 32).flops
    published = written(CLIPS, {"clip_features": "i3d"})
    assert reconstructions_seen_flops(published) == 100 * (10 * (ssim_flops(32) + seen + 2 * frames) + 2 * i3d)
    generated = written(CLIPS, generation={"images": 50, "cfg_scales": [1.0, 2.0]})
    near = neighbours_flops(1000, 500, 128)
    assert samples_seen_flops(generated) == 10 * (2 * 50 + 100) * frames + (2 * 50 + 100) * whole + 2 * near


def test_a_search_goes_by_the_first_network_and_a_reference_may_be_of_training_images():
    first, second = image_network("random-conv", 32), image_network("dinov2-b", 32)
    both = {"features": ["random-conv", "dinov2-b"]}
    search = {"images": 200, "cfg_search": {"images": 40}, "reference": "train:300"}
    near = neighbours_flops(300, 200, first.width)
    expected = 500 * (first.flops + second.flops) + 6 * 40 * first.flops + near
    assert samples_seen_flops(written(evaluation=both, generation=search)) == expected


def test_memory_of_measuring_holds_the_networks_and_their_widest_moment():
    plain = cost.stage_cost("reconstruction", written()).memory_bytes
    inception, lpips = image_network("inception-tf2015", 32), distance(32)
    found = cost.stage_cost("reconstruction", written(evaluation={"features": "inception-tf2015"})).memory_bytes
    grown = 64 * inception.image_bytes + inception.fixed_bytes + lpips.fixed_bytes
    assert grown - plain < found < grown + plain
    generated = cost.stage_cost("generation", written(evaluation={"features": "inception-tf2015"}))
    assert generated.memory_bytes > 64 * inception.image_bytes + inception.fixed_bytes


@pytest.mark.parametrize("levels", [VGG_16, RANDOM_VGG], ids=["lpips", "random"])
@pytest.mark.parametrize("bf16", [False, True])
def test_memory_of_a_perceptual_loss_is_what_autograd_keeps(levels, bf16):
    network, targets = PerceptualDistance(levels), torch.rand(2, 3, 32, 32)
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    saved = kept_for_backward(network, lambda: network(images, targets).sum(), bf16)
    kind = "lpips" if levels is VGG_16 else "random-vgg"
    found = loss_costs(parse(LossesConfig, {"perceptual": {"kind": kind}}), 64, 16, 32, 10)
    size = 2 if bf16 else 4
    copies = found.frozen_bytes(size) - found.frozen_bytes(4)  # of weights, which autograd holds as anything else
    assert saved == pytest.approx(2 * found.image_bytes(size) + copies, rel=0.02)
