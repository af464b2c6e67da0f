"""The ``tokenizer`` stage: train one tokenizer on its budget of images."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save

from tokscale import cost
from tokscale.bottlenecks.draws import seed_for
from tokscale.config import MIN_MEASURED, refuse_missing_parts
from tokscale.data import ImageSet, open_images, train_batches
from tokscale.errors import DataError
from tokscale.losses.reconstruction import reconstruction_loss
from tokscale.models.tokenizer import Tokenizer, build_tokenizer
from tokscale.parsing import parse
from tokscale.record import Record, write_atomically
from tokscale.stage import StageFolder
from tokscale.stages.configs import TokenizerStage, Watching
from tokscale.stages.context import Context, Measures
from tokscale.training.loop import train
from tokscale.training.tasks import TokenizerTask
from tokscale.training.watching import WatchingProbe

WEIGHTS = "tokenizer.safetensors"


def run(context: Context) -> Measures:
    """Train, keep the weights as safetensors, and report sizes and budget spent."""
    config = parse(TokenizerStage, context.config)
    refuse_missing_parts(config)
    images = open_images(config.data, "train")
    _check_validation(open_images(config.data, "validation"))
    torch.manual_seed(seed_for("initialisation", config.seed))
    tokenizer = build_tokenizer(config.tokenizer, config.data.resolution)
    counted = cost.tokenizer_params(config.tokenizer)
    assert tokenizer.sizes == counted, f"planned sizes {counted} are not the built ones {tokenizer.sizes}"
    task = TokenizerTask(tokenizer, reconstruction_loss(config.losses), config.training, config.seed)
    batch_size, ranks = config.training.batch_size, context.team.ranks
    trained = train(
        task,
        lambda step: train_batches(
            images, batch_size=batch_size, seed=config.seed, start_batch=step, rank=ranks.rank, world_size=ranks.world
        ),
        context,
        _watchers(context, images),
    )  # fmt: skip
    if not context.first:
        return {}
    write_atomically(context.artifact(WEIGHTS), save(trained["tokenizer"]))
    context.notes += [f"{skipped.path} was skipped: {skipped.reason}" for skipped in images.skipped]
    spent = cost.training_flops(config.tokenizer, config.data.resolution) * task.images_seen
    return {**counted, "train_images": task.images_seen, "train_flops": spent, "skipped_files": len(images.skipped)}


def _watchers(context: Context, images: ImageSet) -> list[WatchingProbe]:
    """Who looks at the training: an intermediate probe, where one is asked for."""
    config = parse(Watching, context.watch.get("training", {}))
    if not config.probe_every:
        return []
    context.notes.append(f"time and memory are with intermediate probes, every {config.probe_every:,} images")
    return [WatchingProbe(config.probe, config.probe_every, images, context.flag)]


def _check_validation(images: ImageSet) -> None:
    """Refuse now what could not be measured after days of training."""
    if images.size is not None and images.size < MIN_MEASURED:
        raise DataError("too few validation images to measure on", where=images.reference, given=str(images.size),
                        allowed=f"{MIN_MEASURED} or more")  # fmt: skip


def load_tokenizer(record: Record, folder: StageFolder, device: torch.device) -> tuple[Tokenizer, TokenizerStage]:
    """A trained tokenizer in evaluation mode, and the config of its stage."""
    config = parse(TokenizerStage, record.config)
    tokenizer = build_tokenizer(config.tokenizer, config.data.resolution)
    tokenizer.load_state_dict(load_file(folder.artifacts / WEIGHTS))
    return tokenizer.to(device).eval(), config
