"""The ``reconstruction`` stage: reconstruct the validation set and measure it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tokscale.data import ImageSet, evaluation_batches, frames_of, open_images, to_model_range, to_uint8
from tokscale.errors import WeightsError
from tokscale.losses.perceptual import PerceptualDistance, lpips
from tokscale.memory import images_at_once
from tokscale.metrics.codes import CodeHistogram
from tokscale.metrics.images import ReconstructionMetrics
from tokscale.metrics.panel import SeenByAll, distances_of_all
from tokscale.models.tokenizer import Tokenizer
from tokscale.parsing import parse
from tokscale.pictures import save_pictures
from tokscale.stages.clips import ClipDistance
from tokscale.stages.configs import ReconstructionStage
from tokscale.stages.context import Context, Measures
from tokscale.stages.decoder_finetune import load_judged
from tokscale.stages.features import open_panel
from tokscale.stages.references import Against
from tokscale.weights import present


def run(context: Context) -> Measures:
    """Reconstruct every validation image once, with the posterior's mode; keep pictures of the first few.

    What is measured of images is measured of each frame of clips, as ViTok's frame-wise FID.
    """
    config = parse(ReconstructionStage, context.config)
    tokenizer = load_judged(context)
    images = open_images(config.data, "validation")
    quality = ReconstructionMetrics(context.device)
    panel = open_panel(config.evaluation.features, context.device)
    size = context.pass_size(images_at_once(images.resolution, images.frames))
    against = Against(config.evaluation.reference, panel, images, config.data, context, size, rows=False)
    seen = SeenByAll(panel, keep=0, scored=True)
    clips = ClipDistance("r", config.data, config.evaluation, context.device)
    codes = CodeHistogram(tokenizer.bottleneck.codebook_size) if tokenizer.bottleneck.codebook_size else None
    distance = _lpips(context)
    kl_nats, apart, count = 0.0, 0.0, 0
    with torch.inference_mode():
        for number, (originals, reconstructions, nats, indices) in enumerate(_passes(tokenizer, images, context)):
            clips.compare(originals, reconstructions)
            against.see(originals)
            count += len(originals)
            if number == 0:
                save_pictures(originals[: config.evaluation.pictures], context.artifact("originals.png"))
                save_pictures(reconstructions[: config.evaluation.pictures], context.artifact("reconstructions.png"))
            originals, reconstructions = frames_of(originals), frames_of(reconstructions)
            quality.update(originals, reconstructions)
            if distance is not None:
                apart += float(distance(to_model_range(reconstructions), to_model_range(originals)).double().sum())
            seen.update(reconstructions)
            if codes is not None and indices is not None:
                codes.update(indices)
            kl_nats += nats
    references = against.references()
    measured, notes = distances_of_all("r", references, seen)
    skipped = [f"{skipped.path} was skipped: {skipped.reason}" for skipped in images.skipped]
    context.notes += [*panel.notes, *notes, *clips.notes, *skipped]
    measures: Measures = {
        **quality.compute(), **measured, **clips.measures(), "features": panel.name, "reference": references[0].name,
        "dataset": config.data.kind, "skipped_files": len(skipped),
    }  # fmt: skip
    if distance is not None:
        measures["lpips"] = apart / seen.count
    return measures | (codes.compute() if codes else {"kl_bits_per_image": kl_nats / count / math.log(2)})


def _lpips(context: Context) -> PerceptualDistance | None:
    """LPIPS where the weights are; a damaged file is no reason to go without all other measures."""
    if present("vgg16") is None:
        return None
    try:
        return lpips("the measure lpips").to(context.device)
    except WeightsError as error:
        context.notes.append(f"lpips was not measured: {error.what} ({error.where}: {error.given})")
        return None


def _passes(
    tokenizer: Tokenizer, images: ImageSet, context: Context
) -> Iterator[tuple[Tensor, Tensor, float, Tensor | None]]:
    """Originals and reconstructions as uint8, images or clips, the batch's KL to the prior in nats, and its codes."""
    size = context.pass_size(images_at_once(images.resolution, images.frames))
    for originals, _ in evaluation_batches(images, batch_size=size):
        context.stop_if_asked()
        originals = originals.to(context.device)
        output, bottleneck, _ = tokenizer(to_model_range(originals))
        nats = 0.0
        if bottleneck.mean is not None:
            assert bottleneck.logvar is not None
            mean, logvar = bottleneck.mean.double(), bottleneck.logvar.double()
            nats = float(0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum())
        yield originals, to_uint8(output.float()), nats, bottleneck.indices
