"""The average over a diffusion probe's weights: how much of it each step keeps, in closed form."""

from __future__ import annotations

import pytest
import torch

from tokscale.config import DiffusionProbe as ProbeConfig
from tokscale.data.latents import LatentSpec
from tokscale.probes import DiffusionProbe
from tokscale.training.diffusion_task import DiffusionTask, decay_at


@pytest.mark.parametrize("decay", [0.7, 0.9999])
def test_the_average_is_the_weighted_sum_of_all_weights(decay):
    config = ProbeConfig(kind="diffusion", size="pico")
    probe = DiffusionProbe(config, LatentSpec("continuous", (1, 2), 2, 3), 4)
    task, decays = DiffusionTask(probe, config.training, decay, 0), [decay_at(step, decay) for step in range(1, 31)]
    history = [probe.head.out.weight.detach().clone()]
    for step in range(30):
        with torch.no_grad():
            probe.head.out.weight.copy_(torch.randn_like(probe.head.out.weight))
        history.append(probe.head.out.weight.detach().clone())
        task.step = step
        task.after_step()
    shares = []
    for step in range(len(history)):
        share = 1.0 if step == 0 else 1 - decays[step - 1]
        for later in decays[step:]:
            share *= later
        shares.append(share)
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * weights.double() for share, weights in zip(shares, history, strict=True))
    torch.testing.assert_close(task.average.head.out.weight.detach(), expected.float())


def test_a_short_training_forgets_its_beginning():
    assert [decay_at(step, 0.9999) for step in (1, 8)] == [2 / 11, 0.5]
    assert decay_at(89_980, 0.9999) < 0.9999
    assert decay_at(100_000, 0.9999) == 0.9999
