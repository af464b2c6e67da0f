"""A cheap look at how hard a tokenizer's tokens are to model, while it is still being trained.

A small autoregressive probe is trained from scratch on the tokens of a few fixed images, and its loss is taken on
others. Seed, images and order are the same every time, so that losses along a training differ by the tokenizer alone.
They are those of a small probe that has seen little: for telling runs apart early, not for the results table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tokscale.config import AutoregressiveProbe as ProbeConfig
from tokscale.config import IntermediateProbe
from tokscale.data.images import ImageSet
from tokscale.data.latents import Batch
from tokscale.models.tokenizer import Tokenizer
from tokscale.probes.autoregressive import AutoregressiveProbe, build_probe
from tokscale.probes.encoding import encode, spec_of
from tokscale.probes.rate import draw_tokens, measure_rate

HELD_OUT = 4  # one image is held out for as many that the probe learns from
_BATCH, _LR = 64, 2e-3
_PIXELS_AT_ONCE = 1 << 22
_SMALLEST_SPREAD = 1e-6  # of a channel that is still constant


def intermediate_images(images: ImageSet, config: IntermediateProbe) -> tuple[Tensor, Tensor]:
    """The first training images (m, 3, h, w) uint8 and their labels (m,): those to learn from, then those held out."""
    wanted = config.images + config.images // HELD_OUT
    return images.images(range(wanted if images.size is None else min(wanted, images.size)))


def probe_tokenizer(
    tokenizer: Tokenizer, images: Tensor, labels: Tensor, config: IntermediateProbe, seed: int,
    check: Callable[[], None] = lambda: None,
) -> dict[str, float]:  # fmt: skip
    """``probe_loss`` (nats per token) and ``probe_bits`` (bits per image) of the held-out images.

    Leaves no trace: parameters, buffers, gradients, modes and torch's global random numbers are as they were. ``check``
    is asked between steps; what it raises ends the measurement, and leaves as little.
    """
    device = next(tokenizer.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.autocast(device.type, enabled=False), torch.enable_grad():
        torch.manual_seed(seed)
        tokens = _tokens(tokenizer, images, device) | {"labels": labels.to(device)}
        held_out = max(1, len(images) // (HELD_OUT + 1))
        learned = {name: tensor[:-held_out] for name, tensor in tokens.items()}
        rest = {name: tensor[-held_out:] for name, tensor in tokens.items()}
        probe = _trained(_fresh(tokenizer, config, int(labels.max()) + 1, learned).to(device), learned, config, check)
        found = measure_rate(probe, [rest], torch.Generator(device).manual_seed(seed), at_once=_BATCH)
    return {"probe_loss": found["ar_loss"], "probe_bits": found["ar_bits_per_image"]}


def _fresh(tokenizer: Tokenizer, config: IntermediateProbe, classes: int, tokens: Batch) -> AutoregressiveProbe:
    """A fresh probe without dropout for these tokens, normalised by their moments where they are continuous."""
    probe = build_probe(ProbeConfig(size=config.size, dropout=0, class_dropout=0), spec_of(tokenizer), classes)
    if "mean" in tokens:
        mean = tokens["mean"].mean((0, 1))
        variance = (tokens["mean"] - mean).square().mean((0, 1)) + tokens["logvar"].exp().mean((0, 1))
        probe.set_normalisation(mean.cpu(), variance.sqrt().clamp_min(_SMALLEST_SPREAD).cpu())
    return probe


def _trained(
    probe: AutoregressiveProbe, tokens: Batch, config: IntermediateProbe, check: Callable[[], None]
) -> AutoregressiveProbe:
    """AdamW over the epochs that were asked for, its rate going down to nothing in a straight line."""
    count = len(tokens["labels"])
    steps = config.epochs * -(-count // _BATCH)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=_LR, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(config.epochs):
        for rows in torch.split(torch.randperm(count), _BATCH):
            check()
            batch = {name: tensor[rows.to(tensor.device)] for name, tensor in tokens.items()}
            optimizer.zero_grad()
            probe.loss(draw_tokens(batch), batch["labels"]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return probe.eval()


@torch.no_grad()
def _tokens(tokenizer: Tokenizer, images: Tensor, device: torch.device) -> Batch:
    at_once = max(1, _PIXELS_AT_ONCE // images.shape[-1] ** 2)
    with _as_it_is(tokenizer):
        parts = [encode(tokenizer, part.to(device)) for part in torch.split(images, at_once)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@contextmanager
def _as_it_is(module: nn.Module) -> Iterator[None]:
    """In evaluation mode; each part is then in the mode that it had, of which some may be frozen in evaluation."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, was_training in modes.items():
            part.training = was_training
