"""The ``latents`` stage: encode training and validation images once, so that probes never run the encoder."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from tokscale.data import Split
from tokscale.data.latents import LatentWriter, finish_latents
from tokscale.data.variants import Variants, open_variants
from tokscale.memory import images_at_once
from tokscale.models.tokenizer import Tokenizer
from tokscale.parsing import parse
from tokscale.probes.encoding import encode, spec_of
from tokscale.stages.configs import LatentsStage
from tokscale.stages.context import Context, Measures
from tokscale.stages.tokenizer import load_measured


def run(context: Context) -> Measures:
    """Write codes, or means and log-variances, of both splits, and what they are; of training images, all variants."""
    config = parse(LatentsStage, context.config)
    tokenizer = load_measured(context)
    spec = spec_of(tokenizer)
    folder = context.artifact("latents.json").parent
    skipped = 0
    splits: tuple[Split, ...] = ("train", "validation")
    for split in splits:
        images = open_variants(config.data, split, config.latents.augment)
        wanted = config.latents.images if split == "train" else images.size
        count = min(size for size in (wanted, images.size) if size is not None)
        with LatentWriter(folder, split, spec, count * images.count, config.latents.dtype) as writer:
            for batch in _encoded(tokenizer, images, count, context):
                writer.write(**batch)
        context.notes += [f"{item.path} was skipped: {item.reason}" for item in images.skipped]
        skipped += len(images.skipped)
    finish_latents(folder, spec, images.num_classes, config.latents.variants)
    return {"skipped_files": skipped}


@torch.inference_mode()
def _encoded(tokenizer: Tokenizer, images: Variants, count: int, context: Context) -> Iterable[dict[str, Tensor]]:
    size = context.pass_size(images_at_once(images.resolution, images.frames))
    passes = (
        part
        for batch, labels in images.batches(size, count)
        for part in zip(torch.split(batch, size), torch.split(labels, size), strict=True)
    )
    for batch, labels in passes:
        context.stop_if_asked()
        yield {**encode(tokenizer, batch.to(context.device)), "labels": labels}
