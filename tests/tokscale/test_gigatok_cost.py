"""GigaTok's formulas against the published sizes, and against modules put together from the paper's description."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tokscale import cost, gigatok_formulas, loss_formulas
from tokscale.config import (
    GigaTokTokenizer,
    ImageFolderData,
    LossesConfig,
    PatchDiscriminator,
    SemanticLoss,
    TrialConfig,
)

PHOTOGRAPHS = ImageFolderData(kind="image_folder", root="/photos")
ALIGNED = LossesConfig(semantic=SemanticLoss())


def gigatok(encoder="S", decoder="B", layout="1d", **changes):
    return GigaTokTokenizer(kind="gigatok", encoder=encoder, decoder=decoder, layout=layout, **changes)


def trial(tokenizer, losses=ALIGNED):
    return TrialConfig(data=PHOTOGRAPHS, tokenizer=tokenizer, losses=losses)


# --- published sizes ---


@pytest.mark.parametrize(
    ("encoder", "decoder", "layout", "millions"),
    [
        ("S", "S", "1d", 136), ("S", "B", "1d", 232), ("S", "L", "1d", 533), ("B", "L", "1d", 622),
        ("XL", "XXL", "1d", 2896), ("S", "B", "2d", 197), ("B", "L", "2d", 491),
    ],
)  # fmt: skip
def test_totals_with_the_alignment_mlp_are_those_of_table_9_and_figure_9(encoder, decoder, layout, millions):
    sizes = cost.trial_sizes(trial(gigatok(encoder, decoder, layout)))
    assert (sizes["tokenizer_params"] + sizes["training_only_params"]) / 1e6 == pytest.approx(millions, rel=0.005)


def test_the_smallest_2d_total_of_figure_9_is_not_reached():
    # The figure says 111 M. The layers that give its two other totals, and all five of Table 9, come to 123 M here.
    sizes = cost.trial_sizes(trial(gigatok("S", "S", "2d")))
    assert (sizes["tokenizer_params"] + sizes["training_only_params"]) / 1e6 == pytest.approx(122.9, abs=0.05)


def test_convolutions_have_the_published_sizes():
    assert gigatok_formulas.convolutional_encoder(256).params / 1e6 == pytest.approx(26.143, abs=5e-4)
    assert gigatok_formulas.convolutional_decoder(256).params / 1e6 == pytest.approx(50.161, abs=5e-4)


@pytest.mark.parametrize(
    ("size", "layout", "encoder", "decoder"),
    [
        ("S", "1d", 26.01, 26.80), ("B", "1d", 114.80, 115.78), ("L", "1d", 405.22, 406.27),
        ("XL", "1d", 947.55, None), ("XXL", "1d", 1817.28, 1818.06),
        ("S", "2d", 19.31, None), ("B", "2d", 85.65, None), ("L", "2d", 303.10, None),
    ],
)  # fmt: skip
def test_transformers_have_the_published_sizes(size, layout, encoder, decoder):
    config = gigatok(size, size, layout)
    assert gigatok_formulas.transformer_encoder(config, 256).params / 1e6 == pytest.approx(encoder, abs=0.006)
    if decoder is not None:
        assert gigatok_formulas.transformer_decoder(config, 256).params / 1e6 == pytest.approx(decoder, abs=0.006)


@pytest.mark.parametrize(("decoder", "millions"), [("S", 6.82), ("B", 14.16), ("L", 24.13), ("XXL", 51.92)])
def test_the_alignment_mlp_is_apart_from_what_is_left_behind(decoder, millions):
    sizes = [cost.trial_sizes(trial(gigatok("S", decoder), losses)) for losses in (ALIGNED, LossesConfig())]
    assert sizes[0]["tokenizer_params"] == sizes[1]["tokenizer_params"]
    assert sizes[0]["training_only_params"] / 1e6 == pytest.approx(millions, abs=0.006)
    assert sizes[1]["training_only_params"] == 0


def test_frozen_networks_and_discriminator_have_the_published_sizes():
    vgg, dino, judge = loss_formulas.vgg_16(224), loss_formulas.dinov2_b(518), loss_formulas.discriminator
    assert (vgg.params, vgg.flops / 2) == (14_714_688, pytest.approx(15.35e9, rel=1e-3))
    assert dino.params == pytest.approx(86.58e6, rel=1e-4)
    assert dino.flops / 2 == pytest.approx(151.7e9, rel=2e-3)  # multiply-accumulates at 518 pixels
    assert judge(PatchDiscriminator(), 256).params == pytest.approx(2.77e6, rel=0.002)


# --- modules from the paper's description ---


def rectified(inputs, outputs):
    return nn.Sequential(nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(rectified(inputs, outputs), rectified(outputs, outputs))
        self.beside = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.beside(x) + self.inner(x)


class Adaptive(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.scale, self.bias = (
            nn.GroupNorm(32, channels, affine=False), nn.Linear(256, channels), nn.Linear(256, channels)
        )  # fmt: skip

    def forward(self, x: Tensor, entered: Tensor) -> Tensor:
        scale, bias = self.scale(entered.std((2, 3))), self.bias(entered.mean((2, 3)))
        return scale[..., None, None] * self.norm(x) + bias[..., None, None]


class ConvolutionalDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(256, 512, 3, padding=1), Residual(512, 512), Residual(512, 512))
        self.norms, self.levels = nn.ModuleList(), nn.ModuleList()
        widths = [512, 512, 256, 256, 128, 128]
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            level = [Residual(inputs, outputs), Residual(outputs, outputs), Residual(outputs, outputs)]
            if number < 4:
                level += [nn.Conv2d(outputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2)]
            self.norms.append(Adaptive(inputs))
            self.levels.append(nn.Sequential(*level))
        self.last = rectified(128, 3)

    def forward(self, entered: Tensor) -> Tensor:
        x = self.first(entered)
        for norm, level in zip(self.norms, self.levels, strict=True):
            x = level(norm(x, entered))
        return self.last(x)


def convolutional_encoder():
    layers = [nn.Conv2d(3, 128, 3, padding=1)]
    for inputs, outputs, more in ((128, 128, 1), (128, 128, 1), (128, 256, 1), (256, 256, 1), (256, 512, 0)):
        layers += [Residual(inputs, outputs), Residual(outputs, outputs)]
        layers += [nn.Conv2d(outputs, outputs, 3, stride=2, padding=1)] * more
    return nn.Sequential(*layers, Residual(512, 512), Residual(512, 512), rectified(512, 256))


class QFormerBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.looking = nn.MultiheadAttention(width, heads, batch_first=True)
        self.reading = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        seen = self.norms[0](x)
        x = x + self.looking(seen, seen, seen, need_weights=False)[0]
        x = x + self.reading(self.norms[1](x), memory, memory, need_weights=False)[0]
        return x + self.mlp(self.norms[2](x))


def counted(module, *shapes):
    """Parameters and FLOPs of a module on inputs of these shapes, without computing them."""
    inputs = [torch.empty(shape, device="meta") for shape in shapes]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module(*inputs)
    return sum(parameter.numel() for parameter in module.parameters()), counter.get_total_flops()


def test_convolutions_cost_what_the_counter_sees():
    with torch.device("meta"):
        encoder, decoder = convolutional_encoder(), ConvolutionalDecoder()
    expected = gigatok_formulas.convolutional_encoder(64), gigatok_formulas.convolutional_decoder(64)
    assert counted(encoder, (1, 3, 64, 64)) == (expected[0].params, expected[0].flops)
    assert counted(decoder, (1, 256, 4, 4)) == (expected[1].params, expected[1].flops)


@pytest.mark.parametrize(("tokens", "cells"), [(256, 256), (128, 256), (16, 64)])
def test_transformers_cost_what_the_counter_sees(tokens, cells):
    size, side = {"width": 64, "depth": 3, "heads": 4}, int(cells**0.5)
    config = gigatok(size, size, tokens=tokens)
    with torch.device("meta"):
        blocks, around = nn.ModuleList(QFormerBlock(64, 4) for _ in range(3)), nn.LayerNorm(64)
        ends = [nn.Linear(256, 64), nn.LayerNorm(256), nn.Linear(64, 256), nn.Linear(64, 64)]

    def encoded(x: Tensor, queries: Tensor) -> Tensor:
        memory, queries = ends[0](ends[1](x)), ends[3](queries)
        for block in blocks:
            queries = block(queries, memory)
        return ends[2](around(queries))

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        encoded(torch.empty(1, cells, 256, device="meta"), torch.empty(1, tokens, 64, device="meta"))
    modules = [*blocks, around, *ends]
    positions = (tokens + cells) * 64
    params = sum(parameter.numel() for module in modules for parameter in module.parameters()) + positions
    found = gigatok_formulas.transformer_encoder(config, 16 * side)
    assert (found.params, found.flops) == (params, counter.get_total_flops())


def test_a_discriminator_costs_what_the_counter_sees():
    with torch.device("meta"):
        judge = nn.Sequential(
            nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(64, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128),
            nn.LeakyReLU(), nn.Conv2d(128, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.LeakyReLU(),
            nn.Conv2d(256, 512, 4, 1, 1, bias=False), nn.BatchNorm2d(512), nn.LeakyReLU(), nn.Conv2d(512, 1, 4, 1, 1),
        )  # fmt: skip
    expected = loss_formulas.discriminator(PatchDiscriminator(), 256)
    assert counted(judge, (1, 3, 256, 256)) == (expected.params, expected.flops)


def kept_bytes(module, *inputs):
    """Bytes that autograd keeps of a forward pass besides the parameters."""
    own, storages, alive = {parameter.data_ptr() for parameter in module.parameters()}, {}, []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        assert module(*inputs).mean().isfinite()
    return sum(storages.values())


def test_memory_is_what_autograd_keeps():
    images, cells = torch.rand(1, 3, 64, 64), torch.rand(1, 256, 4, 4)
    encoder, decoder = (gigatok_formulas.convolutional_encoder(64), gigatok_formulas.convolutional_decoder(64))
    assert kept_bytes(convolutional_encoder(), images) == pytest.approx(4 * encoder.kept, rel=0.15)
    assert kept_bytes(ConvolutionalDecoder(), cells) == pytest.approx(4 * decoder.kept, rel=0.15)
