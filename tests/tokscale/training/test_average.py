"""The average over weights, in closed form, and what of it is trained."""

from __future__ import annotations

import pytest
import torch

from tokscale.training.average import average_of, decay_at, update_average


def test_the_average_is_the_weighted_sum_of_all_weights():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    average, decays = average_of(module), [decay_at(step, 0.7) for step in range(1, 31)]
    history = [[parameter.detach().clone() for parameter in module.parameters()]]
    for decay in decays:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn_like(parameter))
        history.append([parameter.detach().clone() for parameter in module.parameters()])
        update_average(average, module, decay)
    shares = []
    for step in range(len(history)):
        share = 1.0 if step == 0 else 1 - decays[step - 1]
        for later in decays[step:]:
            share *= later
        shares.append(share)
    assert sum(shares) == pytest.approx(1)
    for number, found in enumerate(average.parameters()):
        expected = sum(share * weights[number].double() for share, weights in zip(shares, history, strict=True))
        torch.testing.assert_close(found, expected.float())


def test_the_average_is_not_trained_and_shares_nothing_with_the_module():
    module = torch.nn.Linear(2, 2)
    average = average_of(module)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    update_average(average, module, 0.0)
    assert torch.equal(average.weight, module.weight)
    assert average.weight.data_ptr() != module.weight.data_ptr()


def test_a_short_training_forgets_its_beginning():
    assert [decay_at(step, 0.9999) for step in (1, 8)] == [2 / 11, 0.5]
    assert decay_at(89_980, 0.9999) < 0.9999
    assert decay_at(100_000, 0.9999) == 0.9999
