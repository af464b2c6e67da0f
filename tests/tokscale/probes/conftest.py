"""Small probes, how to train one in a few seconds, and sources of tokens whose entropy is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from tokscale.config import AutoregressiveProbe as ProbeConfig
from tokscale.config import TransformerSize
from tokscale.data.latents import LatentSpec
from tokscale.probes import AutoregressiveProbe, build_probe, draw_tokens

TOKENS, CODES = 16, 6


def small_probe(
    spec: LatentSpec, num_classes: int, *, seed: int = 0, depth: int = 2, **changes: object
) -> AutoregressiveProbe:
    """An untrained probe of width 32 without dropout; its seed is torch's from here on."""
    torch.manual_seed(seed)
    size = TransformerSize(width=32, depth=depth, heads=2)
    settings = {"size": size, "dropout": 0, "class_dropout": 0, "mixtures": 2}
    return build_probe(ProbeConfig(**(settings | changes)), spec, num_classes)


def train_probe(probe, batches, *, steps, lr=5e-3, batch=64):
    """Adam with a half cosine on new data in every step, so that the measured rate is one of unseen data."""
    optimizer = torch.optim.AdamW(probe.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5 + 0.5 * math.cos(math.pi * t / steps))
    probe.train()
    for _ in range(steps):
        data = batches(batch)
        loss = probe.loss(draw_tokens(data), data["labels"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return probe.eval()


class Chains:
    """Markov chains over codes in raster order, one transition matrix for each class, starting uniformly."""

    spec = LatentSpec("discrete", (4, 4), TOKENS, 4, CODES)

    def __init__(self, num_classes: int):
        generator = torch.Generator().manual_seed(num_classes)
        self.transitions = torch.softmax(1.5 * torch.randn(num_classes, CODES, CODES, generator=generator), dim=-1)

    def batches(self, count: int) -> dict[str, torch.Tensor]:
        labels = torch.randint(len(self.transitions), (count,))
        indices = torch.randint(CODES, (count, TOKENS))
        for i in range(1, TOKENS):
            reach = self.transitions[labels, indices[:, i - 1]].cumsum(-1)
            indices[:, i] = (torch.rand(count, 1) > reach).sum(-1).clamp(max=CODES - 1)
        return {"indices": indices, "labels": labels}

    def bits(self, indices: torch.Tensor, label: int | torch.Tensor) -> torch.Tensor:
        """Exact code length (b,) under one class."""
        labels = torch.as_tensor(label).expand(len(indices))[:, None]
        steps = self.transitions[labels, indices[:, :-1], indices[:, 1:]]
        return math.log2(CODES) - steps.double().log2().sum(1)

    def entropy(self, label: int) -> float:
        """H(z | class) in bits per image, from the distribution of each token in turn."""
        row_bits = -(self.transitions[label] * self.transitions[label].log2()).sum(-1)
        distribution, total = torch.full((CODES,), 1 / CODES), math.log2(CODES)
        for _ in range(TOKENS - 1):
            total += (distribution @ row_bits).item()
            distribution = distribution @ self.transitions[label]
        return total


@pytest.fixture(scope="session")
def probe_of() -> Callable[..., AutoregressiveProbe]:
    return small_probe


@pytest.fixture(scope="session")
def train() -> Callable[..., AutoregressiveProbe]:
    return train_probe


@pytest.fixture(scope="session")
def chain() -> SimpleNamespace:
    """One Markov chain and a probe trained on it."""
    source = Chains(1)
    probe = small_probe(source.spec, 1, depth=1)
    return SimpleNamespace(source=source, probe=train_probe(probe, source.batches, steps=120))


@pytest.fixture(scope="session")
def class_chains() -> SimpleNamespace:
    """Markov chains that differ by class, and a probe trained on them with and without the class."""
    source = Chains(3)
    probe = small_probe(source.spec, 3, class_dropout=0.3)
    return SimpleNamespace(source=source, probe=train_probe(probe, source.batches, steps=250))
