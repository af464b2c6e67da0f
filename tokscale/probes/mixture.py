"""A mixture of diagonal Gaussians per token, with the parametrisation that keeps it proper and stable."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tokscale.probes.choosing import choose

MIN_LOG_SCALE = -7.0
INITIAL_SPREAD = 0.5


class Mixture(NamedTuple):
    """m components over R^d, for any leading dimensions (...)."""

    log_weights: Tensor  # (..., m), normalised
    means: Tensor  # (..., m, d)
    log_scales: Tensor  # (..., m, d)

    def log_prob(self, points: Tensor) -> Tensor:
        """Natural log of the density (...) at points (..., d)."""
        distances = (points.unsqueeze(-2) - self.means) * torch.exp(-self.log_scales)  # (..., m, d)
        exponents = (0.5 * distances.square() + self.log_scales).sum(-1) + 0.5 * points.shape[-1] * math.log(
            2 * math.pi
        )
        return torch.logsumexp(self.log_weights - exponents, dim=-1)

    def tempered(self, temperature: float) -> Mixture:
        """The density to the power 1 / temperature, normalised, where components do not overlap.

        A Gaussian to a power has its variance times the temperature; a component's weight becomes
        w^(1/T) times the integral of its powered density, a factor (prod scale)^(1 - 1/T).
        """
        weights = self.log_weights / temperature + (1 - 1 / temperature) * self.log_scales.sum(-1)
        return Mixture(
            torch.log_softmax(weights, dim=-1), self.means, self.log_scales + 0.5 * math.log(temperature)
        )  # fmt: skip

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` independent points (b, count, d) of each of b mixtures."""
        chosen = choose(self.log_weights.exp(), count, generator)  # (b, count)
        chosen = chosen.unsqueeze(-1).expand(-1, -1, self.means.shape[-1])
        means, log_scales = self.means.gather(1, chosen), self.log_scales.gather(1, chosen)
        noise = torch.randn(means.shape, generator=generator, device=means.device, dtype=means.dtype)
        return means + log_scales.exp() * noise


def mixture_size(mixtures: int, dim: int) -> int:
    """How many numbers describe one mixture: a weight, d means and d scales for each component."""
    return mixtures * (1 + 2 * dim)


def mixture_from(numbers: Tensor, mixtures: int, dim: int) -> Mixture:
    """The mixture that numbers (..., m (1 + 2d)) describe, in float32.

    Log scales are softly bounded below at -7. Points are normalised to unit spread per channel, so the finest scale
    is 0.1 % of it: a density that could become a spike would make the likelihood unbounded (a mixture can always put
    one component on one point), and a token can hardly be known better than to the noise of its own posterior.
    """
    components = numbers.float().view(*numbers.shape[:-1], mixtures, 1 + 2 * dim)
    weights, means, scales = components.tensor_split((1, 1 + dim), dim=-1)
    log_scales = MIN_LOG_SCALE + F.softplus(scales - MIN_LOG_SCALE)
    return Mixture(torch.log_softmax(weights.squeeze(-1), dim=-1), means, log_scales)


def initial_numbers(mixtures: int, dim: int) -> Tensor:
    """Numbers (m (1 + 2d),) of a mixture near the standard normal, its components told apart by their means.

    Equal components would get equal gradients for ever, and neighbours tend to stay on one mode: so each channel's
    means are evenly spaced quantiles of a normal, in an order of its own. Means of spread s and scales of sqrt(1 - s^2)
    leave every channel's mean square at 1.
    """
    spread = INITIAL_SPREAD if mixtures > 1 else 0.0
    quantiles = torch.special.ndtri((torch.arange(mixtures) + 0.5) / mixtures)
    quantiles = spread * quantiles / quantiles.square().mean().sqrt().clamp(min=1e-6)
    means = torch.stack([quantiles[torch.randperm(mixtures)] for _ in range(dim)], dim=1)
    log_scale = 0.5 * math.log(1 - spread**2)
    raw = MIN_LOG_SCALE + math.log(math.expm1(log_scale - MIN_LOG_SCALE))
    return torch.cat([torch.zeros(mixtures, 1), means, torch.full((mixtures, dim), raw)], dim=1).flatten()
