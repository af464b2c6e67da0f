"""The ``linear_probe`` stage: how well linear classifiers do on the probe's features, and on the tokenizer's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from tokscale.bottlenecks.draws import seed_for
from tokscale.config import LinearProbeConfig, OptimizationConfig
from tokscale.data import ImageSet, evaluation_batches, open_images, to_model_range
from tokscale.data.features import LABELS, Rows, read_features, write_features
from tokscale.memory import images_at_once
from tokscale.models.tokenizer import Tokenizer
from tokscale.parsing import parse
from tokscale.probes import DiffusionProbe, Probe
from tokscale.probes.encoding import spec_of
from tokscale.probes.linear import top_1_accuracy, train_linear_probe
from tokscale.stages.configs import LinearProbeStage
from tokscale.stages.context import Context, Measures
from tokscale.stages.probe import check_same_tokens, load_probe
from tokscale.stages.tokenizer import load_measured
from tokscale.training.optimization import learning_rate


def kinds(probe: Probe) -> tuple[str, str]:
    """Features: of the probe's middle block, by its kind, and of the latents before quantisation."""
    return ("diffusion" if isinstance(probe, DiffusionProbe) else "ar"), "tokenizer"


def run(context: Context) -> Measures:
    """Take the features of both splits once, train a classifier on each kind, and count what it gets right.

    Features are kept with the checkpoints: an attempt after one that was cut short does not take them again.
    """
    config = parse(LinearProbeStage, context.config)
    tokenizer = load_measured(context)
    probe = load_probe(context.parents["probe"], context.parent_folder("probe"), context.device)
    check_same_tokens(probe.spec, spec_of(tokenizer), str(context.folder.path))
    training, validation = open_images(config.data, "train"), open_images(config.data, "validation")
    limit = config.linear_probe.images if training.size is None else min(config.linear_probe.images, training.size)
    networks = tokenizer, probe
    train = _features(context, *networks, "train", training, limit)
    held_out = _features(context, *networks, "validation", validation, validation.size)
    measures: Measures = {"classes": training.num_classes}
    for number, name in enumerate(kinds(probe)):
        optimization = _optimization(config.linear_probe, len(train[name]))
        classifier = train_linear_probe(
            train[name], train[LABELS], training.num_classes, config.linear_probe,
            partial(learning_rate, config=optimization), optimization.steps,
            seed=seed_for("linear probe", config.seed, number), device=context.device, check=context.stop_if_asked,
        )  # fmt: skip
        accuracy = top_1_accuracy(classifier, held_out[name], held_out[LABELS], context.device)
        measures[f"{name}_linear_accuracy"] = accuracy
    skipped = [*training.skipped, *validation.skipped]
    context.notes += [f"{item.path} was skipped: {item.reason}" for item in skipped]
    return measures


def _optimization(config: LinearProbeConfig, images: int) -> OptimizationConfig:
    """The schedule: a rate in proportion to the batch (Goyal et al. 2017), a warm-up, then a half cosine to nothing."""
    batch = min(config.batch_size, images)
    return OptimizationConfig(images=config.epochs * images, batch_size=batch, lr=config.lr * batch / 256,
                              warmup=config.warmup_epochs / config.epochs)  # fmt: skip


def _features(
    context: Context, tokenizer: Tokenizer, probe: Probe, split: str, images: ImageSet, limit: int | None,
) -> dict[str, Rows]:  # fmt: skip
    """Features and labels of a split, from an earlier attempt or taken now."""
    folder = context.folder.checkpoints / "features"
    bottleneck = tokenizer.bottleneck
    channels = bottleneck.latent_dim if bottleneck.codebook_size is None else bottleneck.encoder_channels
    widths = dict(zip(kinds(probe), (probe.width, channels), strict=True))
    known = read_features(folder, split, widths)
    if known is None:
        write_features(folder, split, widths, _taken(context, tokenizer, probe, images, limit))
        known = read_features(folder, split, widths)
    assert known is not None
    return known


@torch.inference_mode()
def _taken(
    context: Context, tokenizer: Tokenizer, probe: Probe, images: ImageSet, limit: int | None
) -> Iterator[dict[str, Tensor]]:
    """Both kinds of features of each image, from one pass through the encoder."""
    size = context.pass_size(images_at_once(images.resolution, images.frames))
    for batch, labels in evaluation_batches(images, batch_size=size, limit=limit):
        context.stop_if_asked()
        before = tokenizer.encoder(to_model_range(batch.to(context.device)))
        result = tokenizer.kept(tokenizer.bottleneck(before))
        before = before[:, : result.latents.shape[1]]
        tokens = result.mean if result.indices is None else result.indices
        assert tokens is not None, "a bottleneck has codes or a posterior"
        latents = before if result.mean is None else result.mean
        found = probe.middle_features(tokens), latents.float().mean(1)
        yield {**dict(zip(kinds(probe), found, strict=True)), LABELS: labels}
