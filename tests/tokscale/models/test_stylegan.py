"""StyleGAN2's discriminator: its size by formula, its filters by hand, and groups that do not depend on passes."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from tokscale import loss_formulas
from tokscale.config import StyleGanDiscriminator
from tokscale.models.discriminator import build_discriminator
from tokscale.models.stylegan import Blur, ScaledConvolution, ScaledLinear, _spread


def built(side=32, **changes):
    config = StyleGanDiscriminator(**{"channel_base": 256, "channel_max": 24, **changes})
    torch.manual_seed(0)
    return config, build_discriminator(config, side)


def params_by_hand(widths, last):
    """A 1 x 1 convolution, blocks, a 3 x 3 convolution with the spread as one more input, two linear layers."""
    found = 4 * widths[0]
    for inputs, outputs in pairwise(widths):
        found += (9 * inputs + 1) * inputs + (9 * inputs + 1) * outputs + inputs * outputs
    width = widths[-1]
    return found + (9 * (width + 1) + 1) * width + (width * last * last + 1) * width + width + 1


@pytest.mark.parametrize(
    ("side", "widths", "last"), [(32, [8, 16, 24, 24], 4), (64, [4, 8, 16, 24, 24], 4), (24, [10, 21, 24], 6)]
)
def test_parameters_and_flops_are_those_of_the_formula(side, widths, last):
    config, judge = built(side)
    assert config.widths(side) == widths
    count = sum(parameter.numel() for parameter in judge.parameters())
    formula = loss_formulas.discriminator(config, side)
    assert count == params_by_hand(widths, last) == formula.params
    with FlopCounterMode(display=False) as counter:
        assert judge(torch.rand(2, 3, side, side)).shape == (2, 1)
    assert counter.get_total_flops() == 2 * formula.flops


def test_by_default_it_has_the_size_of_the_published_one():
    config = StyleGanDiscriminator()
    assert config.widths(256) == [128, 256, 512, 512, 512, 512, 512]
    assert loss_formulas.discriminator(config, 256).params == params_by_hand(config.widths(256), 4)
    assert loss_formulas.discriminator(config, 1024).params == 29_012_513  # as its code prints when it begins to train


def test_images_that_cannot_be_halved_are_refused():
    config = StyleGanDiscriminator()
    assert [config.refusal(side) for side in (16, 24, 28, 256, 384)] == [None] * 5
    assert "16 does not divide data.resolution 100" in config.refusal(100)


def test_kept_floats_are_about_what_autograd_keeps():
    config, judge = built(32, channel_base=1024, channel_max=64)
    own = {parameter.data_ptr() for parameter in judge.parameters()}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tensor.numel() and tensor.ndim == 4 and len(tensor) == 8:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = judge(torch.rand(8, 3, 32, 32))
    assert logits.requires_grad
    assert 8 * 4 * loss_formulas.discriminator(config, 32).kept == pytest.approx(sum(storages.values()), rel=0.25)


# --- layers ---


def test_weights_are_scaled_where_they_are_used():
    torch.manual_seed(0)
    convolution, linear = ScaledConvolution(5, 7, 3), ScaledLinear(12, 4)
    x, y = torch.randn(2, 5, 6, 6), torch.randn(3, 12)
    expected = F.conv2d(x, convolution.weight / math.sqrt(45), padding=1)
    torch.testing.assert_close(convolution(x), expected)
    torch.testing.assert_close(linear(y), y @ linear.weight.T / math.sqrt(12))


@pytest.mark.parametrize(("edges", "stride"), [((2, 2), 1), ((1, 1), 2)])
def test_a_blur_is_a_binomial_filter_in_both_directions(edges, stride):
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    row = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8
    padded = F.pad(x, (*edges, *edges))
    size = (padded.shape[2] - 4) // stride + 1
    expected = torch.zeros(1, 2, size, size, dtype=torch.float64)
    for i in range(size):
        for j in range(size):
            window = padded[:, :, i * stride : i * stride + 4, j * stride : j * stride + 4]
            expected[:, :, i, j] = torch.einsum("bcij,i,j->bc", window, row, row)
    torch.testing.assert_close(Blur(*edges, stride)(x), expected)


# --- groups ---


def test_the_spread_is_the_mean_standard_deviation_of_a_group():
    x = torch.randn(6, 3, 2, 2)
    found = _spread(x, 4)
    assert found.shape == (6, 1, 2, 2)
    for rows in (slice(0, 4), slice(4, 6)):
        expected = x[rows].std(dim=0, correction=0).mean()
        torch.testing.assert_close(found[rows], expected.expand(found[rows].shape), rtol=1e-5, atol=1e-6)


def test_groups_are_the_same_whatever_passes_together():
    _, judge = built(stddev_images=4)
    images = torch.rand(12, 3, 32, 32)
    whole = judge(images)
    torch.testing.assert_close(torch.cat([judge(images[:8]), judge(images[8:])]), whole, rtol=1e-5, atol=1e-6)
    assert not torch.equal(torch.cat([judge(images[:6]), judge(images[6:])]), whole)
    assert judge.group == 4
