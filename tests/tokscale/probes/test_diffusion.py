"""The diffusion probe: what it says untrained, its loss and gradient in closed form, guidance, and what it learns."""

from __future__ import annotations

import math

import pytest
import torch

from tokscale.bottlenecks.draws import Draws
from tokscale.config import DiffusionProbe as ProbeConfig
from tokscale.data.latents import LatentSpec
from tokscale.errors import DataError
from tokscale.probes import DiffusionProbe, measure_diffusion, sample_diffusion, sampling_noise
from tokscale.probes.diffusion import STRATA

SPEC = LatentSpec("continuous", (2, 3), 6, 4)
OBJECTIVES = [{"objective": "flow"}, {"objective": "flow", "times": "logit-normal"}, {"objective": "ddpm"}]


def built(spec=SPEC, classes=3, seed=0, **changes):
    torch.manual_seed(seed)
    settings = {"kind": "diffusion", "size": {"width": 32, "depth": 2, "heads": 2}, **changes}
    return DiffusionProbe(ProbeConfig(**settings), spec, classes)


def lively(**changes):
    """A probe of which no part is zero."""
    probe = built(**changes)
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return probe.eval()


def latents(count, spec=SPEC, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 3 + 2 * torch.randn(count, spec.tokens, spec.dim, generator=generator)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_untrained_it_says_zero_and_its_blocks_change_nothing(positions):
    probe = built(positions=positions)
    x, times, labels = latents(5), torch.linspace(0, 1000, 5), torch.tensor([0, 1, 2, 3, 0])
    assert torch.equal(probe(x, times, labels), torch.zeros_like(x))
    placed = probe.input(x) + (0 if probe.positions is None else probe.positions)
    through = placed
    for block in probe.blocks:
        through = block(through, probe.condition(times, labels), probe.rotations)
    torch.testing.assert_close(through, placed)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_time_class_and_place_all_matter(positions):
    probe = lively(positions=positions)
    x, times, labels = latents(2), torch.tensor([100.0, 100.0]), torch.tensor([0, 0])
    said = probe(x, times, labels)
    assert not torch.allclose(said, probe(x, times + 1, labels), atol=1e-5)
    assert not torch.allclose(said, probe(x, times, labels + 1), atol=1e-3)
    order = torch.tensor([1, 0, 2, 3, 4, 5])
    assert not torch.allclose(said[:, order], probe(x[:, order], times, labels), atol=1e-3)


@pytest.mark.parametrize("changes", OBJECTIVES)
def test_the_loss_and_gradient_of_an_untrained_probe_are_those_of_zero(changes):
    probe = built(class_dropout=0.5, **changes)
    probe.set_normalisation(torch.full((4,), 3.0), torch.full((4,), 2.0))
    probe.draws, x = Draws(7, 5), latents(40)
    loss = probe.loss(x, torch.zeros(40, dtype=torch.int64))
    noise = Draws(7, 5).normal("noise", x.shape, x.device)
    target = noise if changes["objective"] == "ddpm" else noise - (x - 3) / 2
    assert loss.item() == pytest.approx(target.square().mean().item(), rel=1e-5)
    loss.backward()
    gradient = probe.head.out.bias.grad
    torch.testing.assert_close(gradient, -2 * target.mean((0, 1)) / 4, rtol=1e-4, atol=1e-6)
    for name, parameter in probe.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached == name.startswith("head.out"), "all else is behind a zero"


@pytest.mark.parametrize("changes", OBJECTIVES)
def test_the_gradient_is_the_slope_of_the_loss(changes):
    probe, x, labels = lively(**changes), latents(8), torch.arange(8) % 3
    probe.draws = Draws(1)
    probe.loss(x, labels).backward()
    parameters = list(probe.parameters())
    directions = [torch.randn_like(parameter) for parameter in parameters]
    expected = sum((p.grad * d).sum().item() for p, d in zip(parameters, directions, strict=True))
    found, step = [], 1e-3
    with torch.no_grad():
        for sign in (1, -2):
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(sign * step * direction)
            found.append(probe.loss(x, labels).item())
    assert (found[0] - found[1]) / (2 * step) == pytest.approx(expected, rel=0.02)


def test_random_numbers_belong_to_images():
    probe, x, labels = lively(class_dropout=0.5), latents(24), torch.arange(24) % 3

    def loss(first, last):
        probe.draws = Draws(11, first)
        return probe.loss(x[first:last], labels[first:last]).item()

    assert (10 * loss(0, 10) + 14 * loss(10, 24)) / 24 == pytest.approx(loss(0, 24), rel=1e-5)


def test_dropped_classes_train_the_unconditional_model():
    probe, x, labels = lively(class_dropout=1.0), latents(12), torch.zeros(12, dtype=torch.int64)
    probe.draws = Draws(0)
    noise = Draws(0).normal("noise", x.shape, x.device)
    times = Draws(0).uniform("times", (12,), x.device)
    null = torch.full_like(labels, probe.null_label)
    assert probe.loss(x, labels).item() == pytest.approx(probe.errors(x, null, noise, times).mean().item())


@pytest.mark.parametrize("objective", ["flow", "ddpm"])
def test_guidance_of_scale_one_is_none_and_others_are_linear(objective):
    probe, labels = lively(objective=objective), torch.tensor([0, 1, 2])
    noise = sampling_noise(probe, 3, seed=2)

    def step(scale, given=labels):
        return sample_diffusion(probe, given, noise, steps=1, cfg_scale=scale)

    conditional, unconditional = step(1.0), step(1.0, torch.full_like(labels, probe.null_label))
    assert not torch.allclose(conditional, unconditional, rtol=0.01)
    close = {"rtol": 1e-3, "atol": 1e-3 * conditional.abs().max().item()}
    torch.testing.assert_close(step(1.0 + 1e-9), conditional, **close)
    torch.testing.assert_close(step(2.5), unconditional + 2.5 * (conditional - unconditional), **close)


def test_noise_of_an_image_is_the_same_in_any_batch():
    probe = built()
    whole = sampling_noise(probe, 20, seed=3)
    assert torch.equal(torch.cat([sampling_noise(probe, 11, 3), sampling_noise(probe, 9, 3, first=11)]), whole)
    assert whole.std() == pytest.approx(1, abs=0.1)


def test_samples_are_in_the_latents_own_units():
    probe = built()
    noise = sampling_noise(probe, 3, seed=0)
    probe.set_normalisation(torch.arange(4.0), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    found = sample_diffusion(probe, torch.zeros(3, dtype=torch.int64), noise, steps=4)
    torch.testing.assert_close(found, probe.mean + probe.std * noise)  # at no speed, noise stays as it is


def batches(x, labels, size):
    logvar = torch.full_like(x, -1.0)
    for rows in torch.split(torch.arange(len(x)), size):
        yield {"mean": x[rows], "logvar": logvar[rows], "labels": labels[rows]}


@pytest.mark.parametrize("objective", ["flow", "ddpm"])
def test_the_measured_loss_does_not_depend_on_batches(objective):
    probe, x, labels = lively(objective=objective), latents(37), torch.arange(37) % 3
    whole = measure_diffusion(probe, batches(x, labels, 37))["diffusion_loss"]
    assert measure_diffusion(probe, batches(x, labels, 10), at_once=3)["diffusion_loss"] == pytest.approx(whole)
    assert measure_diffusion(probe, batches(x, labels, 37))["diffusion_loss"] == whole
    with pytest.raises(DataError, match="at least one"):
        measure_diffusion(probe, [])


def test_the_measured_times_fill_the_unit_interval_evenly(monkeypatch):
    probe, x, seen = built(), latents(64), []
    monkeypatch.setattr(
        probe, "errors", lambda latents, labels, noise, times: (seen.append(times), torch.zeros(len(times)))[1]
    )
    measure_diffusion(probe, batches(x, torch.zeros(64, dtype=torch.int64), 20))
    times = torch.cat(seen)
    counts = torch.histc(times, bins=STRATA * 16, min=0, max=1)
    assert len(times) == STRATA * 64
    assert counts.min() >= 3, "four in each of 64 parts, but for the golden ratio's slack"
    assert counts.max() <= 5


@pytest.mark.parametrize(("objective", "off"), [("flow", 0.2), ("ddpm", 0.6)])
def test_it_learns_two_modes_and_which_class_has_which(objective, off):
    spec = LatentSpec("continuous", (1, 2), 2, 2)
    probe = built(spec, 2, objective=objective, size={"width": 32, "depth": 1, "heads": 2}, class_dropout=0.3)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / 150))
    for _ in range(150):
        labels = torch.randint(2, (128,))
        modes = (2.0 * labels - 1)[:, None, None]
        loss = probe.loss(modes + 0.1 * torch.randn(128, 2, 2), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    labels, noise = torch.arange(200) % 2, sampling_noise(probe, 200, seed=5)
    found = sample_diffusion(probe, labels, noise, steps=25)
    modes = (2.0 * labels - 1)[:, None, None]
    assert (found.sign() == modes).float().mean() > 0.95
    assert (found - modes).abs().mean() < off
    free = sample_diffusion(probe, torch.full_like(labels, probe.null_label), noise, steps=25).mean((1, 2))
    assert 0.25 < (free > 0).float().mean() < 0.75
    assert ((free.abs() - 1).abs() < 0.4).float().mean() > 0.8


def test_features_are_of_the_middle_block_and_the_same_each_time():
    probe, x = lively(), latents(5)
    found = probe.middle_features(x)
    assert found.shape == (5, probe.width)
    torch.testing.assert_close(probe.middle_features(x[2:4]), found[2:4])
    with torch.no_grad():
        for parameter in probe.blocks[1].parameters():
            parameter.zero_()
    torch.testing.assert_close(probe.middle_features(x), found)
