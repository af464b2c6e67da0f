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
from tokscale.config import MIN_I3D_FRAMES, LossesConfig
from tokscale.feature_formulas import I3D_FEATURES, clip_network, distance, image_network
from tokscale.feature_names import DISTANCES
from tokscale.loss_formulas import DINOV2, PASSES_BESIDE, RANDOM_VGG, VGG_16, loss_costs, vgg
from tokscale.losses.perceptual import PerceptualDistance
from tokscale.metrics.clips import RandomConv3d
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
