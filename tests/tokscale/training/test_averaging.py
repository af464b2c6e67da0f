"""The average of weights: its closed form, and what it is no part of."""

import pytest
import torch
from torch import nn

from tokscale.training import averaging


def test_after_n_steps_it_is_the_closed_form():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)).double()
    first = [parameter.detach().clone() for parameter in module.parameters()]
    average, decay, history = averaging.averaged(module), 0.9, []
    for _ in range(7):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        history.append([parameter.detach().clone() for parameter in module.parameters()])
        averaging.take_in(average, module, decay)
    for place, found in enumerate(average.parameters()):
        expected = decay**7 * first[place]
        for step, weights in enumerate(history):
            expected = expected + (1 - decay) * decay ** (6 - step) * weights[place]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert not found.requires_grad
        assert not torch.equal(found, history[-1][place])


def test_state_that_is_no_weight_is_that_of_now():
    module = nn.BatchNorm1d(3)
    average = averaging.averaged(module)
    module(torch.randn(8, 3))
    averaging.take_in(average, module, 0.99)
    assert torch.equal(average.running_mean, module.running_mean)
    assert average.num_batches_tracked.item() == 1


def test_an_average_that_is_still_near_its_beginning_is_noted():
    assert averaging.note(0.9999, 100_000) is None
    assert averaging.note(0.99, 1000) is None
    words = averaging.note(0.9999, 1000)
    assert words is not None
    assert "still hold 90% of those that training began with" in words
    assert pytest.approx(0.905, abs=1e-3) == 0.9999**1000
