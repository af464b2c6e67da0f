"""The rate is an upper bound that a trained probe comes close to: on data whose entropy or information is known."""

from __future__ import annotations

import math

import pytest
import torch

from tokscale.data.latents import LatentSpec
from tokscale.errors import DataError, DivergedError
from tokscale.probes import code_rate, draw_tokens, measure_rate, rate, sample_posterior

TOKENS = 16
IMAGES = 4096


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_bounds(measured, exact, within):
    """Bits per image (b,) of the probe are above the exact ones of the same samples, by no more than this share.

    On the same samples, the mean difference estimates a KL divergence, which is at least 0; what is allowed below is
    four standard errors.
    """
    gap = measured.double() - exact.double()
    error = (gap.std() / math.sqrt(len(gap))).item()
    assert gap.mean().item() > -4 * error
    assert gap.mean().item() < within * exact.mean().item()
    assert error < 0.01 * exact.mean().item(), "the measurement must be able to tell"


def near(values, expected):
    """The mean of values (b,) is the expected one, within four standard errors."""
    return abs(values.mean().item() - expected) < 4 * (values.std() / math.sqrt(len(values))).item()


# --- codes ---


def test_a_markov_chain_costs_its_entropy(chain):
    torch.manual_seed(1)
    data = chain.source.batches(IMAGES)
    exact = chain.source.bits(data["indices"], 0)
    assert near(exact, chain.source.entropy(0))
    with torch.no_grad():
        bits, nats = code_rate(chain.probe, data["indices"], data["labels"])
    assert_bounds(bits, exact, within=0.01)
    torch.testing.assert_close(bits, nats * TOKENS / math.log(2))
    measured = measure_rate(chain.probe, [data])
    assert measured["ar_bits_per_image"] == pytest.approx(bits.mean().item(), rel=1e-6)
    assert measured["ar_loss"] == pytest.approx(nats.mean().item(), rel=1e-6)


def test_the_class_is_a_condition_of_the_bound(class_chains):
    torch.manual_seed(2)
    source, probe = class_chains.source, class_chains.probe
    data = source.batches(IMAGES)
    indices, labels = data["indices"], data["labels"]
    conditional = source.bits(indices, labels)
    assert near(conditional, sum(source.entropy(label) for label in range(3)) / 3)
    each = torch.stack([-source.bits(indices, label) * math.log(2) for label in range(3)])
    unconditional = -(torch.logsumexp(each, dim=0) - math.log(3)) / math.log(2)
    with torch.no_grad():
        assert_bounds(code_rate(probe, indices, labels)[0], conditional, within=0.02)
        assert_bounds(
            code_rate(probe, indices, torch.full_like(labels, probe.null_label))[0], unconditional, within=0.1
        )
    told = (unconditional - conditional).mean().item()
    assert 0.5 < told <= math.log2(3), "I(z; y) is at most the entropy of the class"


# --- densities ---


def ar1(count, correlation=0.9, noise=0.3, channels=2):
    """AR(1) tokens of unit variance, known up to posterior noise."""
    mean = torch.randn(count, TOKENS, channels)
    for i in range(1, TOKENS):
        mean[:, i] = correlation * mean[:, i - 1] + math.sqrt(1 - correlation**2) * mean[:, i]
    return {"mean": mean, "logvar": torch.full_like(mean, 2 * math.log(noise)), "labels": torch.zeros(count).long()}


