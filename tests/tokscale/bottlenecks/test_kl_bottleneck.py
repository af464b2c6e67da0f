"""The KL bottleneck against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tokscale.bottlenecks import KL
from tokscale.config import KLBottleneck


@pytest.fixture
def features():
    return torch.randn(3, 7, 10, generator=torch.Generator().manual_seed(0)) * 2


def divergence(result):
    posterior = Normal(result.mean.double(), (0.5 * result.logvar.double()).exp())
    return kl_divergence(posterior, Normal(0.0, 1.0))


def test_loss_is_the_weighted_mean_divergence(features):
    result = KL(KLBottleneck(channels=5, weight=0.25))(features)
    assert result.losses["kl"].item() == pytest.approx(0.25 * divergence(result).mean().item(), rel=1e-5)


def test_statistic_is_bits_of_a_whole_image(features):
    result = KL(KLBottleneck(channels=5))(features)
    expected = divergence(result).sum(dim=(1, 2)).mean() / math.log(2)
    assert result.statistics["kl_bits_per_image"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_standard_normal_costs_nothing():
    result = KL(KLBottleneck(channels=2))(torch.zeros(2, 3, 4))
    assert result.losses["kl"] == 0
    assert result.statistics["kl_bits_per_image"] == 0


def test_samples_have_the_posteriors_mean_and_variance():
    torch.manual_seed(0)
    logvar = math.log(0.25)
    features = torch.tensor([1.5, logvar]).expand(1, 200_000, 2)
    latents = KL(KLBottleneck(channels=1)).train()(features).latents
    assert latents.mean().item() == pytest.approx(1.5, abs=5 * 0.5 / math.sqrt(200_000))
    assert latents.var().item() == pytest.approx(0.25, rel=0.02)


def test_evaluation_takes_the_mode(features):
    result = KL(KLBottleneck(channels=5)).eval()(features)
    assert torch.equal(result.latents, result.mean)
    assert torch.equal(result.mean, features[..., :5])


def test_log_variance_is_clamped_and_the_loss_stays_finite():
    features = torch.tensor([0.0, 1e4, 0.0, -1e4]).view(1, 2, 2)
    result = KL(KLBottleneck(channels=1))(features)
    assert result.logvar.flatten().tolist() == [20.0, -30.0]
    assert result.losses["kl"].isfinite()
    assert result.latents.isfinite().all()
