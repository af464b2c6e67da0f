"""Linear probing: how well a linear map of frozen features tells classes apart.

Batch normalisation without affine weights, then one linear layer, trained with LARS at a rate in proportion to the
batch: the protocol of MAE (He et al. 2022), which GigaTok takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from tokscale.config import LinearProbeConfig
from tokscale.data.randomness import shuffled
from tokscale.errors import DivergedError

TRUST = 0.001
_MEASURED_AT_ONCE = 4096

Rows = npt.NDArray[Any]


class Lars(torch.optim.Optimizer):
    """Momentum whose step is scaled layer by layer to the weights' norm (You, Gitman & Ginsburg 2017).

    For matrices g becomes (g + decay w) trust |w| / |g + decay w|, and is taken as it is where a norm is 0; vectors
    neither decay nor scale. Then v becomes momentum v + g, and w loses lr v.
    """

    def __init__(
        self, parameters: Any, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = TRUST
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step from the gradients at hand; ``closure`` is not used."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad
                if parameter.ndim > 1:
                    gradient = gradient + group["weight_decay"] * parameter
                    scale = group["trust"] * parameter.norm() / gradient.norm()
                    usable = (parameter.norm() > 0) & (gradient.norm() > 0)
                    gradient = gradient * torch.where(usable, scale, torch.ones_like(scale))
                state = self.state[parameter]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(parameter)
                velocity = state["velocity"].mul_(group["momentum"]).add_(gradient)
                parameter.sub_(group["lr"] * velocity)


def train_linear_probe(
    features: Rows, labels: Rows, classes: int, config: LinearProbeConfig, rate: Callable[[int], float], steps: int,
    *, seed: int, device: torch.device, check: Callable[[], None] = lambda: None,
) -> nn.Module:  # fmt: skip
    """A classifier of features (n, d) with labels (n,), in evaluation mode.

    Batch t is a pure function of seed and t, and each epoch sees every row once; ``rate(t)`` is the learning rate of
    step t, and ``check`` is asked between steps. Raises ``DivergedError`` when the loss is no finite number.
    """
    head = nn.Linear(features.shape[1], classes)
    # LARS moves weights in proportion to their norm: on a small set it would not get away from random ones. From zero,
    # the first step is the gradient itself, which is what tells the classes' means apart.
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    probe = nn.Sequential(nn.BatchNorm1d(features.shape[1], affine=False, eps=1e-6), head).to(device).train()
    optimizer = Lars(probe.parameters(), rate(0), config.momentum, config.weight_decay)
    size, loss = min(config.batch_size, len(features)), torch.zeros(())
    for step in range(steps):
        check()
        rows = shuffled(np.arange(step * size, (step + 1) * size), len(features), seed=seed)
        optimizer.param_groups[0]["lr"] = rate(step)
        loss = F.cross_entropy(probe(_tensor(features, rows, device)), _tensor(labels, rows, device).long())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if not loss.isfinite():
        raise DivergedError("the linear probe's loss is no finite number", given=loss.item(),
                            allowed="a lower linear_probe.lr, or more linear_probe.warmup_epochs")  # fmt: skip
    return probe.eval()


@torch.no_grad()
def top_1_accuracy(probe: nn.Module, features: Rows, labels: Rows, device: torch.device) -> float:
    """Share of features (n, d) whose largest logit is that of their label (n,)."""
    right = 0
    for start in range(0, len(features), _MEASURED_AT_ONCE):
        rows = np.arange(start, min(start + _MEASURED_AT_ONCE, len(features)))
        chosen = probe(_tensor(features, rows, device)).argmax(-1)
        right += int((chosen == _tensor(labels, rows, device)).sum())
    return right / len(features)


def _tensor(array: Rows, rows: npt.NDArray[np.int64], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array[rows])).to(device)
