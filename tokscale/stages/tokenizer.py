"""The ``tokenizer`` stage: train one tokenizer on its budget of images."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save

from tokscale import cost
from tokscale.bottlenecks.draws import seed_for
from tokscale.config import MIN_MEASURED, ClassifierTeacher, HubTeacher, used
from tokscale.data import ImageSet, open_images, train_batches
from tokscale.errors import DataError
from tokscale.models.tokenizer import Tokenizer, build_tokenizer
from tokscale.parsing import parse
from tokscale.record import Record, write_atomically
from tokscale.stability import read_points
from tokscale.stage import StageFolder
from tokscale.stages.configs import TokenizerStage, Watching
from tokscale.stages.context import Context, Measures
from tokscale.stages.teacher import load_teacher
from tokscale.tail_config import TailMasking
from tokscale.teachers.base import VisionTeacher
from tokscale.teachers.dinov2 import open_dinov2
from tokscale.teachers.hub import open_hub
from tokscale.training.loop import train
from tokscale.training.tokenizer_task import TokenizerTask
from tokscale.training.watching import WatchingProbe

WEIGHTS = "tokenizer.safetensors"


def run(context: Context) -> Measures:
    """Train, keep the weights as safetensors, and report sizes and budget spent."""
    config = parse(TokenizerStage, context.config)
    images = open_images(config.data, "train")
    _check_validation(open_images(config.data, "validation"))
    _check_codes(config, images)
    torch.manual_seed(seed_for("initialisation", config.seed))
    tokenizer = build_tokenizer(config.tokenizer, *config.data.extent)
    tokenizer.checkpoint_blocks(context.runtime.recompute)
    task = TokenizerTask(tokenizer, config, config.seed, _teacher(config, context))
    sizes = {**tokenizer.sizes, "training_only_params": task.training_only_params}
    planned = cost.tokenizer_params(config.tokenizer, *config.data.extent)
    planned["training_only_params"] = cost.loss_sizes(config).trained_params
    assert sizes == planned, f"planned sizes {planned} are not the built ones {sizes}"
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
    # what was averaged is what is used
    write_atomically(context.artifact(WEIGHTS), save(trained.get("average") or trained["tokenizer"]))
    context.notes += [f"{skipped.path} was skipped: {skipped.reason}" for skipped in images.skipped]
    context.notes += _notes(config, task, context)
    spent = cost.tokenizer_training_flops(config)
    return {**sizes, "train_images": task.images_seen, "train_flops": spent, "skipped_files": len(images.skipped)}


def _teacher(config: TokenizerStage, context: Context) -> VisionTeacher | None:
    """The frozen network of the semantic loss; raises ``WeightsError`` where it is not here."""
    semantic = used(config.losses.semantic)
    if semantic is None:
        return None
    if isinstance(semantic.features, ClassifierTeacher):
        return load_teacher(context.parents["teacher"], context.parent_folder("teacher"))
    return open_hub(semantic.features) if isinstance(semantic.features, HubTeacher) else open_dinov2(semantic.features)


def _notes(config: TokenizerStage, task: TokenizerTask, context: Context) -> list[str]:
    """What the record has to say of how this was trained: stand-ins, layouts that matter, and signs of a collapse."""
    notes = task.notes(config.training.batch_size // context.team.ranks.world)
    notes += task.warnings(read_points(context.folder.progress))
    if "teacher" in context.parents:
        accuracy = float(context.parents["teacher"].measures["teacher_accuracy"])
        notes.append(
            f"the decoder was aligned with a classifier of these very classes (accuracy {accuracy:.3f}), a stand-in "
            "for DINOv2"
        )
    return notes


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


def _check_codes(config: TokenizerStage, images: ImageSet) -> None:
    """Refuse a codebook that these images cannot fill, however often they are seen."""
    codes, tokens = config.tokenizer.bottleneck.codes, config.tokenizer.encoded_tokens(*config.data.extent)
    if codes is not None and images.size is not None and codes > images.size * tokens:
        raise DataError("the codebook is larger than the data can fill", where=images.reference,
                        given=f"{codes:,} codes, {images.size:,} images of {tokens} tokens",
                        allowed=f"at most {images.size * tokens:,} codes")  # fmt: skip


def load_tokenizer(record: Record, folder: StageFolder, device: torch.device) -> tuple[Tokenizer, TokenizerStage]:
    """A trained tokenizer in evaluation mode, and the config of its stage."""
    config = parse(TokenizerStage, record.config)
    tokenizer = build_tokenizer(config.tokenizer, *config.data.extent)
    tokenizer.load_state_dict(load_file(folder.artifacts / WEIGHTS))
    return tokenizer.to(device).eval(), config


def load_measured(context: Context) -> Tokenizer:
    """The trained tokenizer below a stage that looks at its latents, at the length that the stage asks for."""
    tokenizer, _ = load_tokenizer(context.parents["tokenizer"], context.parent_folder("tokenizer"), context.device)
    if tokenizer.tail is not None:
        tokenizer.tail.kept = parse(TailMasking, context.config["tail_masking"]).evaluation_length
    return tokenizer
