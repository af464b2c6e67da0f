"""Adversarial losses against their formulas, term by term, and against the games that they come from."""

import math

import pytest
import torch
import torch.nn.functional as F

from tokscale.losses.adversarial import discriminator_loss, generator_loss

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
