"""LFQ: signs and indices, straight-through gradients, commitment, entropies in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from tokscale.bottlenecks import LFQ
from tokscale.config import LFQBottleneck
from tokscale.errors import ConfigError
from tokscale.parsing import parse


def build(bits=6, **settings):
    return LFQ(LFQBottleneck(kind="lfq", bits=bits, **settings))


@pytest.mark.parametrize("bits", [1, 2, 9, 18])
def test_indices_and_latents_are_a_bijection(bits):
    lfq = build(bits).eval()
    indices = torch.arange(2**bits)[None]
    latents = lfq.latents_of(indices)
    assert latents.abs().eq(1).all()
    assert torch.equal(lfq(latents * 0.3).indices, indices)
    assert torch.equal(lfq(latents * 0.3).latents, latents)


def test_bit_i_says_whether_channel_i_is_positive():
    lfq, features = build(3).eval(), torch.tensor([[[0.1, -5.0, 2.0], [0.0, 0.5, -0.1]]])
    result = lfq(features)
    assert result.indices.tolist() == [[1 + 4, 2]]
    assert result.latents.tolist() == [[[1, -1, 1], [-1, 1, -1]]]


def test_the_gradient_passes_straight_through():
    features, given = torch.randn(2, 5, 6, requires_grad=True), torch.randn(2, 5, 6)
    (gradient,) = torch.autograd.grad(build()(features).latents, features, given)
    assert torch.equal(gradient, given)


def test_the_commitment_loss_is_the_mean_squared_distance_to_the_signs():
    features = torch.randn(2, 5, 6, requires_grad=True)
    loss = build(commitment=0.5)(features).losses["commitment"]
    expected = 0.5 * (features - features.sign()).square().mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, features)[0] for value in (loss, expected)))


def test_all_codes_alike_have_no_entropy_loss_and_one_code_has_none_either():
    every = build().latents_of(torch.arange(64))[None]
    lfq = build(entropy_weight=1.0).train()
    assert lfq(every).losses["entropy"].item() == pytest.approx(-math.log(64), abs=1e-5)
    assert lfq(every[:, :1]).losses["entropy"].item() == pytest.approx(0.0, abs=1e-5)
    # nothing decided: each latent could be any code, and so could all of them together
    assert lfq(torch.zeros(1, 7, 6)).losses["entropy"].item() == pytest.approx(0.0, abs=1e-5)


def test_the_entropy_loss_is_of_training_only_and_of_a_weight_only():
    features = torch.randn(1, 4, 6)
    assert set(build().train()(features).losses) == {"commitment", "entropy"}
    assert set(build().eval()(features).losses) == {"commitment"}
    assert set(build(entropy_weight=0).train()(features).losses) == {"commitment"}


def test_there_is_nothing_to_learn_or_to_save():
    assert list(build(18).parameters()) == []
    assert build(18).state_dict() == {}


def test_more_bits_than_anything_could_count_are_refused():
    with pytest.raises(ConfigError, match="24"):
        parse(LFQBottleneck, {"kind": "lfq", "bits": 25})
