"""What every bottleneck promises, whatever its kind."""

from __future__ import annotations

import math

import pytest
import torch

from tokscale.bottlenecks import build_bottleneck
from tokscale.bottlenecks.base import straight_through
from tokscale.config import FSQBottleneck, KLBottleneck, LFQBottleneck, VQBottleneck

BOTTLENECKS = [
    KLBottleneck(channels=3),
    VQBottleneck(kind="vq", codebook_size=32, code_dim=4),
    FSQBottleneck(kind="fsq", levels=(4, 3)),
    LFQBottleneck(kind="lfq", bits=5, entropy_weight=0.0),
]
kinds = pytest.mark.parametrize("config", BOTTLENECKS, ids=lambda config: config.kind)


def described(result):
    """Shapes, types and names of a result, without its values."""
    tensors = (result.latents, result.indices, result.mean, result.logvar)
    return [tensor if tensor is None else (tensor.shape, tensor.dtype) for tensor in tensors], [
        {name: (value.shape, value.dtype) for name, value in values.items()}
        for values in (result.losses, result.statistics)
    ]


@kinds
def test_training_and_evaluation_give_the_same_fields(config):
    bottleneck = build_bottleneck(config)
    features = torch.randn(2, 5, bottleneck.encoder_channels)
    result = bottleneck.train()(features)
    assert described(result) == described(bottleneck.eval()(features))
    assert result.latents.shape == (2, 5, bottleneck.latent_dim)
    assert all(value.shape == () for value in (*result.losses.values(), *result.statistics.values()))
    assert not any(value.requires_grad for value in result.statistics.values())
    assert (result.indices is not None) == (bottleneck.codebook_size is not None)


@kinds
def test_autocast_does_not_change_the_result(config):
    bottleneck = build_bottleneck(config).eval()
    features = torch.randn(4, 50, bottleneck.encoder_channels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = bottleneck(features)
    assert torch.equal(inside.latents, bottleneck(features).latents)


@kinds
def test_the_same_seed_gives_the_same_latents(config):
    bottleneck = build_bottleneck(config)
    features, draws = torch.randn(2, 5, bottleneck.encoder_channels), []
    for _ in range(2):
        torch.manual_seed(7)
        draws.append(bottleneck(features).latents)
    assert torch.equal(*draws)


@pytest.mark.parametrize("config", BOTTLENECKS[1:], ids=lambda config: config.kind)
def test_the_decoder_receives_exactly_the_latents_of_the_indices(config):
    bottleneck = build_bottleneck(config)
    result = bottleneck(torch.randn(4, 50, bottleneck.encoder_channels))
    assert torch.equal(result.latents, bottleneck.latents_of(result.indices))
    assert result.indices.dtype == torch.int64
    assert 0 <= result.indices.min() <= result.indices.max() < bottleneck.codebook_size


def test_a_continuous_bottleneck_has_no_codes():
    with pytest.raises(TypeError, match="continuous"):
        build_bottleneck(KLBottleneck()).latents_of(torch.zeros(1, 1, dtype=torch.int64))


def test_straight_through_is_the_identity_for_gradients():
    values, latents = torch.randn(3, 4), torch.randn(3, 4, requires_grad=True)
    given = torch.randn(3, 4)
    passed = straight_through(values, latents)
    passed.backward(given)
    assert torch.equal(passed, values)
    assert torch.equal(latents.grad, given)


@pytest.mark.parametrize(
    ("codes", "usage", "entropy"),
    [
        ([0, 0, 0, 0], 1 / 32, 0.0),
        ([3, 1, 3, 1], 2 / 32, 1.0),
        ([5, 6, 7, 8], 4 / 32, 2.0),
        ([9, 9, 9, 2], 2 / 32, -0.75 * math.log2(0.75) + 0.5),
        (list(range(32)), 1.0, 5.0),
    ],
)
def test_usage_and_entropy_have_their_closed_forms(codes, usage, entropy):
    statistics = build_bottleneck(BOTTLENECKS[1]).code_statistics(torch.tensor([codes]))
    assert statistics["codebook_usage"].item() == pytest.approx(usage)
    assert statistics["codebook_entropy"].item() == pytest.approx(entropy, abs=1e-6)
