"""The mixture density against torch.distributions, its temperature, its start, and its bounds."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from tokscale.probes.mixture import MIN_LOG_SCALE, Mixture, initial_numbers, mixture_from, mixture_size


def some_mixture(batch=5, components=3, dim=2, seed=0):
    torch.manual_seed(seed)
    return mixture_from(torch.randn(batch, mixture_size(components, dim)), components, dim)


def reference(mixture):
    parts = Independent(Normal(mixture.means, mixture.log_scales.exp()), 1)
    return MixtureSameFamily(Categorical(logits=mixture.log_weights), parts)


def test_log_density_is_that_of_the_reference():
    mixture = some_mixture()
    points = torch.randn(100, 5, 2)
    torch.testing.assert_close(mixture.log_prob(points), reference(mixture).log_prob(points), rtol=1e-5, atol=1e-5)


def test_samples_follow_the_density():
    mixture = some_mixture(batch=1, dim=1)
    points = mixture.sample(5000, torch.Generator().manual_seed(1))[0, :, 0].numpy()
    parts = stats.norm(mixture.means[0, :, 0].numpy(), mixture.log_scales[0, :, 0].exp().numpy())
    weights = mixture.log_weights[0].exp().numpy()
    assert stats.kstest(points, lambda x: parts.cdf(x[:, None]) @ weights).pvalue > 1e-3


def test_dimensions_of_a_component_are_sampled_together():
    far = Mixture(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[[-9.0, -9.0], [9.0, 9.0]]]), torch.zeros(1, 2, 2))
    points = far.sample(1000, torch.Generator().manual_seed(1))[0]
    assert (points[:, 0].sign() == points[:, 1].sign()).all()


@pytest.mark.parametrize("temperature", [0.25, 0.7, 1.0, 2.0])
def test_temperature_is_a_power_of_the_density_where_components_are_apart(temperature):
    means = torch.tensor([[[-40.0], [0.0], [40.0]]])
    mixture = Mixture(torch.tensor([[0.2, 0.5, 0.3]]).log(), means, torch.tensor([[[0.5], [1.0], [0.2]]]).log())
    points = torch.linspace(-60, 60, 240_001, dtype=torch.float64)[:, None]
    powered = (mixture.log_prob(points.float()).double() / temperature).exp()
    powered /= powered.sum() * 120 / 240_000
    tempered = mixture.tempered(temperature).log_prob(points.float()).double().exp()
    torch.testing.assert_close(tempered, powered, rtol=1e-3, atol=1e-4)


def test_starts_near_the_standard_normal_with_components_apart():
    torch.manual_seed(0)
    start = mixture_from(initial_numbers(64, 16), 64, 16)
    second_moments = (start.means**2 + (2 * start.log_scales).exp()).mean(0)
    torch.testing.assert_close(start.means.mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(second_moments, torch.ones(16), atol=1e-4, rtol=0)
    assert torch.pdist(start.means).min() > 0
    single = mixture_from(initial_numbers(1, 16), 1, 16)
    assert single.means.abs().max() == 0
    torch.testing.assert_close(single.log_scales, torch.zeros(1, 16), atol=1e-5, rtol=0)


def test_scales_have_a_floor_and_gradients_stay_finite():
    numbers = torch.zeros(1, mixture_size(2, 3))
    numbers[:, [4, 5, 6, 11, 12, 13]] = -1000.0
    numbers.requires_grad_()
    mixture = mixture_from(numbers, 2, 3)
    torch.testing.assert_close(mixture.log_scales, torch.full((1, 2, 3), MIN_LOG_SCALE))
    log_prob = mixture.log_prob(torch.full((1, 3), 10.0))
    log_prob.sum().backward()
    assert math.isfinite(log_prob.item())
    assert numbers.grad.isfinite().all()
