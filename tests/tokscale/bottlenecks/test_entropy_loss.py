"""The entropy loss against its plain formula, its closed forms, and what it keeps; ranks are in test_vq_bottleneck."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tokscale.bottlenecks import VQ, entropy
from tokscale.bottlenecks.entropy import entropy_loss, sign_entropy_loss
from tokscale.config import VQBottleneck

TEMPERATURES = pytest.mark.parametrize("temperature", [0.01, 0.3, 4.0])
PIECES = pytest.mark.parametrize("at_once", [2**22, 150, 1])


def plain(latents, codes, temperature):
    """The definition, with the whole matrix: softmax over minus squared distances."""
    logits = -(latents[:, None] - codes).square().sum(-1) / temperature
    logs = logits.log_softmax(-1)
    usage = logs.exp().mean(0)
    return torch.special.entr(logs.exp()).sum(-1).mean() - torch.special.entr(usage).sum()


def random_sphere(count, dim=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, dtype=torch.float64, generator=generator).requires_grad_()


def of_directions(loss, temperature):
    return lambda latents, codes: loss(F.normalize(latents, dim=-1), F.normalize(codes, dim=-1), temperature)


@PIECES
@TEMPERATURES
def test_value_and_gradients_are_those_of_the_plain_formula(monkeypatch, at_once, temperature):
    monkeypatch.setattr(entropy, "_AT_ONCE", at_once)
    given = random_sphere(50), random_sphere(40, seed=1)
    ours, expected = (of_directions(loss, temperature)(*given) for loss in (entropy_loss, plain))
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    for ours_of, expected_of in zip(*(torch.autograd.grad(v, given) for v in (ours, expected)), strict=True):
        torch.testing.assert_close(ours_of, expected_of, rtol=1e-7, atol=1e-9)


@TEMPERATURES
def test_float32_stays_within_1e_5(temperature):
    given = random_sphere(50), random_sphere(40, seed=1)
    singles = [each.detach().float().requires_grad_() for each in given]
    expected, ours = of_directions(plain, temperature)(*given), of_directions(entropy_loss, temperature)(*singles)
    assert ours.item() == pytest.approx(expected.item(), abs=1e-5)
    for of_ours, of_expected in zip(
        torch.autograd.grad(ours, singles), torch.autograd.grad(expected, given), strict=True
    ):
        assert (of_ours - of_expected).abs().max() < 1e-5 * max(1.0, of_expected.abs().max())


@PIECES
@pytest.mark.parametrize("bits", [1, 2, 7])
@TEMPERATURES
def test_signs_have_the_loss_of_all_their_codes(monkeypatch, at_once, bits, temperature):
    monkeypatch.setattr(entropy, "_AT_ONCE", at_once)
    latents = random_sphere(30, bits)
    codes = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * bits).view(-1, bits)
    ours, expected = sign_entropy_loss(latents, temperature, 18), plain(latents, codes, temperature)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(value, latents)[0] for value in (ours, expected)]
    if not gradients[1].isfinite().all():  # the plain formula has 0 x infinity where a code is impossible
        gradients = [gradient[gradients[1].isfinite()] for gradient in gradients]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


def test_groups_of_bits_add_their_entropies_and_are_exact_where_bits_are_independent():
    # every code once: bits are independent, so the joint entropy is the sum
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 8)
    joint, grouped = sign_entropy_loss(every, 0.1, 8), sign_entropy_loss(every, 0.1, 3)
    assert joint.item() == pytest.approx(-8 * math.log(2), abs=1e-4)
    assert grouped.item() == pytest.approx(joint.item(), abs=1e-4)
    # bits that are copies of one another: the sum over groups counts them each time
    copies = every[:, :1].expand(-1, 8)
    assert sign_entropy_loss(copies, 0.1, 8).item() == pytest.approx(-math.log(2), abs=1e-4)
    assert sign_entropy_loss(copies, 0.1, 4).item() == pytest.approx(-2 * math.log(2), abs=1e-4)


@pytest.mark.parametrize("together", [18, 24, 9])
def test_2_to_the_18_codes_are_possible(together):
    latents = torch.randn(64, 18, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = sign_entropy_loss(latents, 0.01, together)
    loss.backward()
    expected = math.log(64) if together >= 18 else 2 * math.log(64)  # 64 latents: hardly two share a code of 9 bits
    assert loss.item() == pytest.approx(-expected, rel=0.1)
    assert latents.grad.isfinite().all()


def test_codes_used_alike_have_the_largest_entropy_and_one_code_has_none():
    codes = F.normalize(torch.randn(32, 16), dim=-1)
    assert entropy_loss(codes, codes, 1e-3).item() == pytest.approx(-math.log(32), abs=1e-4)
    assert entropy_loss(codes[:1].expand(9, -1), codes, 1e-3).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("latents", [torch.ones(3, 4), torch.zeros(3, 4), torch.full((3, 4), 1e4)])
def test_gradients_are_finite_where_probabilities_vanish(latents):
    latents = latents.clone().requires_grad_()
    sign_entropy_loss(latents, 0.01, 18).backward()
    assert latents.grad.isfinite().all()
    codes = F.normalize(torch.randn(5, 4), dim=-1)
    (found,) = torch.autograd.grad(entropy_loss(latents, codes, 1e-4), latents)
    assert found.isfinite().all()


def kept_floats(loss, *given):
    """Floats that autograd keeps of a loss."""
    storages = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: storages.setdefault(tensor.untyped_storage().data_ptr(), tensor), lambda tensor: tensor
    ):
        loss(*given).backward()
    return sum(tensor.untyped_storage().nbytes() // 4 for tensor in storages.values())


def test_no_matrix_of_latents_and_codes_is_kept():
    latents, codes = torch.randn(2000, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True)
    assert kept_floats(lambda z, c: entropy_loss(z, c, 0.01), latents, codes) <= 8 * (2000 + 1000) + 1000
    signs = torch.randn(1000, 16, requires_grad=True)
    assert kept_floats(lambda z: sign_entropy_loss(z, 0.01, 18), signs) < 10 * 1000 * 16 + 5 * 2**16


def test_a_weight_adds_the_loss_in_training_only_and_revival_does_not_disturb_it():
    def build(**settings):
        torch.manual_seed(0)
        return VQ(VQBottleneck(kind="vq", codebook_size=32, code_dim=4, revive_after=1, **settings))

    features = torch.randn(2, 5, 4, requires_grad=True)
    bottleneck = build(entropy_weight=0.5, entropy_temperature=0.3)
    assert set(bottleneck.eval()(features).losses) == {"codebook", "commitment"}
    loss = bottleneck.train()(features).losses["entropy"]
    before = bottleneck.codebook.detach().clone().requires_grad_()
    bottleneck.finish_step()
    assert not torch.equal(bottleneck.codebook, before)
    expected = 0.5 * of_directions(plain, 0.3)(features.flatten(0, 1), before)
    torch.testing.assert_close(loss, expected)
    ours = torch.autograd.grad(loss, (bottleneck.codebook, features))
    for of_ours, of_expected in zip(ours, torch.autograd.grad(expected, (before, features)), strict=True):
        torch.testing.assert_close(of_ours, of_expected, rtol=1e-4, atol=1e-6)


def test_the_loss_alone_brings_unused_codes_into_use():
    """What it is for: from latents that know a few codes only, to nearly all in use."""
    torch.manual_seed(0)
    codes = F.normalize(torch.randn(16, 8), dim=-1)
    latents = (codes[:1] + 0.3 * torch.randn(64, 8)).requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=0.05)
    used = []
    for _ in range(120):
        directions = F.normalize(latents, dim=-1)
        used.append(len((directions @ codes.T).argmax(-1).unique()))
        optimizer.zero_grad()
        entropy_loss(directions, codes, 0.1).backward()
        optimizer.step()
    assert used[0] <= 8
    assert used[-1] >= 14
