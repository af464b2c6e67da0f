"""The learning rate is the published schedule, and a step's seed is a good hash."""

import math

import pytest
import torch
from torch import nn

from tokscale.bottlenecks.draws import seed_for
from tokscale.config import TrainingConfig
from tokscale.training.optimization import build_optimizer, learning_rate

CONFIG = TrainingConfig(images=1000, batch_size=10, lr=1.0, warmup=0.1, final_lr=0.1)


def test_the_rate_warms_up_linearly_and_ends_on_a_half_cosine():
    assert [learning_rate(step, CONFIG) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    assert learning_rate(9, CONFIG) == 1.0
    assert learning_rate(10, CONFIG) == 1.0
    middle = 10 + 45
    assert learning_rate(middle, CONFIG) == pytest.approx(0.1 + 0.9 * 0.5)
    assert learning_rate(100, CONFIG) == pytest.approx(0.1)


def test_the_rate_equals_torchs_own_cosine():
    config = CONFIG.model_copy(update={"warmup": 0.0})
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=0.1)
    for step in range(100):
        assert learning_rate(step, config) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_a_constant_schedule_stays():
    config = CONFIG.model_copy(update={"schedule": "constant"})
    assert {learning_rate(step, config) for step in range(10, 100)} == {1.0}


def test_steps_cover_the_budget():
    assert TrainingConfig(images=1000, batch_size=10).steps == 100
    assert TrainingConfig(images=1001, batch_size=10).steps == 101


def test_decay_spares_biases_and_gains():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    decayed, plain = build_optimizer(model, TrainingConfig(weight_decay=0.5)).param_groups
    assert [tuple(parameter.shape) for parameter in decayed["params"]] == [(4, 3)]
    assert decayed["weight_decay"] == 0.5
    assert plain["weight_decay"] == 0
    assert len(plain["params"]) == 3


def test_seeds_of_purposes_and_steps_differ_and_are_spread():
    purposes = ("training", "rate")
    seeds = {
        seed_for(p, seed, step, rank) for p in purposes for seed in range(5) for step in range(200) for rank in range(4)
    }
    assert len(seeds) == 2 * 5 * 200 * 4
    ones = sum(bin(seed).count("1") for seed in seeds) / len(seeds)
    assert math.isclose(ones, 31.5, abs_tol=0.5)
    assert all(0 <= seed < 2**63 for seed in seeds)
