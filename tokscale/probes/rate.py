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

from tokscale.bottlenecks.draws import Draws
from tokscale.errors import DataError, DivergedError
from tokscale.probes.autoregressive import AutoregressiveProbe, measuring

Source = torch.Generator | Draws | None
"""where a sample comes from: a generator, the draws of a training step, or torch's global generator"""


def sample_posterior(mean: Tensor, logvar: Tensor, source: Source = None) -> tuple[Tensor, Tensor]:
    """z (b, n, d) from N(mean, exp(logvar)) and the log-density (b,) of that very z in nats, summed over n and d."""
    if isinstance(source, Draws):
        noise = source.normal("latents", mean.shape, mean.device)
    else:
        noise = torch.randn(mean.shape, generator=source, device=mean.device, dtype=torch.float32)
    log_q = -0.5 * (noise.square() + logvar + math.log(2 * math.pi)).flatten(1).sum(1)
    return mean + torch.exp(0.5 * logvar) * noise, log_q


def draw_tokens(batch: Mapping[str, Tensor], source: Source = None) -> Tensor:
    """The tokens of a batch of cached latents: its codes, or a fresh sample of its posteriors."""
    if "indices" in batch:
        return batch["indices"]
    return sample_posterior(batch["mean"], batch["logvar"], source)[0]


def code_rate(
    probe: AutoregressiveProbe, indices: Tensor, labels: Tensor, at_once: int | None = None
) -> tuple[Tensor, Tensor]:
    """Bits per image (b,) and nats per token (b,) of codes (b, n); the probe takes ``at_once`` images, or all."""
    nats = _nll(probe, indices, labels, at_once)
    return nats / math.log(2), nats / probe.spec.tokens


def rate(
    probe: AutoregressiveProbe,
    mean: Tensor,
    logvar: Tensor,
    labels: Tensor,
    generator: torch.Generator | None = None,
    at_once: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Bits per image (b,) and nats per token (b,) of Gaussian posteriors, mean and logvar (b, n, d).

    One sample per image estimates the bits without bias; that log q is of the same sample as log p makes its variance
    small where p follows the noise of q. The nats per token are -log p(z) / n, a density's: they can be negative, and
    change with the latents' scale, which the bits do not. The probe takes ``at_once`` images, or all; the sample is the
    same.
    """
    latents, log_q = sample_posterior(mean, logvar, generator)
    nats = _nll(probe, latents, labels, at_once)
    return (log_q.double() + nats) / math.log(2), nats / probe.spec.tokens


def _nll(probe: AutoregressiveProbe, tokens: Tensor, labels: Tensor, at_once: int | None) -> Tensor:
    """Nats per image (b,), float64."""
    parts = zip(*(torch.split(whole, at_once or len(whole)) for whole in (tokens, labels)), strict=True)
    return torch.cat([probe.nll(*part) for part in parts]).double()


def measure_rate(
    probe: AutoregressiveProbe,
    batches: Iterable[Mapping[str, Tensor]],
    generator: torch.Generator | None = None,
    at_once: int | None = None,
) -> dict[str, float]:
    """``ar_loss`` (nats per token) and ``ar_bits_per_image``: means over the images of all batches, summed in float64.

    Batches are those of ``LatentSplit.batch``; the probe takes ``at_once`` images, or a whole batch. No image at all
    raises ``DataError``, a rate that is not a finite number ``DivergedError``.
    """
    images, bits, nats = 0, 0.0, 0.0
    with measuring(probe):
        for batch in batches:
            batch = {name: tensor.to(probe.device) for name, tensor in batch.items()}
            if "indices" in batch:
                measured = code_rate(probe, batch["indices"], batch["labels"], at_once)
            else:
                measured = rate(probe, batch["mean"], batch["logvar"], batch["labels"], generator, at_once)
            images += len(batch["labels"])
            bits += measured[0].sum().item()
            nats += measured[1].sum().item()
    if images == 0:
        raise DataError("no latents to measure the rate on", allowed="at least one validation image")
    if not math.isfinite(bits):
        raise DivergedError("the probe's rate is not a finite number", given=bits / images)
    return {"ar_loss": nats / images, "ar_bits_per_image": bits / images}