def ar1_marginal(correlation=0.9, noise=0.3):
    """The Gaussian of one channel of a noisy AR(1) sequence."""
    places = torch.arange(TOKENS, dtype=torch.float64)
    covariance = correlation ** (places[:, None] - places).abs() + noise**2 * torch.eye(TOKENS, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(torch.zeros(TOKENS, dtype=torch.float64), covariance)


def test_gaussian_tokens_cost_their_mutual_information(probe_of, train):
    probe = probe_of(LatentSpec("continuous", (4, 4), TOKENS, 2), 1, depth=1)
    probe.set_normalisation(torch.zeros(2), torch.full((2,), math.sqrt(1.09)))
    train(probe, ar1, steps=200)
    data, marginal = ar1(IMAGES), ar1_marginal()
    latents, log_q = sample_posterior(data["mean"], data["logvar"], seeded())
    exact = (log_q - marginal.log_prob(latents.double().transpose(1, 2)).sum(1)) / math.log(2)
    information = 2 * (0.5 * torch.logdet(marginal.covariance_matrix).item() - TOKENS * math.log(0.3)) / math.log(2)
    assert near(exact, information)
    with torch.no_grad():
        bits, _ = rate(probe, data["mean"], data["logvar"], data["labels"], seeded())
    assert_bounds(bits, exact, within=0.02)


FLIP = 0.1


def signs(count, noise=0.15):
    """Tokens at +1 or -1 that keep their sign with probability 0.9: seen through noise, two separate modes."""
    turns = torch.where(torch.rand(count, TOKENS, 1) < FLIP, -1.0, 1.0)
    turns[:, 0] = torch.where(torch.rand(count, 1) < 0.5, -1.0, 1.0)
    mean = turns.cumprod(1)
    return {"mean": mean, "logvar": torch.full_like(mean, 2 * math.log(noise)), "labels": torch.zeros(count).long()}


def log_density_of_signs(latents, noise=0.15):
    """Exact log q(z) (b,) by the forward recursion of the hidden Markov model."""
    likelihood = torch.distributions.Normal(torch.tensor([-1.0, 1.0]).double(), noise).log_prob(latents.double())
    turn = torch.tensor([[1 - FLIP, FLIP], [FLIP, 1 - FLIP]], dtype=torch.float64).log()
    forward = math.log(0.5) + likelihood[:, 0]
    for i in range(1, TOKENS):
        forward = torch.logsumexp(forward[:, :, None] + turn, dim=1) + likelihood[:, i]
    return torch.logsumexp(forward, dim=1)


def test_two_modes_cost_the_entropy_of_the_choice(probe_of, train):
    probe = probe_of(LatentSpec("continuous", (4, 4), TOKENS, 1), 1, depth=1)
    probe.set_normalisation(torch.zeros(1), torch.tensor([math.sqrt(1 + 0.15**2)]))
    train(probe, signs, steps=200)
    data = signs(IMAGES)
    latents, log_q = sample_posterior(data["mean"], data["logvar"], seeded())
    exact = (log_q - log_density_of_signs(latents)) / math.log(2)
    turn_bits = -FLIP * math.log2(FLIP) - (1 - FLIP) * math.log2(1 - FLIP)
    assert near(exact, 1 + (TOKENS - 1) * turn_bits), "13 standard deviations apart, the modes tell the sign"
    with torch.no_grad():
        bits, _ = rate(probe, data["mean"], data["logvar"], data["labels"], seeded())
    assert_bounds(bits, exact, within=0.02)


def test_bits_do_not_change_with_the_scale_of_latents(probe_of):
    probe = probe_of(LatentSpec("continuous", (4, 4), TOKENS, 2), 1)
    with torch.no_grad():
        probe.tokens.head.weight.normal_(std=0.1)
    data = ar1(64)
    before = rate(probe, data["mean"], data["logvar"], data["labels"], seeded())
    scale, shift = torch.tensor([40.0, 0.003]), torch.tensor([-5.0, 0.1])
    probe.set_normalisation(shift, scale)
    moved = rate(probe, scale * data["mean"] + shift, data["logvar"] + 2 * scale.log(), data["labels"], seeded())
    torch.testing.assert_close(moved[0], before[0], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(moved[1], before[1] + scale.log().sum().double(), rtol=1e-4, atol=1e-3)


# --- parts ---


def test_posterior_samples_and_their_log_density():
    mean, logvar = torch.randn(5, 7, 3), torch.randn(5, 7, 3)
    latents, log_q = sample_posterior(mean, logvar, seeded(3))
    expected = torch.distributions.Normal(mean, (0.5 * logvar).exp()).log_prob(latents).sum((1, 2))
    torch.testing.assert_close(log_q, expected, rtol=1e-5, atol=1e-4)
    again = draw_tokens({"mean": mean, "logvar": logvar, "labels": torch.zeros(5)}, seeded(3))
    assert torch.equal(again, latents)


def test_a_posterior_equal_to_the_probe_costs_nothing(probe_of):
    """An untrained probe with one component is the standard normal: the rate is then the KL divergence from it."""
    probe = probe_of(LatentSpec("continuous", (2, 2), 4, 3), 1, mixtures=1)
    nothing = torch.zeros(8, 4, 3)
    bits, _ = rate(probe, nothing, nothing, torch.zeros(8).long(), seeded())
    torch.testing.assert_close(bits, torch.zeros(8).double(), atol=1e-4, rtol=0)
    mean, logvar = torch.full((20_000, 4, 3), 0.7), torch.full((20_000, 4, 3), -1.0)
    bits, _ = rate(probe, mean, logvar, torch.zeros(20_000).long(), seeded())
    assert near(bits, 12 * 0.5 * (0.7**2 + math.exp(-1) + 1.0 - 1) / math.log(2))


def test_measured_over_batches_as_over_one(chain):
    torch.manual_seed(4)
    data = chain.source.batches(100)
    pieces = [{name: tensor[rows] for name, tensor in data.items()} for rows in (slice(0, 37), slice(37, 100))]
    assert measure_rate(chain.probe, pieces) == pytest.approx(measure_rate(chain.probe, [data]), rel=1e-6)


def test_measuring_leaves_the_mode_and_repeats(probe_of):
    probe = probe_of(LatentSpec("continuous", (4, 4), TOKENS, 2), 1, dropout=0.5, class_dropout=0.5).train()
    data = ar1(16)
    first = measure_rate(probe, [data], seeded())
    assert probe.training
    assert measure_rate(probe, [data], seeded()) == first


def test_nothing_to_measure_and_no_number_are_errors(chain, probe_of):
    with pytest.raises(DataError, match="no latents"):
        measure_rate(chain.probe, [])
    probe = probe_of(LatentSpec("continuous", (4, 4), TOKENS, 2), 1)
    data = ar1(4)
    data["mean"][0] = float("nan")
    with pytest.raises(DivergedError, match="not a finite number"):
        measure_rate(probe, [data])


@pytest.mark.parametrize("at_once", [1, 3, 64])
def test_the_rate_does_not_depend_on_how_many_images_pass_at_once(probe_of, at_once):
    spec = LatentSpec("continuous", (2, 2), 4, 3)
    batch = {"mean": torch.randn(10, 4, 3), "logvar": torch.randn(10, 4, 3), "labels": torch.zeros(10).long()}
    probe = probe_of(spec, 1)
    whole = measure_rate(probe, [batch], seeded())
    parts = measure_rate(probe, [batch], seeded(), at_once)
    assert parts == pytest.approx(whole, rel=1e-6)
