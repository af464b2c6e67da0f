"""The rate of a tokenizer under its probe: how many bits its latents cost when the probe is the entropy model.

For codes the bits are the probe's code length, sum_i -log2 p(z_i | class, z_<i). For a posterior q(z|x) they are
E_q[log2 q(z|x) - log2 p(z|class)], what bits-back coding (Hinton & van Camp 1993) pays for a sample, so that the grain
to which latents are written down cancels: one scale for codes and densities, and for any length, width or vocabulary.

What it bounds, with class y. An encoder sees the image alone, so z and y are independent given x, and over the data
    E[log q(z|x) - log p(z|y)] = I(z; x | y) + E KL(q(z|y) || p(z|y)) >= I(z; x | y),
and likewise H(z|y) for codes. Conditioning on the class thus bounds the rate for a receiver who knows the class, and
I(z; x) = I(z; x | y) + I(z; y) is larger by what z tells of the class, at most H(y) <= log2(classes) bits per image:
add that for a bound without the class, or measure with ``probe.null_label`` as every label (bounds I(z; x) directly).
At equal data all bottlenecks stand under the same condition. The bound holds for data the probe has not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from tokscale.errors import DataError, DivergedError
from tokscale.probes.autoregressive import AutoregressiveProbe, measuring


def sample_posterior(mean: Tensor, logvar: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """z (b, n, d) from N(mean, exp(logvar)) and the log-density (b,) of that very z in nats, summed over n and d."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=torch.float32)
    log_q = -0.5 * (noise.square() + logvar + math.log(2 * math.pi)).flatten(1).sum(1)
    return mean + torch.exp(0.5 * logvar) * noise, log_q


def draw_tokens(batch: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
    """The tokens of a batch of cached latents: its codes, or a fresh sample of its posteriors."""
    if "indices" in batch:
        return batch["indices"]
    return sample_posterior(batch["mean"], batch["logvar"], generator)[0]


def code_rate(probe: AutoregressiveProbe, indices: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Bits per image (b,) and nats per token (b,) of codes (b, n)."""
    nats = probe.nll(indices, labels).double()
    return nats / math.log(2), nats / probe.spec.tokens


def rate(
    probe: AutoregressiveProbe,
    mean: Tensor,
    logvar: Tensor,
    labels: Tensor,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Bits per image (b,) and nats per token (b,) of Gaussian posteriors, mean and logvar (b, n, d).

    One sample per image estimates the bits without bias; that log q is of the same sample as log p makes its variance
    small where p follows the noise of q. The nats per token are -log p(z) / n, a density's: they can be negative, and
    change with the latents' scale, which the bits do not.
    """
    latents, log_q = sample_posterior(mean, logvar, generator)
    nats = probe.nll(latents, labels).double()
    return (log_q.double() + nats) / math.log(2), nats / probe.spec.tokens


def measure_rate(
    probe: AutoregressiveProbe, batches: Iterable[Mapping[str, Tensor]], generator: torch.Generator | None = None
) -> dict[str, float]:
    """``ar_loss`` (nats per token) and ``ar_bits_per_image``: means over the images of all batches, summed in float64.

    Batches are those of ``LatentSplit.batch``. No image at all raises ``DataError``, a rate that is not a finite
    number ``DivergedError``.
    """
    images, bits, nats = 0, 0.0, 0.0
    with measuring(probe):
        for batch in batches:
            batch = {name: tensor.to(probe.device) for name, tensor in batch.items()}
            if "indices" in batch:
                measured = code_rate(probe, batch["indices"], batch["labels"])
            else:
                measured = rate(probe, batch["mean"], batch["logvar"], batch["labels"], generator)
            images += len(batch["labels"])
            bits += measured[0].sum().item()
            nats += measured[1].sum().item()
    if images == 0:
        raise DataError("no latents to measure the rate on", allowed="at least one validation image")
    if not math.isfinite(bits):
        raise DivergedError("the probe's rate is not a finite number", given=bits / images)
    return {"ar_loss": nats / images, "ar_bits_per_image": bits / images}
