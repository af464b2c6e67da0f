"""VQ: true nearest codes, straight-through gradients, losses, dead codes, resume, and one codebook on all ranks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import torch
import torch.nn.functional as F

from tokscale.bottlenecks import VQ, vq
from tokscale.config import VQBottleneck


def build(codebook_size=32, code_dim=4, **settings):
    torch.manual_seed(0)
    return VQ(VQBottleneck(kind="vq", codebook_size=codebook_size, code_dim=code_dim, **settings))


def random_features(batch=3, tokens=20, dim=4, seed=1):
    return torch.randn(batch, tokens, dim, generator=torch.Generator().manual_seed(seed)) * 3


def finished_step(bottleneck, features):
    """A training step of one forward pass, as far as the bottleneck is concerned."""
    result = bottleneck(features)
    bottleneck.finish_step()
    return result


def opposite_codes(bottleneck, count):
    """Put ``count`` codes at +x and the rest at -x, so that features at +x use only some of the first."""
    with torch.no_grad():
        bottleneck.codebook.zero_()
        bottleneck.codebook[:, 0] = -1
        bottleneck.codebook[:count] = F.normalize(torch.randn(count, bottleneck.latent_dim), dim=-1).abs()


@pytest.mark.parametrize("chunk", [1, 1000, 2**22])
def test_the_nearest_code_is_the_nearest(monkeypatch, chunk):
    monkeypatch.setattr(vq, "_CHUNK", chunk)
    bottleneck, features = build().eval(), random_features()
    with torch.no_grad():
        bottleneck.codebook.mul_(torch.rand(32, 1) + 0.5)  # lengths of codes must not matter
    codes, latents = F.normalize(bottleneck.codebook, dim=-1), F.normalize(features, dim=-1)
    distances = (latents[:, :, None] - codes).norm(dim=-1)  # brute force, (b, n, k)
    result = bottleneck(features)
    assert torch.equal(result.indices, distances.argmin(-1))
    torch.testing.assert_close(result.latents, codes[distances.argmin(-1)])


def test_the_gradient_passes_straight_to_the_normalised_latents():
    bottleneck, features, given = build(), random_features().requires_grad_(), torch.randn(3, 20, 4)
    (gradient,) = torch.autograd.grad(bottleneck(features).latents, features, given)
    (expected,) = torch.autograd.grad(F.normalize(features, dim=-1), features, given)
    assert torch.equal(gradient, expected)


def test_losses_are_those_of_the_definition_and_move_what_they_should():
    bottleneck = build(commitment=0.3, codebook_weight=0.7)
    features = random_features().requires_grad_()
    result = bottleneck(features)
    squared = (F.normalize(features, dim=-1) - bottleneck.latents_of(result.indices)).square().mean().item()
    assert result.losses["codebook"].item() == pytest.approx(0.7 * squared, rel=1e-5)
    assert result.losses["commitment"].item() == pytest.approx(0.3 * squared, rel=1e-5)
    moved = torch.autograd.grad(
        result.losses["codebook"], (bottleneck.codebook, features), retain_graph=True, allow_unused=True
    )
    assert moved[1] is None
    touched = moved[0].abs().sum(dim=1) > 0
    assert set(touched.nonzero().flatten().tolist()) <= set(result.indices.unique().tolist())
    held = torch.autograd.grad(result.losses["commitment"], (bottleneck.codebook, features), allow_unused=True)
    assert held[0] is None
    assert held[1].abs().sum() > 0


def test_codes_start_uniform_on_the_sphere():
    codes = build(codebook_size=4000).codes()
    torch.testing.assert_close(codes.norm(dim=-1), torch.ones(4000))
    torch.testing.assert_close(codes.mean(0), torch.zeros(4), rtol=0, atol=0.05)
    torch.testing.assert_close(codes.T @ codes / 4000, torch.eye(4) / 4, rtol=0, atol=0.02)


def test_dead_codes_are_revived_and_only_those():
    bottleneck = build(revive_after=3)
    opposite_codes(bottleneck, 8)
    features = random_features().abs()
    before, used = bottleneck.codebook.detach().clone(), None
    for step in range(3):
        assert torch.equal(bottleneck.codebook, before), f"revived after {step} steps already"
        used = finished_step(bottleneck, features).indices.unique()
    changed = (bottleneck.codebook != before).any(dim=1)
    dead = torch.ones(32, dtype=torch.bool)
    dead[used] = False
    assert torch.equal(changed, dead)
    latents = F.normalize(features, dim=-1).flatten(0, 1)
    assert (bottleneck.codebook[dead][:, None] == latents).all(-1).any(-1).all()
    assert torch.equal(bottleneck.steps_unused, torch.zeros(32, dtype=torch.int64))


def test_a_use_starts_the_count_again():
    bottleneck = build(revive_after=3)
    opposite_codes(bottleneck, 1)
    there, away = torch.tensor([[[1.0, 1, 1, 1]]]), torch.tensor([[[-1.0, 0, 0, 0]]])
    for features in (away, away, there, away, away):
        assert finished_step(bottleneck, features).indices.shape == (1, 1)
        assert bottleneck.steps_unused[0] < 3
    assert bottleneck.steps_unused[0] == 2
    code = bottleneck.codebook[0].clone()
    finished_step(bottleneck, away)
    assert not torch.equal(bottleneck.codebook[0], code)


@pytest.mark.parametrize("evaluating", [True, False])
def test_evaluation_and_zero_never_revive(evaluating):
    bottleneck = build(revive_after=1 if evaluating else 0).train(not evaluating)
    state, generator = bottleneck.state_dict()["codebook"].clone(), torch.get_rng_state()
    for _ in range(3):
        finished_step(bottleneck, torch.ones(1, 2, 4))
    assert torch.equal(bottleneck.codebook, state)
    assert bottleneck.steps_unused.sum() == 0
    assert torch.equal(torch.get_rng_state(), generator)


def test_reviving_between_two_forward_passes_leaves_the_first_ones_gradient_right():
    features = random_features()

    def gradient(revive_after):
        bottleneck = build(revive_after=revive_after)
        passes = 1 if revive_after == 0 else 2
        losses = [finished_step(bottleneck, features).losses["codebook"] for _ in range(passes)]
        (found,) = torch.autograd.grad(losses[0], bottleneck.codebook)
        return found

    assert torch.equal(gradient(1), gradient(0))


def test_resuming_from_the_state_is_bit_equal():
    def step(bottleneck, seed):
        torch.manual_seed(seed)
        result = finished_step(bottleneck, random_features(seed=seed))
        (found,) = torch.autograd.grad(sum(result.losses.values()), bottleneck.codebook)
        with torch.no_grad():
            bottleneck.codebook -= found

    unbroken = build(codebook_size=200, revive_after=3)
    for seed in range(4):
        step(unbroken, seed)
    resumed = build(codebook_size=200, revive_after=3)
    resumed.load_state_dict(unbroken.state_dict())
    for seed in range(4, 9):
        step(unbroken, seed)
        step(resumed, seed)
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


RANK = """
    import sys, torch, torch.distributed as dist
    from tokscale.bottlenecks import VQ
    from tokscale.bottlenecks.draws import Draws
    from tokscale.bottlenecks.entropy import entropy_loss, sign_entropy_loss
    from tokscale.config import VQBottleneck

    rank = int(sys.argv[1])
    torch.manual_seed(0)
    latents, codes = torch.randn(20, 6).double(), torch.randn(9, 6).double()

    def entropies(latents):
        latents = latents.clone().requires_grad_()
        values = torch.stack([entropy_loss(latents, codes, 2.0), sign_entropy_loss(latents, 2.0, 4)])
        return values.detach(), torch.autograd.grad(values.sum(), latents)[0]

    alone = entropies(latents)
    dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
    torch.manual_seed(0)
    bottleneck = VQ(VQBottleneck(kind="vq", codebook_size=64, code_dim=4, revive_after=2))
    start = bottleneck.codebook.detach().clone()
    torch.manual_seed(rank + 1)
    used = torch.zeros(64, dtype=torch.bool)
    for step in range(2):
        features = torch.randn(2, 8, 4)
        used[bottleneck(features).indices] = True
        bottleneck.draws = Draws(step)
        bottleneck.finish_step()
    everyone = [torch.zeros(64, dtype=torch.int64) for _ in range(2)]
    dist.all_gather(everyone, used.long())
    used = sum(everyone) > 0
    books = [torch.zeros(64, 4) for _ in range(2)]
    dist.all_gather(books, bottleneck.codebook.detach())
    assert torch.equal(*books), "codebooks differ"
    assert torch.equal((bottleneck.codebook != start).any(dim=1), ~used), "revived what another rank used"
    assert 0 < used.sum() < 64
    mine = slice(10 * rank, 10 * rank + 10)
    value, gradient = entropies(latents[mine])
    dist.all_reduce(value)
    torch.testing.assert_close(value / 2, alone[0])
    torch.testing.assert_close(gradient / 2, alone[1][mine])  # as averaged over ranks
    dist.destroy_process_group()
"""


def test_all_ranks_keep_one_codebook_and_the_entropy_loss_of_one_process(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(RANK), str(rank), str(tmp_path / "meeting")],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for rank in ranks:
        _, complaints = rank.communicate(timeout=120)
        assert rank.returncode == 0, complaints
