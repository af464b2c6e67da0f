"""FSQ against its definition (Mentzer et al. 2023), over whole codebooks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tokscale.bottlenecks import FSQ
from tokscale.config import FSQBottleneck
from tokscale.errors import ConfigError

LEVELS = [(8, 8, 8, 6, 5), (2,), (3,), (2, 2, 2, 2), (7, 4, 5), (16, 9), (1000,)]
every = pytest.mark.parametrize("levels", LEVELS, ids=lambda levels: ".".join(map(str, levels)))


@every
def test_indices_and_latents_are_a_bijection(levels):
    fsq = FSQ(FSQBottleneck(kind="fsq", levels=levels))
    indices = torch.arange(fsq.codebook_size)[None]
    latents = fsq.latents_of(indices)
    assert fsq.codebook_size == math.prod(levels)
    assert latents.unique(dim=1).shape[1] == fsq.codebook_size
    assert latents.abs().max() <= 1
    # a feature that lands in the middle of each cell is given the cell's index
    inside = (latents * (fsq.levels // 2) + fsq.offset) / fsq.reach
    result = fsq(torch.atanh(inside) - fsq.shift)
    assert torch.equal(result.indices, indices)
    assert torch.equal(result.latents, latents)


@every
def test_every_channel_takes_exactly_its_levels(levels):
    fsq = FSQ(FSQBottleneck(kind="fsq", levels=levels))
    sweep = torch.linspace(-9, 9, 20_001)[None, :, None].expand(1, -1, len(levels))
    latents = fsq(sweep).latents
    for channel, count in enumerate(levels):
        half = count // 2
        expected = torch.arange(-half, count - half) / half
        assert torch.equal(latents[0, :, channel].unique(), expected)


def test_digits_are_mixed_radix_with_the_first_channel_lowest():
    levels = (4, 3, 5)
    latents = FSQ(FSQBottleneck(kind="fsq", levels=levels)).latents_of(torch.arange(60)[None])[0]
    for index, (high, middle, low) in enumerate(itertools.product(range(5), range(3), range(4))):
        assert latents[index].tolist() == [(low - 2) / 2, float(middle - 1), (high - 2) / 2]


def test_rounding_is_that_of_the_definition():
    levels, torch_levels = (8, 5, 2), torch.tensor([8.0, 5.0, 2.0]).double()
    features = torch.randn(4, 100, 3, generator=torch.Generator().manual_seed(0)).double() * 2
    half = (torch_levels - 1) * 1.001 / 2
    offset = torch.tensor([0.5, 0.0, 0.5])
    bounded = torch.tanh(features + torch.atanh(offset / half)) * half - offset
    expected = bounded.round() / torch.tensor([4.0, 2.0, 1.0])
    torch.testing.assert_close(FSQ(FSQBottleneck(kind="fsq", levels=levels))(features).latents, expected)


def test_zero_stays_zero_before_rounding():
    fsq = FSQ(FSQBottleneck(kind="fsq", levels=(8, 6, 5, 2)))
    assert torch.tanh(fsq.shift) * fsq.reach - fsq.offset == pytest.approx(torch.zeros(4), abs=1e-5)


def test_gradient_is_that_of_the_bound_as_if_nothing_were_rounded():
    fsq = FSQ(FSQBottleneck(kind="fsq", levels=(8, 5)))
    features = torch.randn(2, 6, 2, requires_grad=True)
    given = torch.randn(2, 6, 2)
    (gradient,) = torch.autograd.grad(fsq(features).latents, features, given)
    bounded = (torch.tanh(features + fsq.shift) * fsq.reach - fsq.offset) / (fsq.levels // 2)
    (expected,) = torch.autograd.grad(bounded, features, given)
    assert torch.equal(gradient, expected)


def test_there_is_nothing_to_learn_or_to_save():
    fsq = FSQ(FSQBottleneck(kind="fsq"))
    assert list(fsq.parameters()) == []
    assert fsq.state_dict() == {}
    assert fsq(torch.randn(1, 2, 5)).losses == {}


@pytest.mark.parametrize("levels", [(1001,), (8,) * 21])
def test_levels_beyond_what_can_be_counted_are_refused(levels):
    with pytest.raises(ConfigError, match="levels"):
        FSQ(FSQBottleneck(kind="fsq", levels=levels))
