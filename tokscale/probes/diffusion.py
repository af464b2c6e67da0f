"""The diffusion probe: a diffusion transformer on an image's continuous latents, as ViTok's generator is.

It says how good the images become that are sampled on a tokenizer's latents; it gives no likelihood, so there is no
rate beside the autoregressive probe's. Latents are tokens as they are, without patches, normalised by the moments of
the training latents. Sizes are DiT's; ViTok prints 400 M for its L, which DiT and this module have at 458 M.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale.bottlenecks.draws import Draws, seed_for
from tokscale.config import DiffusionProbe as ProbeConfig
from tokscale.data.latents import LatentSpec
from tokscale.errors import DataError, DivergedError
from tokscale.models.layers import linear
from tokscale.probes.autoregressive import measuring
from tokscale.probes.dit import Block, Condition, Head
from tokscale.probes.layers import INIT_STD, grid_rotations
from tokscale.probes.noising import process_of
from tokscale.probes.rate import draw_tokens

STRATA = 4
"""times at which each validation image is noised, one in each quarter"""
_GOLDEN = 0.6180339887498949  # its multiples fill [0, 1) evenly, however many there are
_FEATURES_AT = 0.1


class DiffusionProbe(nn.Module):
    """What noise was added to latents (b, n, d) of classes (b,), or how fast they turn to noise.

    Labels are 0..num_classes-1, and ``null_label`` is the unconditional model, trained on the share ``class_dropout``
    of images. Untrained, the module says zero.
    """

    mean: Tensor
    std: Tensor
    rotations: Tensor | None
    feature_noise: Tensor
    draws: Draws | None = None
    """where the random numbers of a training step come from; None: torch's global generator"""

    def __init__(self, config: ProbeConfig, latents: LatentSpec, num_classes: int):
        super().__init__()
        assert latents.kind == "continuous", "codes have no noise between them"
        size = config.size
        self.spec, self.null_label, self.class_dropout = latents, num_classes, config.class_dropout
        self.width, self.process = size.width, process_of(config)
        self.input = linear(latents.dim, size.width)
        self.condition = Condition(size.width, num_classes + 1)
        self.blocks = nn.ModuleList(Block(size.width, size.heads) for _ in range(size.depth))
        self.head = Head(size.width, latents.dim)
        self.positions = None
        if config.positions == "learned":
            self.positions = nn.Parameter(INIT_STD * torch.randn(latents.tokens, size.width))
        # The first rotation is the class's, which is no token here.
        turned = None if self.positions is not None else grid_rotations(latents.grid, size.width // size.heads)[:, 1:]
        self.register_buffer("rotations", turned, persistent=False)
        self.register_buffer("mean", torch.zeros(latents.dim))
        self.register_buffer("std", torch.ones(latents.dim))
        fixed = torch.randn(latents.tokens, latents.dim, generator=torch.Generator().manual_seed(0), device="cpu")
        self.register_buffer("feature_noise", fixed, persistent=False)

    def set_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Take mean and spread (d,) of the training latents."""
        assert bool((std > 0).all()), "a channel without spread cannot be normalised"
        self.mean.copy_(mean)
        self.std.copy_(std)

    def normalise(self, latents: Tensor) -> Tensor:
        """Raw latents (..., d) -> zero mean and unit spread per channel."""
        return (latents.float() - self.mean) / self.std

    def forward(self, noised: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """What is learned (b, n, d), float32, of noised latents (b, n, d), normalised, at network times (b,)."""
        condition = self.condition(times, labels)
        said: Tensor = self.head(self._through(noised, condition, len(self.blocks)), condition)
        return said

    def _through(self, noised: Tensor, condition: Tensor, depth: int) -> Tensor:
        """Tokens (b, n, e) after some blocks; what blocks add is summed in float32."""
        x: Tensor = self.input(noised).float()
        if self.positions is not None:
            x = x + self.positions
        for block in self.blocks[:depth]:
            x = block(x, condition, self.rotations)
        return x

    def loss(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error of a batch of raw latents (b, n, d), at times of its own for each image; some classes are
        dropped. The training loss."""
        noise = self._drawn("noise", latents)
        chances = self._chances("times", labels)
        dropped = self._chances("class dropout", labels) < self.class_dropout
        times = self.process.training_times(chances)
        return self.errors(latents, labels.masked_fill(dropped, self.null_label), noise, times).mean()

    def errors(self, latents: Tensor, labels: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Squared error (b,), a mean over numbers, of raw latents with this noise (b, n, d) at these times (b,)."""
        clean = self.normalise(latents)
        noised = self.process.noised(clean, noise, times)
        said = self(noised, self.process.network_times(times), labels)
        return F.mse_loss(said, self.process.target(clean, noise), reduction="none").flatten(1).mean(1)

    def middle_features(self, latents: Tensor) -> Tensor:
        """Mean (b, e) over positions of the output of block depth // 2, counted from 1, without a class.

        Of raw latents (b, n, d) a tenth of the way to noise, which is one and the same for all images.
        """
        times = torch.full((len(latents),), _FEATURES_AT, device=latents.device)
        noise = self.feature_noise.expand(len(latents), -1, -1)
        noised = self.process.noised(self.normalise(latents), noise, times)
        unconditional = torch.full((len(latents),), self.null_label, device=latents.device)
        condition = self.condition(self.process.network_times(times), unconditional)
        middle = self._through(noised, condition, max(1, len(self.blocks) // 2))
        return middle.mean(1)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def _drawn(self, purpose: str, like: Tensor) -> Tensor:
        if self.draws is None:
            return torch.randn(like.shape, device=like.device)
        return self.draws.normal(purpose, like.shape, like.device)

    def _chances(self, purpose: str, labels: Tensor) -> Tensor:
        if self.draws is None:
            return torch.rand(labels.shape, device=labels.device)
        return self.draws.uniform(purpose, labels.shape, labels.device)


def sample_diffusion(
    probe: DiffusionProbe, labels: Tensor, noise: Tensor, *, steps: int, solver: str = "euler", cfg_scale: float = 1.0,
    check: Callable[[], None] = lambda: None,
) -> Tensor:  # fmt: skip
    """Raw latents (b, n, d) for labels (b,), from standard normal noise (b, n, d); the noise is all that is drawn.

    Guidance of scale s follows u + s (c - u) of what the probe says with and without the class (Ho & Salimans 2022), at
    all times alike. ``check`` is asked before each step, and what it raises ends the sampling.
    """
    guided = _guided(probe, labels, cfg_scale)

    def field(x: Tensor, times: Tensor) -> Tensor:
        check()
        return guided(x, times)

    with measuring(probe):
        return probe.mean + probe.std * probe.process.sampled(field, noise, steps, solver)


def sampling_noise(probe: DiffusionProbe, count: int, seed: int, first: int = 0) -> Tensor:
    """Noise (count, n, d) of images ``first`` and on, each of which has the same in whatever batch it is drawn."""
    return Draws(seed, first).normal("sampling", (count, probe.spec.tokens, probe.spec.dim), probe.device)


def _guided(probe: DiffusionProbe, labels: Tensor, scale: float) -> Callable[[Tensor, Tensor], Tensor]:
    if scale == 1:
        return lambda x, times: probe(x, times, labels)
    both = torch.cat([labels, torch.full_like(labels, probe.null_label)])

    def field(x: Tensor, times: Tensor) -> Tensor:
        conditional, unconditional = probe(x.repeat(2, 1, 1), times.repeat(2), both).chunk(2)
        return torch.lerp(unconditional, conditional, scale)

    return field


def measure_diffusion(
    probe: DiffusionProbe, batches: Iterable[Mapping[str, Tensor]], at_once: int | None = None
) -> dict[str, float]:
    """``diffusion_loss``: the objective's error on all images of some batches, a mean over numbers and times.

    Image i always has the same random numbers, whatever probe is measured, and is noised once in each quarter of the
    times; its places there fill the quarters evenly over the images. So probes on latents of one shape are compared on
    equal terms. Batches are those of ``LatentSplit.batch``; the probe takes ``at_once`` images, or a whole batch. No
    image at all raises ``DataError``, an error that is not a finite number ``DivergedError``.
    """
    images, total, key = 0, 0.0, seed_for("diffusion loss")
    with measuring(probe):
        for batch in batches:
            batch = {name: tensor.to(probe.device) for name, tensor in batch.items()}
            draws, count = Draws(key, images), len(batch["labels"])
            latents = draw_tokens(batch, draws)
            noise = draws.normal("noise", latents.shape, latents.device)
            within = (torch.arange(images, images + count, dtype=torch.float64) * _GOLDEN % 1).to(latents.device)
            whole = latents, batch["labels"], noise, within
            parts = zip(*(torch.split(each, at_once or count) for each in whole), strict=True)
            for some, labels, added, places in parts:
                for stratum in range(STRATA):
                    times = ((stratum + places) / STRATA).float()
                    total += probe.errors(some, labels, added, times).double().sum().item() / STRATA
            images += count
    if images == 0:
        raise DataError("no latents to measure the loss on", allowed="at least one validation image")
    if not isfinite(total):
        raise DivergedError("the probe's loss is not a finite number", given=total / images)
    return {"diffusion_loss": total / images}
