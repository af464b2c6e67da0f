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
from tokscale.data.latents import Batch, LatentSpec
from tokscale.models.tokenizer import Tokenizer
from tokscale.probes.autoregressive import AutoregressiveProbe, build_probe
from tokscale.probes.encoding import encode
from tokscale.probes.rate import draw_tokens, measure_rate

HELD_OUT = 4  # one image is held out for as many that the probe learns from
_BATCH, _LR = 64, 2e-3
_PIXELS_AT_ONCE = 1 << 22
_SMALLEST_SPREAD = 1e-6  # of a channel that is still constant


def intermediate_images(images: ImageSet, config: IntermediateProbe) -> tuple[Tensor, Tensor]:
    """The first training images (m, 3, h, w) uint8 and their labels (m,): those to learn from, then those held out."""
    wanted = config.images + config.images // HELD_OUT
    return images.images(range(wanted if images.size is None else min(wanted, images.size)))


@torch.no_grad()
def encoded(tokenizer: Tokenizer, images: Tensor, labels: Tensor) -> Batch:
    """Tokens of uint8 images (m, 3, h, w) with their labels (m,), in float32, on the tokenizer's device.

    The tokenizer is left as it was: its parts are in the modes that they had, of which some may be frozen.
    """
    device = next(tokenizer.parameters()).device
    at_once = max(1, _PIXELS_AT_ONCE // images[0, 0].numel())
    with _in_evaluation(tokenizer), torch.autocast(device.type, enabled=False):
        parts = [encode(tokenizer, part.to(device)) for part in torch.split(images, at_once)]
    return {"labels": labels.to(device), **{name: torch.cat([part[name] for part in parts]) for name in parts[0]}}


def probe_tokens(
    tokens: Batch, spec: LatentSpec, config: IntermediateProbe, seed: int, check: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """``probe_loss`` (nats per token) and ``probe_bits`` (bits per image) of the last fifth of the images.

    torch's global random numbers are left as they were. ``check`` is asked between steps; what it raises ends the
    measurement. Raises ``DivergedError`` when there is no finite loss.
    """
    labels = tokens["labels"]
    held_out = max(1, len(labels) // (HELD_OUT + 1))
    learned = {name: tensor[:-held_out] for name, tensor in tokens.items()}
    rest = {name: tensor[-held_out:] for name, tensor in tokens.items()}
    with (
        torch.random.fork_rng([labels.device] if labels.device.type == "cuda" else []),
        torch.autocast(labels.device.type, enabled=False),
        torch.enable_grad(),
    ):
        torch.manual_seed(seed)
        probe = _fresh(spec, config, int(labels.max()) + 1, learned).to(labels.device)
        _train(probe, learned, config, check)
        generator = torch.Generator(labels.device).manual_seed(seed)
        found = measure_rate(probe, [rest], generator, at_once=_BATCH)
    return {"probe_loss": found["ar_loss"], "probe_bits": found["ar_bits_per_image"]}


def _fresh(spec: LatentSpec, config: IntermediateProbe, classes: int, tokens: Batch) -> AutoregressiveProbe:
    """A probe without dropout, normalised by the tokens' moments where they are continuous."""
    probe = build_probe(ProbeConfig(size=config.size, dropout=0, class_dropout=0), spec, classes)
    if "mean" in tokens:
        mean = tokens["mean"].mean((0, 1))
        variance = (tokens["mean"] - mean).square().mean((0, 1)) + tokens["logvar"].exp().mean((0, 1))
        probe.set_normalisation(mean.cpu(), variance.sqrt().clamp_min(_SMALLEST_SPREAD).cpu())
    return probe


def _train(probe: AutoregressiveProbe, tokens: Batch, config: IntermediateProbe, check: Callable[[], None]) -> None:
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


@contextmanager
def _in_evaluation(module: nn.Module) -> Iterator[None]:
    """In evaluation mode; then each part is in the mode that it had."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, was_training in modes.items():
            part.training = was_training
