"""The ``latents`` stage: encode training and validation images once, so that probes never run the encoder."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from tokscale.data import Skipped, Split
from tokscale.data.latent_writer import LatentWriter
from tokscale.data.latents import finish_latents, open_latents
from tokscale.data.variants import EncodedBatches, Variants, open_variants
from tokscale.memory import images_at_once
from tokscale.models.tokenizer import Tokenizer
from tokscale.parsing import parse
from tokscale.probes.encoding import encode, spec_of
from tokscale.stages.attempts import ENCODED
from tokscale.stages.configs import LatentsStage
from tokscale.stages.context import Context, Measures
from tokscale.stages.tokenizer import load_measured
from tokscale.training.compiling import compile_blocks
from tokscale.training.loop import loader_of

_SPLITS: tuple[Split, ...] = ("train", "validation")


def run(context: Context) -> Measures:
    """Write codes, or means and log-variances, of both splits, and what they are; of training images, all variants.

    What an earlier attempt has encoded is kept with the checkpoints, and this one goes on after it.
    """
    config = parse(LatentsStage, context.config)
    tokenizer = load_measured(context)
    spec = spec_of(tokenizer)
    if context.runtime.compile:
        compile_blocks(tokenizer, context.device)
        context.notes.append("transformer blocks were compiled: latents equal those of plain ones up to rounding")
    folder = context.artifact("latents.json").parent
    size = context.pass_size(images_at_once(*config.data.extent))
    skipped = 0
    for split in _SPLITS:
        images = open_variants(config.data, split, config.latents.augment)
        wanted = config.latents.images if split == "train" else images.size
        count = min(most for most in (wanted, images.size) if most is not None)
        with LatentWriter(folder, split, spec, count * images.count, config.latents.dtype,
                          keep=context.folder.checkpoints / ENCODED) as writer:  # fmt: skip
            if not writer.done:
                _encode(tokenizer, images, images.batches(size, count, writer.noted.get("images", 0)), writer, context)
        missing = writer.noted["skipped"]
        context.notes += [f"{path} was skipped: {reason}" for path, reason in missing]
        skipped += len(missing)
    finish_latents(folder, spec, images.num_classes, config.latents.variants)
    context.digests |= open_latents(folder).digests
    return {"skipped_files": skipped}


@torch.inference_mode()
def _encode(
    tokenizer: Tokenizer, images: Variants, batches: EncodedBatches, writer: LatentWriter, context: Context
) -> None:
    """Write what the writer does not have yet; it is noted now and then, and when a signal asks to stop."""
    earlier = [Skipped(*item) for item in writer.noted.get("skipped", ())]
    noted_at, end = time.monotonic(), batches.start
    for pictures, labels, following in loader_of(batches, context.runtime):
        if context.flag or time.monotonic() - noted_at >= context.runtime.checkpoint_seconds:
            context.check()
            writer.note(images=end, skipped=_told(earlier, images))
            noted_at = time.monotonic()
        context.stop_if_asked()
        # An image with many variants may be more than passes at once.
        for part, named in zip(
            torch.split(pictures, batches.at_once), torch.split(labels, batches.at_once), strict=True
        ):
            if len(part):
                # Compiled code is of one size: a smaller pass would have it made anew.
                whole = _filled(part, batches.at_once) if context.runtime.compile else part
                found = encode(tokenizer, whole.to(context.device, non_blocking=True))
                writer.write(**{name: tensor[: len(part)] for name, tensor in found.items()}, labels=named)
        end = following
    writer.noted = {"images": end, "skipped": _told(earlier, images)}


def _filled(images: Tensor, size: int) -> Tensor:
    """Images (b, ...), the first one repeated until there are ``size``."""
    return torch.cat([images, images[:1].expand(size - len(images), *images.shape[1:])])


def _told(earlier: list[Skipped], images: Variants) -> list[tuple[str, str]]:
    """Path and reason of what could not be read, in earlier attempts or in this one, each once."""
    return [(item.path, item.reason) for item in dict.fromkeys([*earlier, *images.skipped])]
