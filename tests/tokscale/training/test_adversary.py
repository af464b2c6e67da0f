"""The discriminator's side of a training: when it joins, how it rises, and what its penalties add."""

import copy

import pytest
import torch

from tokscale.config import DecoderGan, GanLoss, OptimizationConfig
from tokscale.losses.adversarial import discriminator_loss, r1_penalty
from tokscale.training.adversary import Adversary
from tokscale.training.optimization import learning_rate

TRAINING = OptimizationConfig(images=1000, batch_size=10, lr=1e-3, warmup=0.2, schedule="constant")
SMALL = {"width": 4, "depth": 1, "norm": "none"}


def adversary(**changes):
    return Adversary(GanLoss(discriminator=SMALL, **changes), TRAINING, 16, 0)


def test_weight_and_rate_rise_from_where_it_joins():
    found = adversary(weight=0.4, start=95, warmup=0.05, lr=1e-4, lr_warmup=0.1)
    assert [found.has_joined(step) for step in (9, 10)] == [False, True]
    assert [found.weight(step) for step in (10, 12, 14, 15, 90)] == pytest.approx([0.08, 0.24, 0.4, 0.4, 0.4])
    assert [found.learning_rate(step) for step in (10, 14, 19, 20)] == pytest.approx([1e-5, 5e-5, 1e-4, 1e-4])


def test_without_a_warmup_of_its_own_the_rate_is_the_tokenizer_s_schedule():
    found = adversary(lr=1e-4)
    expected = [0.1 * learning_rate(step, TRAINING) for step in range(40)]
    assert [found.learning_rate(step) for step in range(40)] == pytest.approx(expected)
    assert found.weight(0) == 0.5


def test_a_decoder_s_discriminator_has_the_paper_s_settings():
    config = DecoderGan()
    assert (config.weight, config.lr, config.warmup, config.lr_warmup) == (0.05, 2e-5, 0.25, 0.25)
    assert (config.discriminator.kind, config.loss, config.start) == ("stylegan", "hinge", 0)
    assert DecoderGan(discriminator={"channel_max": 8}).discriminator.kind == "stylegan"
    assert GanLoss(discriminator={"width": 8}).discriminator.kind == "patchgan"


def test_r1_comes_every_so_many_steps_and_weighs_as_many_times_as_much():
    found = adversary(start=20, r1={"weight": 3.0, "every": 4})
    images, fake = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16)
    counts = [len(list(found.losses(images, fake, step, 1.0))) for step in range(2, 11)]
    assert counts == [2, 1, 1, 1, 2, 1, 1, 1, 2]
    (game, watched), (penalty, told) = found.losses(images, fake, 6, 1.0)
    expected = r1_penalty(found.judge, images)
    assert told["r1"].item() == pytest.approx(expected.item())
    assert penalty.item() == pytest.approx(12 * expected.item())
    assert game.item() == pytest.approx(discriminator_loss("hinge", found.judge(images), found.judge(fake)).item())
    assert watched.keys() == {"discriminator", "logits_real", "logits_fake"}


def test_lecam_s_means_are_those_of_the_steps_before():
    found = adversary(start=20, lecam={"weight": 0.3, "decay": 0.9})
    torch.manual_seed(1)
    seen = []
    for step in range(2, 7):
        passes = [(torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16)) for _ in range(2)]
        if seen:
            weights = torch.tensor([0.9 ** (len(seen) - 1 - number) for number in range(len(seen))])
            expected = (weights[:, None] * torch.stack(seen)).sum(0) / weights.sum()
        else:
            expected = torch.zeros(2)
        torch.testing.assert_close(found.usual_logits(step), expected)
        for images, fake in passes:
            ((loss, watched),) = found.losses(images, fake, step, 0.5)
            assert loss.item() == pytest.approx((watched["discriminator"] + 0.3 * watched["lecam"]).item())
        found.finish_step()
        logits = [torch.cat([found.judge(pair[side]) for pair in passes]).mean().detach() for side in (0, 1)]
        seen.append(torch.stack(logits))


def test_running_means_are_part_of_its_state_where_they_are_needed():
    assert "logit_means" not in adversary().state_dict()
    with_means = adversary(lecam={})
    with_means.logit_means.fill_(3.0)
    other = copy.deepcopy(adversary(lecam={}))
    other.load_state_dict(with_means.state_dict())
    assert other.logit_means.tolist() == [3.0, 3.0]
