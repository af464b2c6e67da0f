"""Both processes on a Gaussian distribution of latents, whose exact fields and samples are known in closed form."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tokscale.probes.noising import Ddpm, Flow

MEAN = torch.tensor([1.5, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.6, 0.5], [0.5, 0.3]], dtype=torch.float64)
NOISE = torch.randn(400, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def root(matrix):
    """The symmetric square root."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.sqrt()) @ vectors.T


def expected(x, left, added):
    """E[latents | x] and E[noise | x] for x = left latents + added noise."""
    spread = left**2 * COVARIANCE + added**2 * torch.eye(2, dtype=x.dtype)
    whitened = (x - left * MEAN) @ torch.linalg.inv(spread)
    return MEAN + left * whitened @ COVARIANCE, added * whitened


def velocity(x, times):
    """What a flow's network would say if it knew everything."""
    time = times[0].item() / 1000
    latents, noise = expected(x, 1 - time, time)
    return noise - latents


def exact_noise(x, times):
    """What a ddpm's network would say if it knew everything."""
    kept = Ddpm().kept[int(times[0])].item()
    return expected(x, math.sqrt(kept), math.sqrt(1 - kept))[1]


def error(process, field, exact, steps, solver="euler"):
    return (process.sampled(field, NOISE, steps, solver) - exact).abs().mean().item()


def test_a_flow_turns_noise_into_the_gaussian_with_the_order_of_its_solver():
    exact = MEAN + NOISE @ root(COVARIANCE)
    errors = {
        (solver, steps): error(Flow(), velocity, exact, steps, solver)
        for solver, steps in itertools.product(("euler", "heun"), (20, 40))
    }
    assert errors["euler", 20] / errors["euler", 40] == pytest.approx(2, rel=0.2)
    assert errors["heun", 20] / errors["heun", 40] == pytest.approx(4, rel=0.25)
    assert errors["heun", 40] < 0.002
    assert error(Flow(), velocity, exact, 250) < 0.01


def test_ddim_turns_noise_into_the_gaussian():
    last = Ddpm().kept[-1].item()
    spread = last * COVARIANCE + (1 - last) * torch.eye(2, dtype=torch.float64)
    start = (NOISE - math.sqrt(last) * MEAN) @ torch.linalg.inv(root(spread))
    exact = MEAN + start @ root(COVARIANCE)
    errors = [error(Ddpm(), exact_noise, exact, steps) for steps in (125, 250, 500)]
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.25)
    assert errors[0] > errors[1]
    assert errors[1] < 0.02


@pytest.mark.parametrize(
    ("process", "field", "solver"),
    [(Flow(), velocity, "euler"), (Flow(), velocity, "heun"), (Ddpm(), exact_noise, "euler")],
)
def test_samples_have_the_mean_and_covariance_of_the_data(process, field, solver):
    noise = torch.randn(20_000, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = process.sampled(field, noise, 100, solver)[:, 0]
    torch.testing.assert_close(found.mean(0), MEAN, rtol=0, atol=0.04)
    torch.testing.assert_close(torch.cov(found.T), COVARIANCE, rtol=0, atol=0.06)


@pytest.mark.parametrize("process", [Flow(), Ddpm()])
def test_noised_latents_have_the_moments_that_were_promised(process):
    latents = MEAN.float() + torch.randn(20_000, 1, 2) @ root(COVARIANCE).float()
    for time in (0.0, 0.3, 0.999):
        times = torch.full((len(latents),), time)
        left, added = 1 - time, time
        if isinstance(process, Ddpm):
            kept = process.kept[int(1000 * time)].item()
            left, added = math.sqrt(kept), math.sqrt(1 - kept)
        found = process.noised(latents, torch.randn_like(latents), times)[:, 0]
        spread = left**2 * COVARIANCE + added**2 * torch.eye(2)
        torch.testing.assert_close(found.mean(0), left * MEAN.float(), rtol=0, atol=0.05)
        torch.testing.assert_close(torch.cov(found.T), spread.float(), rtol=0, atol=0.08)


def test_the_schedule_is_that_of_ddpm():
    kept = Ddpm().kept
    assert len(kept) == 1000
    assert kept[0].item() == pytest.approx(1 - 1e-4)
    assert kept[499].item() == pytest.approx(math.exp(sum(math.log1p(-(1e-4 + i * 0.0199 / 999)) for i in range(500))))
    assert kept[-1].item() == pytest.approx(4.036e-5, rel=1e-3)


@pytest.mark.parametrize(("steps", "levels"), [(1, [999]), (4, [999, 666, 333, 0]), (1000, list(range(999, -1, -1)))])
def test_ddim_visits_levels_from_the_last_to_the_first(steps, levels):
    visited = []

    def field(x, times):
        visited.append(int(times[0]))
        return torch.zeros_like(x)

    Ddpm().sampled(field, torch.zeros(1, 1, 1), steps)
    assert visited == levels


def test_logit_normal_times_are_the_logistic_of_normal_numbers():
    chances = (torch.arange(10_000) + 0.5) / 10_000
    times = Flow(logit_normal=True).training_times(chances)
    normal = torch.logit(times.double())
    assert normal.mean().item() == pytest.approx(0, abs=1e-3)
    assert normal.std().item() == pytest.approx(1, abs=2e-3)
    assert torch.equal(Flow().training_times(chances), chances)
    ends = Flow(logit_normal=True).training_times(torch.tensor([0.0, 1 - 2**-24]))
    assert ends[0] == 0
    assert 0.98 < ends[1] <= 1
