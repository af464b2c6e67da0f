"""Adversarial losses against their formulas, term by term, and against the games that they come from."""

import math

import pytest
import torch
import torch.nn.functional as F

from tokscale.losses.adversarial import discriminator_loss, generator_loss, lecam_penalty, r1_penalty

REAL, FAKE = torch.tensor([[2.0, 0.5], [-1.0, 0.0]]), torch.tensor([[-3.0, -0.5], [0.25, 1.0]])


def test_hinge_counts_what_is_within_the_margin():
    assert generator_loss("hinge", FAKE).item() == pytest.approx(-(-3 - 0.5 + 0.25 + 1) / 4)
    real, fake = (0 + 0.5 + 2 + 1) / 4, (0 + 0.5 + 1.25 + 2) / 4
    assert discriminator_loss("hinge", REAL, FAKE).item() == pytest.approx((real + fake) / 2)
    assert discriminator_loss("hinge", torch.full((3,), 1.5), torch.full((3,), -1.5)).item() == 0


def test_the_non_saturating_loss_is_a_cross_entropy():
    ones, zeros = torch.ones_like(REAL), torch.zeros_like(REAL)
    entropy = F.binary_cross_entropy_with_logits
    assert generator_loss("non-saturating", FAKE).item() == pytest.approx(entropy(FAKE, ones).item())
    expected = (entropy(REAL, ones) + entropy(FAKE, zeros)) / 2
    assert discriminator_loss("non-saturating", REAL, FAKE).item() == pytest.approx(expected.item())
    assert discriminator_loss("non-saturating", zeros, zeros).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("kind", ["hinge", "non-saturating"])
def test_the_two_players_pull_in_opposite_directions(kind):
    fake = torch.zeros(4, requires_grad=True)
    up = torch.autograd.grad(generator_loss(kind, fake), fake)[0]
    down = torch.autograd.grad(discriminator_loss(kind, torch.zeros(4), fake), fake)[0]
    assert (up < 0).all()
    assert (down > 0).all()


def test_losses_are_taken_in_full_precision():
    logits = torch.linspace(-1, 1, 4096).to(torch.bfloat16)
    assert generator_loss("hinge", logits).dtype == torch.float32
    assert discriminator_loss("hinge", logits, logits).item() == pytest.approx(1, abs=1e-4)


# --- penalties ---


def test_r1_of_a_linear_discriminator_is_half_its_squared_weight():
    weight = torch.randn(3, 4, 4, dtype=torch.float64, requires_grad=True)
    images = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    penalty = r1_penalty(lambda x: (x * weight).sum(dim=(1, 2, 3))[:, None], images)
    assert penalty.item() == pytest.approx(0.5 * weight.square().sum().item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, weight.detach(), rtol=1e-6, atol=1e-6)


def test_r1_of_a_quadratic_discriminator_goes_back_to_its_weights():
    # D(x) = a |x|^2 / 2 on a map of two logits, of which the second is 0: half of a x, and |a x|^2 / 8
    scale = torch.tensor(1.5, requires_grad=True)
    images = torch.randn(4, 3, 2, 2)
    squares = images.square().sum(dim=(1, 2, 3))

    def judge(x):
        logits = scale * x.square().sum(dim=(1, 2, 3)) / 2
        return torch.stack([logits, torch.zeros_like(logits)], dim=1)

    penalty = r1_penalty(judge, images)
    assert penalty.item() == pytest.approx((1.5**2 * squares / 8).mean().item(), rel=1e-5)
    assert torch.autograd.grad(penalty, scale)[0].item() == pytest.approx((1.5 * squares / 4).mean().item(), rel=1e-5)


def test_lecam_counts_what_is_beyond_the_other_side():
    means = torch.tensor([0.5, -1.0])  # of images, of reconstructions
    real, fake = torch.tensor([2.0, -1.5, 0.0]), torch.tensor([1.0, 0.25, -2.0])
    above, below = (3.0**2 + 0 + 1) / 3, (0 + 0.25**2 + 2.5**2) / 3
    assert lecam_penalty(real, fake, means).item() == pytest.approx(above + below)
