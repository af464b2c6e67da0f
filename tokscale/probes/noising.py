"""Two ways from latents to noise, what is learned about each, and the way back: flow matching and DDPM with DDIM.

Both work on normalised latents x, and on noise e of the standard normal distribution. A field is what a trained network
says of a noised batch at a time, here called t in [0, 1] for both: 0 is clean and 1 is noise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from tokscale.config import DiffusionProbe
from tokscale.probe_config import NOISE_LEVELS

Field = Callable[[Tensor, Tensor], Tensor]
"""x (b, ...) at network times (b,), which run from 0 to 1000, to what is learned, (b, ...)"""
TIME_SCALE = 1000.0


class Process(ABC):
    """What an objective is: how latents are noised, what a network learns of them, and how it is sampled."""

    @abstractmethod
    def network_times(self, times: Tensor) -> Tensor:
        """Times (b,) in [0, 1] as the network is told them, 0 to 1000."""

    @abstractmethod
    def training_times(self, chances: Tensor) -> Tensor:
        """Times (b,) of training from uniform numbers (b,)."""

    @abstractmethod
    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents (b, n, d) on their way to noise at times (b,)."""

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor) -> Tensor:
        """What a network learns to say of the noised latents."""

    @abstractmethod
    def sampled(self, field: Field, noise: Tensor, steps: int, solver: str = "euler") -> Tensor:
        """Latents (b, n, d) from noise, in so many steps; a pure function of the noise."""


class Flow(Process):
    """Rectified flow (Liu et al. 2022; Lipman et al. 2022): x_t = (1 - t) x + t e, and its velocity e - x is learned.

    Times are uniform, or the logistic function of a standard normal number (Esser et al. 2024).
    """

    def __init__(self, logit_normal: bool = False) -> None:
        self.logit_normal = logit_normal

    def network_times(self, times: Tensor) -> Tensor:
        return TIME_SCALE * times

    def training_times(self, chances: Tensor) -> Tensor:
        if not self.logit_normal:
            return chances
        return torch.sigmoid(math.sqrt(2) * torch.erfinv(2 * chances - 1))

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return torch.lerp(latents, noise, _each(times, latents))

    def target(self, latents: Tensor, noise: Tensor) -> Tensor:
        return noise - latents

    def sampled(self, field: Field, noise: Tensor, steps: int, solver: str = "euler") -> Tensor:
        """The equation dx/dt = field from t = 1 to 0 in equal steps, by Euler or by Heun's second-order rule."""
        x = noise
        for time, later in pairwise(number / steps for number in range(steps, -1, -1)):
            velocity = self._at(field, x, time)
            moved = x + (later - time) * velocity
            if solver == "heun":
                moved = x + (later - time) / 2 * (velocity + self._at(field, moved, later))
            x = moved
        return x

    def _at(self, field: Field, x: Tensor, time: float) -> Tensor:
        return field(x, self.network_times(torch.full((len(x),), time, device=x.device)))


class Ddpm(Process):
    """Ho et al. 2020: 1000 levels, betas linear from .0001 to .02, and the noise is learned; sampled by DDIM.

    ViTok's diffusion. DiT's network also learns a variance, which DDIM without noise never asks for: it is left out.
    """

    def __init__(self) -> None:
        betas = torch.linspace(1e-4, 0.02, NOISE_LEVELS, dtype=torch.float64)
        self.kept = (1 - betas).cumprod(0)
        """share of the latents' variance that is left at each level"""

    def levels(self, times: Tensor) -> Tensor:
        """Levels (b,) of times: 0, the first with any noise, to 999."""
        return (times * NOISE_LEVELS).long().clamp(max=NOISE_LEVELS - 1)

    def network_times(self, times: Tensor) -> Tensor:
        return self.levels(times).float()

    def training_times(self, chances: Tensor) -> Tensor:
        return chances

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        kept = self.kept.to(latents.device)[self.levels(times)]
        return _each(kept.sqrt().float(), latents) * latents + _each((1 - kept).sqrt().float(), latents) * noise

    def target(self, latents: Tensor, noise: Tensor) -> Tensor:
        return noise

    def sampled(self, field: Field, noise: Tensor, steps: int, solver: str = "euler") -> Tensor:
        """DDIM without noise (Song et al. 2021) over ``steps`` levels, spread evenly from the last to the first."""
        x = noise
        for level, kept, kept_next in self._path(steps):
            said = field(x, torch.full((len(x),), float(level), device=x.device))
            clean = (x - math.sqrt(1 - kept) * said) / math.sqrt(kept)
            x = math.sqrt(kept_next) * clean + math.sqrt(1 - kept_next) * said
        return x

    def _path(self, steps: int) -> Iterator[tuple[int, float, float]]:
        """Each level with what it keeps, and what the next one does; after the last, everything is kept."""
        levels = torch.linspace(NOISE_LEVELS - 1, 0, steps, dtype=torch.float64).round().long().tolist()
        kept = [*(float(self.kept[level]) for level in levels), 1.0]
        return zip(levels, kept, kept[1:], strict=False)


def _each(values: Tensor, like: Tensor) -> Tensor:
    """Values (b,), one for each image, shaped to multiply (b, ...)."""
    return values.view(-1, *(1 for _ in like.shape[1:]))


def process_of(config: DiffusionProbe) -> Process:
    """The process of a probe's objective."""
    return Ddpm() if config.objective == "ddpm" else Flow(config.times == "logit-normal")
